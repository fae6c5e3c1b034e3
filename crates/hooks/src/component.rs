//! The component: hears what happened, runs what the user put there, and publishes how it went.

use std::time::Duration;

use llama_warden_bus::{BusClosed, Component, Delivery, Fact, Ports, Publisher, Subscription};
use llama_warden_config::Fleet;
use llama_warden_events::{Event, HookOutcome, NoCommand};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::call::HookCall;
use crate::process;
use crate::queue::{Queue, Turn};
use crate::watch::Watch;

/// Longest time for a command; then it is killed with its process group.
pub const HOOK_LIMIT: Duration = Duration::from_secs(30);
/// Longest time for what still runs when the daemon ends; the host waits a little longer. What is left is killed.
const FAREWELL: Duration = Duration::from_secs(3);

/// Runs the commands around servers' lives.
#[derive(Debug)]
pub struct Hooks {
    fleet: watch::Receiver<Fleet>,
    limit: Duration,
}

/// Why the component ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum HooksError {
    /// Facts come and go no more.
    #[error("lost the line of facts: {0}")]
    Bus(#[from] BusClosed),
}

impl Hooks {
    /// The component. The command of a server is what `fleet` says when it is due.
    pub const fn new(fleet: watch::Receiver<Fleet>) -> Self {
        Self { fleet, limit: HOOK_LIMIT }
    }

    /// With another limit than [`HOOK_LIMIT`].
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }
}

impl Component for Hooks {
    const NAME: &'static str = "hooks";
    type Command = NoCommand;
    type Error = HooksError;

    async fn run(self, mut ports: Ports<NoCommand>) -> Result<(), HooksError> {
        let mut desk = Desk {
            watch: Watch::begin(&ports.events.snapshot()),
            hooks: self,
            facts: ports.facts,
            queue: Queue::default(),
            running: JoinSet::new(),
        };
        loop {
            tokio::select! {
                () = ports.cancel.cancelled() => return desk.say_farewell(&mut ports.events).await,
                delivery = ports.events.next() => match delivery {
                    Some(delivery) => desk.hear(delivery).await?,
                    None => return Err(BusClosed.into()),
                },
                Some(done) = desk.running.join_next() => desk.finish(done).await?,
            }
        }
    }
}

/// A command that ended: how, and after what time.
type Done = (HookCall, HookOutcome, Duration);

struct Desk {
    hooks: Hooks,
    facts: Publisher,
    watch: Watch,
    queue: Queue,
    running: JoinSet<Done>,
}

impl Desk {
    async fn hear(&mut self, delivery: Delivery) -> Result<(), BusClosed> {
        let fleet = self.hooks.fleet.borrow().clone();
        let calls = match delivery {
            Delivery::Event(envelope) => self.watch.hear(&envelope, &fleet).into_iter().collect(),
            Delivery::Gap { snapshot, .. } => self.watch.catch_up(&snapshot, &fleet),
        };
        for call in calls {
            match self.queue.add(call) {
                Turn::Now(call) => self.start(call),
                Turn::Later => {}
                Turn::Refused(call) => {
                    let detail = "not run: too many commands of this server wait already".to_owned();
                    self.publish((call, HookOutcome::Failed { detail }, Duration::ZERO)).await?;
                }
            }
        }
        Ok(())
    }

    fn start(&mut self, call: HookCall) {
        let limit = self.hooks.limit;
        self.running.spawn(async move {
            let began = Instant::now();
            let outcome = process::run(&call, limit).await;
            (call, outcome, began.elapsed())
        });
    }

    async fn finish(&mut self, done: Result<Done, tokio::task::JoinError>) -> Result<(), BusClosed> {
        let done = match done {
            Ok(done) => done,
            // It does not panic; if it did, later commands of that server would wait for ever, which someone must know.
            Err(error) => {
                tracing::error!(%error, "a hook was lost");
                return Ok(());
            }
        };
        if let Some(next) = self.queue.next(&done.0.server) {
            self.start(next);
        }
        self.publish(done).await
    }

    async fn publish(&self, (call, outcome, took): Done) -> Result<(), BusClosed> {
        let event = Event::HookCompleted { hook: call.hook, outcome, seconds: took.as_secs_f64() };
        // Without the launch: the next one may have begun while the command of the last one ran.
        self.facts.publish(Fact::server(call.server, event).because(call.cause)).await
    }

    /// Takes up what was told already, since the end of a daemon is when most servers exit, and waits a little.
    async fn say_farewell(&mut self, events: &mut Subscription) -> Result<(), HooksError> {
        while let Some(delivery) = events.try_next() {
            self.hear(delivery).await?;
        }
        let deadline = Instant::now() + FAREWELL;
        while let Ok(Some(done)) = tokio::time::timeout_at(deadline, self.running.join_next()).await {
            self.finish(done).await?;
        }
        Ok(())
    }
}
