//! The component: follows ready servers, checks them in time, and publishes what their machines decide.
//!
//! Checks run as tasks of their own, so that one slow server delays no other. Their number is bounded: one at a time for
//! each ready server, each with a time limit.

use std::sync::Arc;

use llama_warden_bus::{Accepted, BusClosed, Clock, Delivery, EventDraft, OutputLane, Publisher, ReceivedCommand};
use llama_warden_component::{
    Component, Context, LaunchChange, LaunchReadiness, LaunchTracker, LaunchedProcess, Ports, Transition, Worker,
    next_task,
};
use llama_warden_config::{Fleet, ServerSpec};
use llama_warden_events::{
    Event, HealthCommand, Incarnation, RefusalReason, Refused, Seq, ServerId, StreamName, Uptime,
};
use llama_warden_probe::Target;
use llama_warden_state::Snapshot;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::check::{CheckReport, CheckTarget, check};
use crate::cpu::Leader;
use crate::machine::{HealthMachine, HealthState};

/// How many lines of output go with a failure, and how much of each, in characters.
const LAST_LINES: (usize, usize) = (12, 512);

/// Watches ready servers.
#[derive(Debug)]
pub struct Health {
    fleet: watch::Receiver<Fleet>,
    lane: OutputLane,
}

impl Health {
    /// Watches the servers in force, by their specifications. Of the lane it reads the last lines of one that failed.
    pub fn build(context: &Context) -> Self {
        Self { fleet: context.fleet(), lane: context.lane().clone() }
    }
}

impl Component for Health {
    const NAME: &'static str = "health";
    type Command = HealthCommand;
    type Error = BusClosed;

    async fn run(self, ports: Ports<HealthCommand>) -> Result<(), BusClosed> {
        let worker = HealthWorker {
            launches: LaunchTracker::new(self.fleet.clone()),
            fleet: self.fleet,
            lane: self.lane,
            events: ports.events.clone(),
            clock: ports.clock,
            checks: JoinSet::new(),
        };
        ports.drive(worker).await
    }
}

type CheckedLaunch = (ServerId, Incarnation);

struct HealthWorker {
    /// The latest launches; those that are watched have a monitor.
    launches: LaunchTracker<Option<Monitor>>,
    fleet: watch::Receiver<Fleet>,
    lane: OutputLane,
    events: Publisher,
    clock: Clock,
    checks: JoinSet<(CheckedLaunch, CheckReport)>,
}

/// Checks one server that is ready, or was.
#[derive(Debug)]
struct Monitor {
    machine: HealthMachine,
    /// The specification that it was launched with says where and how it is asked.
    spec: Arc<ServerSpec>,
    process: LaunchedProcess,
    /// The event that made it ready, where it was not missed.
    cause: Option<Seq>,
}

/// Wakes the component, like events.
enum HealthInput {
    Checked(Result<(CheckedLaunch, CheckReport), JoinError>),
    FleetChanged,
}

impl Worker for HealthWorker {
    type Command = HealthCommand;
    type Error = BusClosed;
    type Input = HealthInput;

    async fn on_start(&mut self, snapshot: &Snapshot, now: Uptime) -> Result<(), BusClosed> {
        let changes = self.launches.on_snapshot(snapshot);
        self.follow(changes, now);
        Ok(())
    }

    async fn on_event(&mut self, delivery: Delivery, now: Uptime) -> Result<(), BusClosed> {
        let changes = self.launches.on_event(&delivery);
        self.follow(changes, now);
        Ok(())
    }

    async fn on_command(&mut self, command: ReceivedCommand<HealthCommand>, now: Uptime) -> Result<(), BusClosed> {
        let (HealthCommand::CheckServer { server, incarnation }, _, answer) = command.split();
        let launch = self.launches.launch_mut(&server, incarnation);
        answer(match launch.and_then(|launch| launch.state.as_mut()) {
            Some(monitor) => {
                monitor.machine.ask(now);
                Ok(Accepted { id: None })
            }
            None => {
                let detail = format!("launch {incarnation} of {server} is not watched");
                Err(Refused::new(RefusalReason::StaleIncarnation, detail))
            }
        });
        Ok(())
    }

