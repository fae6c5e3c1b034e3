//! The component that requests a reload when the configuration file changes.
//!
//! The kernel's notices say when to look, and a slow clock says so too: some changes come without a notice. A look compares
//! the text with the latest one that anybody has read, so that neither a touch, nor our own reading, nor a change that was
//! loaded on request already, requests anything. The first text is the one that the daemon started with, so that a change
//! during the start is not lost.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use llama_warden_bus::{Accepted, BusClosed, CommandSender, CommandSetId, Delivery};
use llama_warden_component::{Component, Ports, Worker, next_task};
use llama_warden_config::read_config_file;
use llama_warden_events::{NoCommand, RefusalReason, Refused, SuperviseCommand, Uptime};
use llama_warden_state::Snapshot;
use llama_warden_support::{BlockingError, KernelNotices, blocking, next_notice};
use nix::errno::Errno;
use tokio::task::{JoinError, JoinSet};

use crate::file_watch::FileWatch;
use crate::fleet_source::LatestText;

/// Time without a notice before the file is read: a writer may need several writes.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Longest time from the first notice to the read, in a folder that changes all the time.
const LONGEST: Duration = Duration::from_secs(2);

/// Time from a look to the next one without a notice, where none is to be expected: network and FUSE file systems give none for
/// what others write.
const LOOK_WITHOUT_NOTICES: Duration = Duration::from_secs(10);

/// The same on other file systems. The kernel gives no notice for a folder above that was renamed or mounted over.
const SLOW_LOOK: Duration = Duration::from_secs(60);

/// Watches a configuration file.
#[derive(Debug)]
pub struct ConfigWatch {
    file: FileWatch,
    latest: LatestText,
}

impl ConfigWatch {
    /// Watches the file at `path`, of which `latest` was read last, within a tokio runtime. If the kernel refuses its notices, changes
    /// are found by the slow look alone.
    pub fn new(path: PathBuf, latest: LatestText) -> Self {
        Self { file: FileWatch::new(path, warn_unwatched), latest }
    }

    /// Reads the file, and returns whether nobody has read this text yet, or it can no longer be read.
    ///
    /// # Errors
    /// The daemon is out of descriptors or memory, which says nothing about the file.
    fn has_changed(&mut self) -> io::Result<bool> {
        self.file.arm();
        match read_config_file(self.file.path()) {
            Err(error) if is_exhaustion(&error) => Err(error),
            bytes => Ok(!self.latest.is(bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok()).as_deref())),
        }
    }
}

fn warn_unwatched(path: &Path, error: &io::Error) {
    let (path, seconds) = (path.display(), LOOK_WITHOUT_NOTICES.as_secs());
    tracing::warn!(%path, %error, "changes of the configuration are noticed only every {seconds} seconds");
}

/// Tells of a reload that did not happen, unless an event does: what is wrong with a configuration is published as one.
pub fn warn_not_reloaded(refused: &Refused) {
    if !matches!(refused.reason, RefusalReason::InvalidConfiguration | RefusalReason::DoubtfulConfiguration) {
        tracing::warn!(%refused, "the configuration is not reloaded");
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM))
}

impl Component for ConfigWatch {
    const NAME: &'static str = "config-watch";
    const SENDS: &'static [CommandSetId] = &[CommandSetId::of::<SuperviseCommand>()];

    type Command = NoCommand;
    type Error = BusClosed;

    async fn run(self, ports: Ports<NoCommand>) -> Result<(), BusClosed> {
        let worker = WatchWorker {
            notices: self.file.notices(),
            watch: Some(self),
            commands: ports.commands.clone(),
            changed_at: None,
            look_at: None,
            looks: JoinSet::new(),
            replies: JoinSet::new(),
        };
        ports.drive(worker).await
    }
}

