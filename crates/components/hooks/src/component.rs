//! The component: hears what happened and what is asked, runs what the user put there, and publishes how it went.

use std::collections::BTreeMap;
use std::time::Duration;

use llama_warden_bus::{Accepted, BusClosed, Delivery, EventDraft, Publisher, ReceivedCommand, Subscription};
use llama_warden_component::{Component, Ports};
use llama_warden_config::Fleet;
use llama_warden_events::{Event, HookCommand, HookOutcome, HookPoint, Incarnation, RefusalReason, Refused, ServerId};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::call::HookCall;
use crate::process::{self, HookLimits as Bounds, failed};
use crate::queue::{HookQueue as Queue, QueueDecision as Turn};
use crate::watch::Watch;

/// Longest time for what still runs when the daemon ends; the host waits a little longer. What is left is killed.
const FAREWELL: Duration = Duration::from_secs(3);

/// Runs the commands around servers' lives.
#[derive(Debug)]
pub struct Hooks {
    fleet: watch::Receiver<Fleet>,
}

/// Why the component ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum HooksError {
    /// Events come and go no more.
    #[error("lost the line of events: {0}")]
    Bus(#[from] BusClosed),
}

impl Hooks {
    /// The component. The command of a server is what `fleet` says when it is due.
    pub const fn new(fleet: watch::Receiver<Fleet>) -> Self {
        Self { fleet }
    }
}

impl Component for Hooks {
    const NAME: &'static str = "hooks";
    type Command = HookCommand;
    type Error = HooksError;

    async fn run(self, mut ports: Ports<HookCommand>) -> Result<(), HooksError> {
        let watch = Watch::begin(&ports.subscription.snapshot(), &self.fleet.borrow());
        let mut desk = Desk {
            fleet: self.fleet,
            watch,
            events: ports.events,
            queue: Queue::default(),
            tasks: JoinSet::new(),
            running: BTreeMap::new(),
        };
        loop {
            tokio::select! {
                () = ports.cancel.cancelled() => return desk.say_farewell(&mut ports.subscription).await,
                delivery = ports.subscription.next() => match delivery {
                    Some(delivery) => desk.hear(delivery).await?,
                    None => return Err(BusClosed.into()),
                },
                request = ports.inbox.recv() => match request {
                    Some(request) => {
                        // What it is about was published before it was sent.
                        desk.hear_all(&mut ports.subscription).await?;
                        desk.take(request).await?;
                    }
                    None => ports.cancel.cancelled().await,
                },
                Some(done) = desk.tasks.join_next_with_id() => desk.finish(done).await?,
            }
        }
    }
}

const TOO_MANY: &str = "not run: too many commands of this server wait already";

/// How the task of a command ended.
type Done = Result<(Id, HookOutcome), JoinError>;

/// A command that runs.
struct Running {
    call: HookCall,
    task: Id,
    began: Instant,
    call_off: CancellationToken,
}

struct Desk {
    fleet: watch::Receiver<Fleet>,
    events: Publisher,
    watch: Watch,
    queue: Queue,
    tasks: JoinSet<HookOutcome>,
    /// One of each server at a time; the queue sees to it.
    running: BTreeMap<ServerId, Running>,
}

impl Desk {
    async fn hear_all(&mut self, events: &mut Subscription) -> Result<(), BusClosed> {
        while let Some(delivery) = events.try_next() {
            self.hear(delivery).await?;
        }
        Ok(())
    }

    async fn hear(&mut self, delivery: Delivery) -> Result<(), BusClosed> {
        let fleet = self.fleet.borrow().clone();
        let calls = match delivery {
            Delivery::Event(envelope) => self.watch.hear(&envelope, &fleet).into_iter().collect(),
            Delivery::Gap { snapshot, .. } => self.watch.catch_up(&snapshot, &fleet),
        };
        self.call_off().await?;
        for call in calls {
            if let Some(call) = self.add(call) {
                self.publish(call, failed(TOO_MANY), Duration::ZERO).await?;
            }
        }
        Ok(())
    }

