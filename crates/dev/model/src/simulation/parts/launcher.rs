//! The launcher, played: its rules for accepting commands, and one launch per server, which goes on when a step says so.

use std::collections::{BTreeMap, VecDeque};

use llama_warden_bus::EventDraft;
use llama_warden_component::LaunchTracker;
use llama_warden_config::Fleet;
use llama_warden_events::{
    Event, FailureReason, Incarnation, LaunchCommand, ProcessEnd, RefusalReason, Refused, Rung, Seq, ServerId, Signal,
};
use tokio::sync::watch;

use crate::simulation::Simulation;
use crate::{BrokenPromise, Preparation, SimulatedInbox, SimulatedIncoming};

/// How far a launch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LaunchStage {
    /// It publishes that it has begun.
    New,
    /// It waits until its beginning is visible.
    Beginning(Seq),
    /// It waits until its process is visible.
    Spawning(Seq),
    /// Its process runs.
    Running,
}

/// A launch whose end is not published.
#[derive(Debug)]
struct SimulatedLaunch {
    incarnation: Incarnation,
    stage: LaunchStage,
    orders: VecDeque<(Signal, Rung)>,
    is_asked_who_listens: bool,
    cause: Option<Seq>,
}

#[derive(Debug)]
pub(crate) struct LauncherPart {
    tracker: LaunchTracker<()>,
    pub(crate) inbox: SimulatedInbox<LaunchCommand>,
    live: BTreeMap<ServerId, SimulatedLaunch>,
}

impl LauncherPart {
    pub(crate) fn new(fleet: watch::Receiver<Fleet>) -> Self {
        Self { tracker: LaunchTracker::new(fleet), inbox: SimulatedInbox::default(), live: BTreeMap::new() }
    }

    /// The latest launch of a server, and whether it is over.
    pub(crate) fn belief(&self, server: &ServerId) -> Option<(Incarnation, bool)> {
        self.tracker.get(server).map(|launch| (launch.incarnation, launch.is_over))
    }

    fn live(&mut self, server: &ServerId, incarnation: Incarnation) -> Result<&mut SimulatedLaunch, Refused> {
        let live = self.live.get_mut(server).filter(|launch| launch.incarnation == incarnation);
        live.ok_or_else(|| Refused::new(RefusalReason::StaleIncarnation, "it has ended, or never began"))
    }

    fn launch(&mut self, server: &ServerId, incarnation: Incarnation, cause: Option<Seq>) -> Result<(), Refused> {
        if self.tracker.configured(server).is_none() {
            return Err(Refused::new(RefusalReason::UnknownServer, "not configured"));
        }
        if self.live.contains_key(server) {
            return Err(Refused::new(RefusalReason::WrongPhase, "a launch has not ended"));
        }
        if self.tracker.get(server).is_some_and(|launch| incarnation <= launch.incarnation) {
            return Err(Refused::new(RefusalReason::StaleIncarnation, "it has begun already"));
        }
        self.tracker.track(server, incarnation);
        let (stage, orders) = (LaunchStage::New, VecDeque::new());
        let launch = SimulatedLaunch { incarnation, stage, orders, is_asked_who_listens: false, cause };
        self.live.insert(server.clone(), launch);
        Ok(())
    }
}

impl Simulation {
    pub(crate) fn read_launcher(&mut self, command_first: bool) -> Result<bool, BrokenPromise> {
        let sent = match self.launcher.inbox.read(&self.bus, command_first) {
            None => return Ok(false),
            Some(SimulatedIncoming::Delivery(delivery)) => {
                self.launcher.tracker.on_event(&delivery);
                return Ok(true);
            }
            Some(SimulatedIncoming::Command(sent)) => sent,
        };
        match sent.command {
            LaunchCommand::LaunchServer { server, incarnation } => {
                if let Err(refused) = self.launcher.launch(&server, incarnation, sent.cause) {
                    if refused.reason != RefusalReason::UnknownServer {
                        return Err(BrokenPromise::LaunchRefused(server, incarnation, refused));
                    }
                    self.supervisor.on_refused(server, incarnation, refused);
                }
            }
            LaunchCommand::DeliverSignal { server, incarnation, signal, rung } => {
                if let Ok(launch) = self.launcher.live(&server, incarnation) {
                    launch.orders.push_back((signal, rung));
                }
            }
            LaunchCommand::IdentifyListener { server, incarnation } => match self.launcher.live(&server, incarnation) {
                Ok(launch) => launch.is_asked_who_listens = true,
                Err(refused) => self.readiness.on_refused((server, incarnation), refused),
            },
        }
        Ok(true)
    }

