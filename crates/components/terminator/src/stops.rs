//! The stops of all servers as a plain state machine: commands, events and answers in, actions out.
//!
//! Invariant: a launch has at most one [`StopMachine`], which ends with the launch. A repeated command joins it.

use std::time::Duration;

use llama_warden_bus::Delivery;
use llama_warden_component::{LaunchChange, LaunchReadiness, LaunchTracker, TrackedLaunch, Transition};
use llama_warden_config::{Fleet, ServerSpec};
use llama_warden_events::{
    Event, HookPoint, Incarnation, RefusalReason, Refused, Seq, ServerId, Signal, StopReason, TerminateCommand, Uptime,
    Warning,
};
use llama_warden_state::Snapshot;
use tokio::sync::watch;

use crate::machine::{StopAction, StopMachine, StopPlan};

/// For a server that is no longer configured.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// One step that the terminator wants done, about one launch.
#[derive(Debug, Clone, PartialEq)]
pub struct TerminatorAction {
    /// The server.
    pub server: ServerId,
    /// Its launch.
    pub incarnation: Incarnation,
    /// The event or command that led to it.
    pub cause: Option<Seq>,
    /// The step.
    pub action: StopAction,
}

/// A stop that is under way.
#[derive(Debug)]
struct OpenStop {
    machine: StopMachine,
    cause: Option<Seq>,
}

/// Every stop that is under way.
#[derive(Debug)]
pub struct TerminatorMachine {
    /// The latest launches, each with its stop.
    launches: LaunchTracker<Option<OpenStop>>,
}

impl TerminatorMachine {
    /// No stop yet. Grace and ladder of each server are read from `fleet`.
    pub const fn new(fleet: watch::Receiver<Fleet>) -> Self {
        Self { launches: LaunchTracker::new(fleet) }
    }

    /// Takes what is known at the start: no stop is open yet, so that no change asks for anything.
    pub fn start_from(&mut self, snapshot: &Snapshot) {
        self.launches.on_snapshot(snapshot);
    }

    /// Applies an event, or the snapshot of a gap.
    pub fn on_event(&mut self, delivery: &Delivery) -> Vec<TerminatorAction> {
        let mut actions = Vec::new();
        for LaunchChange { server, incarnation, cause, at, transition } in self.launches.on_event(delivery) {
            match transition {
                Transition::HookCompleted(HookPoint::PreStop, _) => {
                    actions.extend(self.on_pre_stop_over(&server, incarnation, at));
                }
                Transition::Ended { launch, .. } => {
                    let Some(stop) = launch.state else { continue };
                    let action = StopAction::Publish(stop.machine.finish(at));
                    actions.push(TerminatorAction { server, incarnation, cause: stop.cause.or(cause), action });
                }
                _ => {}
            }
        }
        actions
    }

    /// Begins the stop that a command asks for, or joins the one under way.
    ///
    /// # Errors
    /// If the launch is over.
    pub fn on_command(
        &mut self,
        command: TerminateCommand,
        cause: Option<Seq>,
        now: Uptime,
    ) -> Result<Vec<TerminatorAction>, Refused> {
        let TerminateCommand::TerminateServer { server, incarnation, reason, grace } = command;
        // A launch that was asked for a moment ago may be stopped before it has begun.
        let spec = self.launches.spec(&server);
        let Some(launch) = self.launches.track(&server, incarnation) else {
            let detail = format!("launch {incarnation} of `{server}` is over");
            return Err(Refused::new(RefusalReason::StaleIncarnation, detail));
        };
        let actions = match &mut launch.state {
            Some(stop) => stop.machine.join(grace, now),
            None => {
                let (machine, actions) = StopMachine::begin(plan(launch, spec.as_deref(), reason, grace), now);
                launch.state = Some(OpenStop { machine, cause });
                actions
            }
        };
        Ok(about(&server, incarnation, cause, actions))
    }

    /// The `pre-stop` command of a launch cannot be run: its stop goes on without it.
    pub fn on_pre_stop_refused(
        &mut self,
        server: &ServerId,
        incarnation: Incarnation,
        refused: &Refused,
        now: Uptime,
    ) -> Vec<TerminatorAction> {
        let detail = format!("{}: {refused}", HookPoint::PreStop);
        let warned = StopAction::Publish(Event::ServerWarned { warning: Warning::HookFailed, detail });
        let mut actions = about(server, incarnation, None, vec![warned]);
        actions.extend(self.on_pre_stop_over(server, incarnation, now));
        actions
    }

    /// When [`Self::on_deadline`] has something to do; `None` is never.
    pub fn next_deadline(&self) -> Option<Uptime> {
        let stops = self.launches.iter().filter_map(|(_, launch)| launch.state.as_ref());
        stops.filter_map(|stop| stop.machine.next_deadline()).min()
    }

    /// Sends what is due.
    pub fn on_deadline(&mut self, now: Uptime) -> Vec<TerminatorAction> {
        let due = self.launches.iter_mut().filter_map(|(server, launch)| {
            let stop = launch.state.as_mut()?;
            Some(about(server, launch.incarnation, stop.cause, stop.machine.on_deadline(now)))
        });
        due.flatten().collect()
    }

    /// The `pre-stop` command has ended, or cannot be run: the first signal is due.
    fn on_pre_stop_over(&mut self, server: &ServerId, incarnation: Incarnation, now: Uptime) -> Vec<TerminatorAction> {
        let launch = self.launches.launch_mut(server, incarnation);
        let Some(stop) = launch.and_then(|launch| launch.state.as_mut()) else { return Vec::new() };
        about(server, incarnation, stop.cause, stop.machine.on_pre_stop_over(now))
    }
}

fn about(
    server: &ServerId,
    incarnation: Incarnation,
    cause: Option<Seq>,
    actions: Vec<StopAction>,
) -> Vec<TerminatorAction> {
    actions.into_iter().map(|action| TerminatorAction { server: server.clone(), incarnation, cause, action }).collect()
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
