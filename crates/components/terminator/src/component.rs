//! The terminator as a component: it receives requests and ends of processes, and sends signals and events.

use std::time::Duration;

use llama_warden_bus::{
    Accepted, BusClosed, CommandRequest, CommandSender, CommandSetId, Delivery, EventDraft, Publisher, ReceivedCommand,
};
use llama_warden_component::{
    Component, LaunchChange, LaunchReadiness, LaunchTracker, Ports, TrackedLaunch, Transition, Worker, next_task,
};
use llama_warden_config::{Fleet, ServerSpec};
use llama_warden_events::{
    Event, HookCommand, HookPoint, Incarnation, LaunchCommand, RefusalReason, Refused, Seq, ServerId, Signal,
    StopReason, TerminateCommand, Uptime, Warning,
};
use llama_warden_state::Snapshot;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::machine::{StopAction, StopMachine, StopPlan};

/// For a server that is no longer configured.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// Ends processes: first with the signals of the ladder, then with KILL.
#[derive(Debug)]
pub struct Terminator {
    fleet: watch::Receiver<Fleet>,
}

impl Terminator {
    /// A terminator that takes grace and ladder of each server from `fleet`.
    pub const fn new(fleet: watch::Receiver<Fleet>) -> Self {
        Self { fleet }
    }
}

impl Component for Terminator {
    const NAME: &'static str = "terminator";
    const SENDS: &'static [CommandSetId] = &[CommandSetId::of::<LaunchCommand>(), CommandSetId::of::<HookCommand>()];
    type Command = TerminateCommand;
    type Error = BusClosed;

    async fn run(self, ports: Ports<TerminateCommand>) -> Result<(), BusClosed> {
        let worker = TerminatorWorker {
            launches: LaunchTracker::new(self.fleet),
            events: ports.events.clone(),
            commands: ports.commands.clone(),
            deliveries: JoinSet::new(),
            pre_stops: JoinSet::new(),
        };
        ports.drive(worker).await
    }
}

/// A stop that is under way.
#[derive(Debug)]
struct OpenStop {
    machine: StopMachine,
    cause: Option<Seq>,
}

struct TerminatorWorker {
    /// The latest launches, each with its stop.
    launches: LaunchTracker<Option<OpenStop>>,
    events: Publisher,
    commands: CommandSender,
    deliveries: JoinSet<Result<Accepted, Refused>>,
    /// The replies to `RunPreStop`: accepted or refused. Events report how the commands ended.
    pre_stops: JoinSet<(ServerId, Incarnation, Result<Accepted, Refused>)>,
}

/// An answer to a command of the terminator.
enum Answer {
    Signal(Result<Result<Accepted, Refused>, JoinError>),
    PreStop(Result<(ServerId, Incarnation, Result<Accepted, Refused>), JoinError>),
}

impl Worker for TerminatorWorker {
    type Command = TerminateCommand;
    type Error = BusClosed;
    type Input = Answer;

    async fn on_start(&mut self, snapshot: &Snapshot, _: Uptime) -> Result<(), BusClosed> {
        // No stop is open yet, so no change asks for anything.
        self.launches.on_snapshot(snapshot);
        Ok(())
    }