    /// Answers at once; what is not refused gets its `HookCompleted`.
    async fn take(&mut self, request: ReceivedCommand<HookCommand>) -> Result<(), BusClosed> {
        let fleet = self.fleet.borrow().clone();
        let (command, cause, reply) = request.split();
        let call = match self.watch.asked(&command, &fleet) {
            Ok(Some(call)) => call.because(cause).in_time(Instant::now()),
            Ok(None) => {
                reply(Ok(Accepted { id: None }));
                let (server, incarnation, hook) = subject(command);
                // It was taken out of the configuration a moment ago.
                let event = Event::HookCompleted { hook, outcome: HookOutcome::Succeeded, seconds: 0.0 };
                return self.events.publish(EventDraft::incarnation(server, incarnation, event).because(cause)).await;
            }
            Err(refused) => {
                reply(Err(refused));
                return Ok(());
            }
        };
        if self.watch.is_moot(&call) {
            reply(Ok(Accepted { id: None }));
            return self.publish(call, HookOutcome::CalledOff, Duration::ZERO).await;
        }
        reply(match self.add(call) {
            None => Ok(Accepted { id: None }),
            Some(_) => Err(Refused::new(RefusalReason::QueueFull, TOO_MANY)),
        });
        Ok(())
    }

    /// Runs a command now or in its turn; gives it back where too many wait.
    fn add(&mut self, call: HookCall) -> Option<HookCall> {
        match self.queue.add(call) {
            Turn::Now(call) => self.start(call),
            Turn::Later => {}
            Turn::Refused(call) => return Some(call),
        }
        None
    }

    fn start(&mut self, call: HookCall) {
        let (began, call_off) = (Instant::now(), CancellationToken::new());
        let left = call.deadline.map(|deadline| deadline.saturating_duration_since(began));
        let bounds = Bounds { limit: left.map_or(call.limit, |left| call.limit.min(left)), call_off: call_off.clone() };
        let told = call.clone();
        let task = self.tasks.spawn(async move {
            if bounds.limit.is_zero() {
                return failed("not run: its time was over before its turn came");
            }
            process::run(&told, &bounds).await
        });
        self.running.insert(call.server.clone(), Running { call, task: task.id(), began, call_off });
    }

    async fn finish(&mut self, done: Done) -> Result<(), BusClosed> {
        let (task, outcome) = match done {
            Ok(done) => done,
            // It does not panic; if it did, nobody may wait for it for ever.
            Err(error) => (error.id(), failed(format!("it was lost: {error}"))),
        };
        let server = self.running.iter().find(|(_, running)| running.task == task).map(|(server, _)| server.clone());
        let running = server.and_then(|server| self.running.remove(&server));
        let Some(Running { call, began, .. }) = running else { return Ok(()) };
        if let Some(next) = self.queue.next(&call.server) {
            self.start(next);
        }
        self.publish(call, outcome, began.elapsed()).await
    }

    /// Ends what nobody wants any more.
    async fn call_off(&mut self) -> Result<(), BusClosed> {
        for running in self.running.values().filter(|running| self.watch.is_moot(&running.call)) {
            running.call_off.cancel();
        }
        for call in self.queue.withdraw(|call| self.watch.is_moot(call)) {
            self.publish(call, HookOutcome::CalledOff, Duration::ZERO).await?;
        }
        Ok(())
    }

    async fn publish(&self, call: HookCall, outcome: HookOutcome, took: Duration) -> Result<(), BusClosed> {
        let is_awaited = call.is_awaited();
        let HookCall { server, incarnation, hook, cause, .. } = call;
        let event = Event::HookCompleted { hook, outcome, seconds: took.as_secs_f64() };
        let event = match is_awaited {
            true => EventDraft::incarnation(server, incarnation, event),
            // Without the launch: the next one may have begun while the command of the last one ran.
            false => EventDraft::server(server, event),
        };
        self.events.publish(event.because(cause)).await
    }

    /// Takes up what was told already, since the end of a daemon is when most servers exit, and waits a little.
    async fn say_farewell(&mut self, events: &mut Subscription) -> Result<(), HooksError> {
        self.hear_all(events).await?;
        let deadline = Instant::now() + FAREWELL;
        while let Ok(Some(done)) = tokio::time::timeout_at(deadline, self.tasks.join_next_with_id()).await {
            self.finish(done).await?;
        }
        Ok(())
    }
}

/// What a command is about.
fn subject(command: HookCommand) -> (ServerId, Incarnation, HookPoint) {
    match command {
        HookCommand::RunPreStart { server, incarnation } => (server, incarnation, HookPoint::PreStart),
        HookCommand::RunPreStop { server, incarnation, .. } => (server, incarnation, HookPoint::PreStop),
    }
}
