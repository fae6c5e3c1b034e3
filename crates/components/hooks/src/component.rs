//! The component: reacts to launches and requests, runs the user's commands, and publishes how each went.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::future::pending;
use std::time::Duration;

use llama_warden_bus::{Accepted, BusClosed, Delivery, EventDraft, Inbox, Publisher, ReceivedCommand};
use llama_warden_component::{Component, Context, LaunchChange, LaunchTracker, Ports, Transition, Worker};
use llama_warden_config::Fleet;
use llama_warden_events::{
    Event, FailureReason, HookCommand, HookOutcome, HookPoint, Incarnation, ProcessEnd, ReadyVia, RefusalReason,
    Refused, ServerId, StopReason, Uptime,
};
use llama_warden_processes::spawner::Spawner;
use llama_warden_state::Snapshot;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::call::HookCall;
use crate::process::{HookRunner, failed};
use crate::queue::{HookQueue, QueueDecision};

/// Longest time for commands that still run when the daemon ends; the host waits a little longer. What is left is killed.
const FAREWELL: Duration = Duration::from_secs(3);

/// Runs the commands around servers' lives.
#[derive(Debug)]
pub struct Hooks {
    fleet: watch::Receiver<Fleet>,
    runner: HookRunner,
}

impl Hooks {
    /// The command of a server is what the fleet says when it is due; `spawner` runs it, marked as of this run of the daemon.
    pub fn build(context: &Context, spawner: Spawner) -> Self {
        Self { fleet: context.fleet(), runner: HookRunner { boot: context.boot(), spawner } }
    }
}

impl Component for Hooks {
    const NAME: &'static str = "hooks";
    type Command = HookCommand;
    type Error = BusClosed;

