//! The component that notices when the state directory is removed or replaced under the daemon, and makes it again.
//!
//! A second daemon could lock a new directory of the same path, and would take this one's servers for left behind. So the directory is
//! locked again at once; where another daemon was faster, this one stops. The kernel tells of most changes; the rest is found by a
//! slow look. See `docs/decisions/0023-a-lost-state-directory.md`.

use std::io;
use std::time::Duration;

use llama_warden_api::ControlRebinder;
use llama_warden_bus::{Accepted, BusClosed, CommandSender, CommandSetId, Delivery};
use llama_warden_component::{Component, Context, Ports, Worker, next_task};
use llama_warden_events::{BootId, NoCommand, Refused, SuperviseCommand, Uptime};
use llama_warden_exit::{CommandFailure, Exit, FailureMessage};
use llama_warden_processes::leftovers::write_down;
use llama_warden_state::Snapshot;
use llama_warden_support::{BlockingError, KernelNotices, blocking, next_notice};
use tokio::task::{JoinError, JoinSet};

use crate::state_dir::{StateDir, StateLook};
use crate::state_notices::state_notices;

/// Time from a notice to the look: who removes a directory removes the lock before the rest.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Time from a look to the next one without a notice. There is none where something is mounted over the directory, and on a network
/// file system where another machine changes it.
const SLOW_LOOK: Duration = Duration::from_secs(60);

/// Watches the state directory.
#[derive(Debug)]
pub struct StateWatch {
    state: StateDir,
    boot: BootId,
    control: ControlRebinder,
}

impl StateWatch {
    /// Watches the directory that `state` holds, in which this run is written down and `control` binds its socket.
    pub fn build(context: &Context, state: StateDir, control: ControlRebinder) -> Self {
        Self { state, boot: context.boot(), control }
    }
}

impl Component for StateWatch {
    const NAME: &'static str = "state-watch";
    const SENDS: &'static [CommandSetId] = &[CommandSetId::of::<SuperviseCommand>()];

    type Command = NoCommand;
    type Error = BusClosed;

    async fn run(self, ports: Ports<NoCommand>) -> Result<(), BusClosed> {
        let worker = StateWorker {
            notices: None,
            commands: ports.commands.clone(),
            watch: self,
            look_at: None,
            warned: None,
            looks: JoinSet::new(),
            replies: JoinSet::new(),
        };
        ports.drive(worker).await
    }
}

struct StateWorker {
    watch: StateWatch,
    /// `None` if the kernel refuses; the slow look remains.
    notices: Option<KernelNotices>,
    commands: CommandSender,
    /// When the next look is due.
    look_at: Option<Uptime>,
    /// The latest warning, which is not repeated.
    warned: Option<String>,
    /// The look under way, off the loop: a disk may never answer.
    looks: JoinSet<Result<Result<StateLook, CommandFailure>, BlockingError>>,
    /// The answer to the request to shut down.
    replies: JoinSet<Result<Accepted, Refused>>,
}

/// Wakes the watch.
enum StateInput {
    /// Something happened to the lock, or to a directory above it.
    Noticed,
    /// A look ended.
    Looked(Result<Result<Result<StateLook, CommandFailure>, BlockingError>, JoinError>),
    /// The supervisor answered.
    Answered(Result<Result<Accepted, Refused>, JoinError>),
}

impl Worker for StateWorker {
    type Command = NoCommand;
    type Error = BusClosed;
    type Input = StateInput;

    async fn on_start(&mut self, _: &Snapshot, now: Uptime) -> Result<(), BusClosed> {
        self.arm();
        self.look_at = Some(now + DEBOUNCE);
        Ok(())
    }

    async fn on_event(&mut self, _: Delivery, _: Uptime) -> Result<(), BusClosed> {
        Ok(())
    }

    async fn next_input(&mut self) -> StateInput {
        tokio::select! {
            () = next_notice(self.notices.as_ref()) => StateInput::Noticed,
            look = next_task(&mut self.looks) => StateInput::Looked(look),
            answer = next_task(&mut self.replies) => StateInput::Answered(answer),
        }
    }

    async fn on_input(&mut self, input: StateInput, now: Uptime) -> Result<(), BusClosed> {
        match input {
            StateInput::Noticed => self.look_at = Some(now + DEBOUNCE),
            StateInput::Looked(Ok(Ok(look))) => {
                self.look_at = self.look_at.or(Some(now + SLOW_LOOK));
                self.on_look(look).await;
            }
            StateInput::Looked(_) => tracing::warn!("the state directory is watched no longer"),
            StateInput::Answered(Ok(Err(refused))) => tracing::warn!(%refused, "the daemon does not stop"),
            StateInput::Answered(_) => {}
        }
        Ok(())
    }

    fn next_deadline(&self) -> Option<Uptime> {
        self.look_at.filter(|_| self.looks.is_empty())
    }

    async fn on_deadline(&mut self, _: Uptime) -> Result<(), BusClosed> {
        self.look_at = None;
        let state = self.watch.state.clone();
        self.looks.spawn(blocking(move || state.look()));
        Ok(())
    }
}

impl StateWorker {
    /// Watches the lock that is held now.
    fn arm(&mut self) {
        let notices = state_notices(&self.watch.state.lock_path());
        let late = |error: &io::Error| tracing::debug!(%error, "a loss of the state directory is noticed late");
        self.notices = notices.inspect_err(late).ok();
    }

    async fn on_look(&mut self, look: Result<StateLook, CommandFailure>) {
        let path = self.watch.state.path().display();
        let failure = match look {
            Ok(StateLook::Held) => {
                self.warned = None;
                return;
            }
            Ok(StateLook::Regained) => {
                tracing::warn!(%path, "the state directory was removed or replaced under the daemon, and is made again");
                self.arm();
                self.restore().await;
                return;
            }
            Err(failure) => failure,
        };
        let why = match failure.message {
            FailureMessage::Text { message, .. } => message,
            _ => "it cannot be used".to_owned(),
        };
        if failure.exit == Exit::Held && self.replies.is_empty() {
            tracing::error!(%why, "the state directory is another daemon's now; this one stops");
            let trigger = "another daemon holds the state directory".to_owned();
            self.replies.spawn(self.commands.post(SuperviseCommand::ShutDown { trigger, force: false }));
        } else if self.warned.as_ref() != Some(&why) {
            tracing::warn!(%why, "the state directory is lost or open to others; what it should keep may be lost at the next start");
        }
        self.warned = Some(why);
    }

    /// Writes what the next daemon and the clients look for.
    async fn restore(&self) {
        if let Err(error) = write_down(self.watch.state.path(), &self.watch.boot).await {
            tracing::warn!(%error, "this run is not written down: after a crash, the next one may not find its processes");
        }
        if let Err(error) = self.watch.control.rebind() {
            tracing::warn!(%error, "the control socket is not bound again");
        }
    }
}