    async fn on_event(&mut self, delivery: Delivery, _: Uptime) -> Result<(), BusClosed> {
        for LaunchChange { server, incarnation, cause, at, transition } in self.launches.on_event(&delivery) {
            match transition {
                Transition::HookCompleted(HookPoint::PreStop, _) => {
                    self.on_pre_stop_over(&server, incarnation, at).await?;
                }
                Transition::Ended { launch, .. } => {
                    let Some(stop) = launch.state else { continue };
                    let stopped = EventDraft::incarnation(server, incarnation, stop.machine.finish(at));
                    self.events.publish(stopped.because(stop.cause.or(cause))).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn on_command(&mut self, received: ReceivedCommand<TerminateCommand>, now: Uptime) -> Result<(), BusClosed> {
        let TerminateCommand::TerminateServer { server, incarnation, reason, grace } = received.command.clone();
        let cause = received.cause;
        // A launch that was asked for a moment ago may be stopped before it has begun.
        let spec = self.launches.spec(&server);
        let Some(launch) = self.launches.track(&server, incarnation) else {
            let detail = format!("launch {incarnation} of `{server}` is over");
            received.refuse(Refused::new(RefusalReason::StaleIncarnation, detail));
            return Ok(());
        };
        received.accept(None);
        let actions = match &mut launch.state {
            Some(stop) => stop.machine.join(grace, now),
            None => {
                let (machine, actions) = StopMachine::begin(plan(launch, spec.as_deref(), reason, grace), now);
                launch.state = Some(OpenStop { machine, cause });
                actions
            }
        };
        self.perform(&server, incarnation, cause, actions).await
    }

    fn next_deadline(&self) -> Option<Uptime> {
        let stops = self.launches.iter().filter_map(|(_, launch)| launch.state.as_ref());
        stops.filter_map(|stop| stop.machine.next_deadline()).min()
    }

    async fn on_deadline(&mut self, now: Uptime) -> Result<(), BusClosed> {
        let due: Vec<_> = self
            .launches
            .iter_mut()
            .filter_map(|(server, launch)| {
                let stop = launch.state.as_mut()?;
                let actions = stop.machine.on_deadline(now);
                (!actions.is_empty()).then(|| (server.clone(), launch.incarnation, stop.cause, actions))
            })
            .collect();
        for (server, incarnation, cause, actions) in due {
            self.perform(&server, incarnation, cause, actions).await?;
        }
        Ok(())
    }

    async fn next_input(&mut self) -> Answer {
        tokio::select! {
            delivered = next_task(&mut self.deliveries) => Answer::Signal(delivered),
            asked = next_task(&mut self.pre_stops) => Answer::PreStop(asked),
        }
    }

    async fn on_input(&mut self, answer: Answer, now: Uptime) -> Result<(), BusClosed> {
        match answer {
            Answer::Signal(Ok(Err(refused))) => {
                // The process ended before the signal came; its end is on the way as an event.
                tracing::debug!(%refused, "signal not delivered");
            }
            Answer::PreStop(Ok((server, incarnation, Err(refused)))) => {
                let detail = format!("{}: {refused}", HookPoint::PreStop);
                let warned = Event::ServerWarned { warning: Warning::HookFailed, detail };
                self.events.publish(EventDraft::incarnation(server.clone(), incarnation, warned)).await?;
                self.on_pre_stop_over(&server, incarnation, now).await?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl TerminatorWorker {
    /// The `pre-stop` command has ended, or cannot be run: the first signal is due.
    async fn on_pre_stop_over(
        &mut self,
        server: &ServerId,
        incarnation: Incarnation,
        now: Uptime,
    ) -> Result<(), BusClosed> {
        let launch = self.launches.launch_mut(server, incarnation);
        let Some(stop) = launch.and_then(|launch| launch.state.as_mut()) else { return Ok(()) };
        let (cause, actions) = (stop.cause, stop.machine.on_pre_stop_over(now));
        self.perform(server, incarnation, cause, actions).await
    }

    async fn perform(
        &mut self,
        server: &ServerId,
        incarnation: Incarnation,
        cause: Option<Seq>,
        actions: Vec<StopAction>,
    ) -> Result<(), BusClosed> {
        for action in actions {
            match action {
                StopAction::Publish(event) => {
                    let draft = EventDraft::incarnation(server.clone(), incarnation, event);
                    self.events.publish(draft.because(cause)).await?;
                }
                StopAction::RunPreStop { reason, limit } => {
                    let command = HookCommand::RunPreStop { server: server.clone(), incarnation, reason, limit };
                    let reply = self.commands.post(CommandRequest::new(command).because(cause));
                    let server = server.clone();
                    self.pre_stops.spawn(async move { (server, incarnation, reply.await) });
                }
                StopAction::Deliver(rung) => {
                    let (server, signal) = (server.clone(), rung.signal);
                    let command = LaunchCommand::DeliverSignal { server, incarnation, signal, rung };
                    self.deliveries.spawn(self.commands.post(CommandRequest::new(command).because(cause)));
                }
            }
        }
        Ok(())
    }
}

/// How a launch is stopped: by what is configured now, else by what it was launched with.
fn plan(
    launch: &TrackedLaunch<Option<OpenStop>>,
    spec: Option<&ServerSpec>,
    reason: StopReason,
    grace: Option<Duration>,
) -> StopPlan {
    let Some(spec) = spec else {
        let (grace, ladder) = (grace.unwrap_or(DEFAULT_GRACE), vec![Signal::TERM]);
        return StopPlan { reason, grace, ladder, pre_stop: None };
    };
    // A server that was never ready has no clients, so a `pre-stop` command has nothing to drain.
    let has_command = spec.hooks.pre_stop.is_some() && launch.readiness != LaunchReadiness::NotYet;
    StopPlan {
        reason,
        grace: grace.unwrap_or(spec.stop.grace),
        ladder: spec.stop.ladder.clone(),
        pre_stop: has_command.then_some(spec.hooks.timeout),
    }
}