    async fn run(self, ports: Ports<HookCommand>) -> Result<(), BusClosed> {
        let worker = HooksWorker {
            launches: LaunchTracker::new(self.fleet),
            events: ports.events.clone(),
            runner: self.runner,
            queue: HookQueue::default(),
            tasks: JoinSet::new(),
            running: BTreeMap::new(),
        };
        ports.drive(worker).await
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

struct HooksWorker {
    runner: HookRunner,
    launches: LaunchTracker<()>,
    events: Publisher,
    queue: HookQueue,
    tasks: JoinSet<HookOutcome>,
    /// At most one for each server; the queue makes sure of it.
    running: BTreeMap<ServerId, Running>,
}

impl Worker for HooksWorker {
    type Command = HookCommand;
    type Error = BusClosed;
    type Input = Done;

    async fn on_start(&mut self, snapshot: &Snapshot, _: Uptime) -> Result<(), BusClosed> {
        // The commands of launches that began before this component did have been run.
        self.launches.on_snapshot(snapshot);
        Ok(())
    }

    async fn on_event(&mut self, delivery: Delivery, _: Uptime) -> Result<(), BusClosed> {
        let changes = self.launches.on_event(&delivery);
        self.call_off().await?;
        for change in changes {
            let Some(call) = self.call_for(change) else { continue };
            if let Some(call) = self.add(call) {
                self.publish(call, failed(TOO_MANY), Duration::ZERO).await?;
            }
        }
        Ok(())
    }

    /// Answers at once; what is not refused gets its `HookCompleted`.
    async fn on_command(&mut self, received: ReceivedCommand<HookCommand>, _: Uptime) -> Result<(), BusClosed> {
        let (command, cause, reply) = received.split();
        let call = match self.requested(&command) {
            Ok(Some(call)) => call.because(cause).in_time(Instant::now()),
            Ok(None) => {
                reply(Ok(Accepted { id: None }));
                let (server, incarnation, hook) = subject(command);
                // The hook was taken out of the configuration a moment ago, and the sender waits for its completion.
                let event = Event::HookCompleted { hook, outcome: HookOutcome::Succeeded, seconds: 0.0 };
                let completed = EventDraft::incarnation(server, incarnation, event).because(cause);
                return self.events.publish(completed).await;
            }
            Err(refused) => {
                reply(Err(refused));
                return Ok(());
            }
        };
        if is_moot(&self.launches, &call) {
            reply(Ok(Accepted { id: None }));
            return self.publish(call, HookOutcome::CalledOff, Duration::ZERO).await;
        }
        reply(match self.add(call) {
            None => Ok(Accepted { id: None }),
            Some(_) => Err(Refused::new(RefusalReason::QueueFull, TOO_MANY)),
        });
        Ok(())
    }

    async fn next_input(&mut self) -> Done {
        match self.tasks.join_next_with_id().await {
            Some(done) => done,
            None => pending().await,
        }
    }

    async fn on_input(&mut self, done: Done, _: Uptime) -> Result<(), BusClosed> {
        self.finish(done).await
    }

    /// Most servers exit while the daemon ends, so the events that were not read yet are acted upon, and their commands get a
    /// bounded time.
    async fn on_cancel(&mut self, inbox: &mut Inbox<HookCommand>) -> Result<(), BusClosed> {
        while let Some(delivery) = inbox.try_next_event() {
            self.on_event(delivery, Uptime::default()).await?;
        }
        let deadline = Instant::now() + FAREWELL;
        while let Ok(Some(done)) = tokio::time::timeout_at(deadline, self.tasks.join_next_with_id()).await {
            self.finish(done).await?;
        }
        Ok(())
    }
}

impl HooksWorker {
    /// The command that follows a step of a launch. A launch without a process has none.
    fn call_for(&self, change: LaunchChange<()>) -> Option<HookCall> {
        let LaunchChange { server, incarnation, cause, transition, .. } = change;
        let configured = self.launches.configured(&server);
        let call = match transition {
            // One that was ready under the daemon before has had its command.
            Transition::BecameReady(ReadyVia::Adopted) => return None,
            Transition::BecameReady(via) => {
                let launch = self.launches.get(&server).filter(|launch| launch.incarnation == incarnation)?;
                let spec = configured.or_else(|| launch.spec.clone())?;
                let call = HookCall::of(&spec, incarnation, HookPoint::PostReady)?;
                call.of_process(Some(launch.process?)).telling("READY_VIA", via.as_str())
            }
            Transition::Ended { end, launch } => {
                let spec = configured.or_else(|| launch.spec.clone())?;
                let call = HookCall::of(&spec, incarnation, HookPoint::PostExit)?;
                // The reason of the failure if there is one, else of the stop; an unrequested end is `exited`.
                let failure = launch.failure.map(FailureReason::as_str);
                let reason = failure.or(launch.stop.map(StopReason::as_str)).unwrap_or("exited");
                let call = call.of_process(Some(launch.process?)).telling("REASON", reason);
                call.telling_end(end.unwrap_or(ProcessEnd::Unknown))
            }
            _ => return None,
        };
        Some(call.because(cause))
    }

    /// The hook that a command requests; `None` if the server has none (any more).
    fn requested(&self, command: &HookCommand) -> Result<Option<HookCall>, Refused> {
        let (server, incarnation, hook) = subject(command.clone());
        let launch = self.launches.get(&server).filter(|launch| launch.incarnation == incarnation);
        let spec = self.launches.configured(&server).or_else(|| launch.and_then(|launch| launch.spec.clone()));
        let Some(spec) = spec else {
            return Err(Refused::new(RefusalReason::UnknownServer, format!("no server `{server}` is configured")));
        };
        let call = HookCall::of(&spec, incarnation, hook).map(|call| match command {
            HookCommand::RunPreStart { .. } => call,
            HookCommand::RunPreStop { reason, limit, .. } => {
                HookCall { limit: call.limit.min(*limit), ..call }.telling("REASON", reason.as_str())
            }
        });
        Ok(call.map(|call| call.of_process(launch.and_then(|launch| launch.process))))
    }

    /// Runs a command now or in its turn; gives it back where too many wait.
    fn add(&mut self, call: HookCall) -> Option<HookCall> {
        match self.queue.add(call) {
            QueueDecision::Now(call) => self.start(call),
            QueueDecision::Later => {}
            QueueDecision::Refused(call) => return Some(call),
        }
        None
    }

    fn start(&mut self, call: HookCall) {
        let (began, call_off) = (Instant::now(), CancellationToken::new());
        let left = call.deadline.map(|deadline| deadline.saturating_duration_since(began));
        let limit = left.map_or(call.limit, |left| call.limit.min(left));
        let (runner, told, called_off) = (self.runner.clone(), call.clone(), call_off.clone());
        let task = self.tasks.spawn(async move {
            if limit.is_zero() {
                return failed("not run: its time was over before its turn came");
            }
            runner.run(&told, limit, &called_off).await
        });
        self.running.insert(call.server.clone(), Running { call, task: task.id(), began, call_off });
    }

    async fn finish(&mut self, done: Done) -> Result<(), BusClosed> {
        let (task, outcome) = match done {
            Ok(done) => done,
            // The task does not panic; if it did, a launch or a stop must not wait for it for ever.
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

    /// Cancels the awaited commands whose launch or stop no longer waits for them.
    async fn call_off(&mut self) -> Result<(), BusClosed> {
        for running in self.running.values().filter(|running| is_moot(&self.launches, &running.call)) {
            running.call_off.cancel();
        }
        let launches = &self.launches;
        for call in self.queue.withdraw(|call| is_moot(launches, call)) {
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
}

/// The server, launch and hook of a command.
fn subject(command: HookCommand) -> (ServerId, Incarnation, HookPoint) {
    match command {
        HookCommand::RunPreStart { server, incarnation } => (server, incarnation, HookPoint::PreStart),
        HookCommand::RunPreStop { server, incarnation, .. } => (server, incarnation, HookPoint::PreStop),
    }
}

/// Whether the launch or stop of an awaited command no longer waits for it.
fn is_moot(launches: &LaunchTracker<()>, call: &HookCall) -> bool {
    let Some(launch) = launches.get(&call.server).filter(|_| call.is_awaited()) else { return false };
    match call.incarnation.cmp(&launch.incarnation) {
        Ordering::Less => true,
        Ordering::Equal if call.hook == HookPoint::PreStart => launch.is_over || launch.stop.is_some(),
        Ordering::Equal => launch.is_over,
        // The event that began the launch is on the way.
        Ordering::Greater => false,
    }
}