    fn next_deadline(&self) -> Option<Uptime> {
        let monitors = self.launches.iter().filter_map(|(_, launch)| launch.state.as_ref());
        monitors.filter_map(|monitor| monitor.machine.next_deadline()).min()
    }

    async fn on_deadline(&mut self, now: Uptime) -> Result<(), BusClosed> {
        for (server, launch) in self.launches.iter_mut() {
            let Some(monitor) = &mut launch.state else { continue };
            if let Some(order) = monitor.machine.begin_check(now) {
                let key = (server.clone(), launch.incarnation);
                // Made anew for each check: whatever a monitor keeps is kept for hundreds of servers.
                let server_target = Target::new(&monitor.spec, monitor.process.port);
                let LaunchedProcess { pid, start_ticks, .. } = monitor.process;
                let target = CheckTarget {
                    target: server_target,
                    leader: Leader { pid, start_ticks },
                    clock: self.clock,
                    may_sleep: monitor.spec.may_sleep(),
                };
                self.checks.spawn(async move { (key, check(&target, order).await) });
            }
        }
        Ok(())
    }

    async fn next_input(&mut self) -> HealthInput {
        tokio::select! {
            checked = next_task(&mut self.checks) => HealthInput::Checked(checked),
            // Pending for ever once no other configuration can come.
            Ok(()) = self.fleet.changed() => HealthInput::FleetChanged,
        }
    }

    async fn on_input(&mut self, input: HealthInput, now: Uptime) -> Result<(), BusClosed> {
        match input {
            HealthInput::Checked(Ok((key, report))) => self.on_checked(key, report, now).await?,
            // Checks do not panic; if one did, its server goes unwatched, which someone must know.
            HealthInput::Checked(Err(error)) => {
                tracing::error!(%error, "a check of a server failed; it is not watched any more");
            }
            HealthInput::FleetChanged => self.on_fleet_changed(now),
        }
        Ok(())
    }
}

impl HealthWorker {
    fn follow(&mut self, changes: Vec<LaunchChange<Option<Monitor>>>, now: Uptime) {
        for LaunchChange { server, incarnation, cause, transition, .. } in changes {
            let Some(launch) = self.launches.launch_mut(&server, incarnation) else { continue };
            match transition {
                Transition::BecameReady(_) => {
                    let (Some(spec), Some(process)) = (launch.spec.clone(), launch.process) else { continue };
                    // After a gap it may have lost its readiness already.
                    let state = match launch.readiness {
                        LaunchReadiness::Lost => HealthState::Lost,
                        _ => HealthState::Ready,
                    };
                    let machine = HealthMachine::new(spec.health.clone(), state, now, fastrand::f64());
                    launch.state = Some(Monitor { machine, spec, process, cause });
                }
                // A check that is under way ends within its time limits, and its result is dropped.
                Transition::StopBegan(_) | Transition::Failed(_) => launch.state = None,
                _ => {}
            }
        }
    }

    /// A server that left the configuration keeps its settings for as long as it runs.
    fn on_fleet_changed(&mut self, now: Uptime) {
        let fleet = self.launches.fleet();
        for (server, launch) in self.launches.iter_mut() {
            if let (Some(monitor), Some(spec)) = (&mut launch.state, fleet.get(server.as_str())) {
                monitor.machine.change_settings(spec.health.clone(), now);
            }
        }
    }

    async fn on_checked(&mut self, key: CheckedLaunch, report: CheckReport, now: Uptime) -> Result<(), BusClosed> {
        let (server, incarnation) = key;
        let launch = self.launches.launch_mut(&server, incarnation);
        let Some(monitor) = launch.and_then(|launch| launch.state.as_mut()) else { return Ok(()) };
        let cause = monitor.cause;
        for mut event in monitor.machine.finish_check(report, now) {
            if let Event::ServerFailed { lines, .. } = &mut event {
                *lines = last_lines(&self.lane, &server);
            }
            let draft = EventDraft::incarnation(server.clone(), incarnation, event);
            self.events.publish(draft.because(cause)).await?;
        }
        Ok(())
    }
}

fn last_lines(lane: &OutputLane, server: &ServerId) -> Vec<String> {
    let lines = lane.tail(server, Some(StreamName::Stderr), LAST_LINES.0);
    lines.iter().map(|line| String::from_utf8_lossy(&line.bytes).chars().take(LAST_LINES.1).collect()).collect()
}