struct WatchWorker {
    notices: Option<Arc<KernelNotices>>,
    /// `None` while a look is under way.
    watch: Option<ConfigWatch>,
    commands: CommandSender,
    /// The first notice since the latest look.
    changed_at: Option<Uptime>,
    /// When the next look is due.
    look_at: Option<Uptime>,
    /// The look under way, off the loop: a disk may never answer.
    looks: JoinSet<Result<(ConfigWatch, io::Result<bool>), BlockingError>>,
    /// The answers to reloads.
    replies: JoinSet<Result<Accepted, Refused>>,
}

/// Wakes the watch.
enum WatchInput {
    /// Something in a watched place changed.
    Changed,
    /// A look ended.
    Looked(Result<Result<(ConfigWatch, io::Result<bool>), BlockingError>, JoinError>),
    /// The supervisor answered a reload.
    Answered(Result<Result<Accepted, Refused>, JoinError>),
}

impl Worker for WatchWorker {
    type Command = NoCommand;
    type Error = BusClosed;
    type Input = WatchInput;

    async fn on_start(&mut self, _: &Snapshot, now: Uptime) -> Result<(), BusClosed> {
        // The file may have changed since it was read and before it was watched.
        self.on_input(WatchInput::Changed, now).await
    }

    async fn on_event(&mut self, _: Delivery, _: Uptime) -> Result<(), BusClosed> {
        Ok(())
    }

    async fn next_input(&mut self) -> WatchInput {
        tokio::select! {
            () = next_notice(self.notices.as_deref()) => WatchInput::Changed,
            look = next_task(&mut self.looks) => WatchInput::Looked(look),
            answer = next_task(&mut self.replies) => WatchInput::Answered(answer),
        }
    }

    async fn on_input(&mut self, input: WatchInput, now: Uptime) -> Result<(), BusClosed> {
        match input {
            WatchInput::Changed => {
                // Each notice puts the look off, but never beyond LONGEST after the first one.
                let first = *self.changed_at.get_or_insert(now);
                let due = (now.as_duration() + DEBOUNCE).min(first.as_duration() + LONGEST);
                self.look_at = Some(Uptime::new(due));
            }
            WatchInput::Looked(Ok(Ok((watch, changed)))) => {
                self.on_look(&watch.file, changed, now);
                self.watch = Some(watch);
            }
            WatchInput::Looked(_) => tracing::warn!("the configuration is watched no longer; send HUP after a change"),
            WatchInput::Answered(Ok(Err(refused))) => warn_not_reloaded(&refused),
            WatchInput::Answered(_) => {}
        }
        Ok(())
    }

    fn next_deadline(&self) -> Option<Uptime> {
        self.look_at.filter(|_| self.watch.is_some())
    }

    async fn on_deadline(&mut self, _: Uptime) -> Result<(), BusClosed> {
        if let Some(mut watch) = self.watch.take() {
            (self.changed_at, self.look_at) = (None, None);
            self.looks.spawn(blocking(move || {
                let changed = watch.has_changed();
                (watch, changed)
            }));
        }
        Ok(())
    }
}

impl WatchWorker {
    /// Looks again after `wait`, unless a notice has brought the next look forward.
    fn look_in(&mut self, wait: Duration, now: Uptime) {
        self.look_at = self.look_at.or(Some(Uptime::new(now.as_duration() + wait)));
    }

    fn on_look(&mut self, file: &FileWatch, changed: io::Result<bool>, now: Uptime) {
        match changed {
            Ok(changed) => {
                self.look_in(if file.gives_notices() { SLOW_LOOK } else { LOOK_WITHOUT_NOTICES }, now);
                if changed {
                    let trigger = format!("a change of {}", file.path().display());
                    self.replies.spawn(self.commands.post(SuperviseCommand::Reload { trigger, force: false }));
                }
            }
            Err(error) => {
                tracing::debug!(%error, "the configuration cannot be read now; retrying");
                self.look_in(LONGEST, now);
            }
        }
    }
}

#[cfg(test)]
mod tests;