    pub(crate) fn miss_launcher(&mut self) -> bool {
        let Some(gap) = self.launcher.inbox.miss(&self.bus) else { return false };
        self.launcher.tracker.on_event(&gap);
        true
    }

    /// The launch of a server goes on; false if there is nothing to do for it.
    pub(crate) fn advance_launch(&mut self, server: &ServerId, outcome: Preparation) -> Result<bool, BrokenPromise> {
        let Some(launch) = self.launcher.live.get_mut(server) else { return Ok(false) };
        let (incarnation, cause) = (launch.incarnation, launch.cause);
        let draft = |event| EventDraft::incarnation(server.clone(), incarnation, event).because(cause);
        match launch.stage {
            LaunchStage::New => {
                let began = self.bus.publish(draft(Event::LaunchBegan { binary: "llama-server".into() }));
                launch.stage = LaunchStage::Beginning(began);
            }
            LaunchStage::Beginning(began) | LaunchStage::Spawning(began) if began > self.bus.latest() => {
                return Ok(false);
            }
            LaunchStage::Beginning(_) => {
                let end = match (launch.orders.pop_front(), failure(outcome)) {
                    (Some((signal, _)), _) => {
                        let end = ProcessEnd::Signaled { signal, core_dumped: false };
                        Event::ServerExited { end, swept: 0 }
                    }
                    (None, Some(reason)) => {
                        let (detail, lines) = ("it cannot start".to_owned(), Vec::new());
                        Event::ServerFailed { reason, detail, lines }
                    }
                    (None, None) => {
                        let pid = self.world.spawn(server, incarnation)?;
                        let loaded = self.world.processes.len();
                        if self.most.is_some_and(|most| loaded > most) {
                            return Err(BrokenPromise::TooManyLoaded(loaded));
                        }
                        let spawned = Event::ServerSpawned { pid, start_ticks: 1, argv: [].into(), port: 1 };
                        launch.stage = LaunchStage::Spawning(self.bus.publish(draft(spawned)));
                        return Ok(true);
                    }
                };
                self.launcher.live.remove(server);
                self.bus.publish(draft(end));
            }
            LaunchStage::Spawning(_) => launch.stage = LaunchStage::Running,
            LaunchStage::Running => {
                let Some(process) = self.world.processes.get_mut(server) else { return Ok(false) };
                if let Some(end) = process.end {
                    self.world.processes.remove(server);
                    self.launcher.live.remove(server);
                    self.bus.publish(draft(Event::ServerExited { end, swept: 0 }));
                } else if let Some((signal, rung)) = launch.orders.pop_front() {
                    process.receive(server, signal)?;
                    self.bus.publish(draft(Event::SignalDelivered { signal, rung }));
                } else if std::mem::take(&mut launch.is_asked_who_listens) {
                    let listener = self.world.listener(server);
                    self.bus.publish(draft(Event::ListenerIdentified { listener }));
                } else {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

const fn failure(outcome: Preparation) -> Option<FailureReason> {
    match outcome {
        Preparation::Spawned => None,
        Preparation::ExecFails => Some(FailureReason::SpawnFailed),
        Preparation::Broken => Some(FailureReason::BinaryBroken),
        Preparation::ModelMissing => Some(FailureReason::ModelNotFound),
        Preparation::ModelInvalid => Some(FailureReason::ModelInvalid),
        Preparation::BadArgument => Some(FailureReason::BadArgument),
        Preparation::PortTaken => Some(FailureReason::PortInUse),
    }
}
