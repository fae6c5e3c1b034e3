//! One run: what exists, and what each step does to it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use llama_warden_bus::EventDraft;
use llama_warden_config::{AdmissionPolicy, Fleet};
use llama_warden_events::{Envelope, Event, Incarnation, ProcessEnd, Seq, ServerId, Signal, SuperviseCommand, Uptime};
use llama_warden_readiness::HintStrength;
use llama_warden_room::RoomRules;
use llama_warden_state::{PhaseName, Snapshot};
use llama_warden_supervisor::{RoutingPolicy, SupervisorLimits};
use tokio::sync::watch;

mod parts;

use crate::step::{Act, Outside, Part, Preparation, SimulationStep, StopHaste, UserCommand};
use crate::{BrokenPromise, Manner, Promises, SERVERS, SimulatedBus, World, configuration};
use parts::{HealthPart, HooksPart, LauncherPart, ReadinessPart, RouterPart, SupervisorPart, TerminatorPart};

/// Memory for every server.
const PLENTY: u64 = 100;
/// Rounds of one moment, and moments of a fleet that comes to rest, before the run is said never to rest.
const ROUNDS: usize = 2_000;
/// Longer than every limit of the configuration: a deadline that is farther away does not keep the fleet from resting.
const FAR: Duration = Duration::from_secs(600);

/// The settings of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulationSettings {
    /// How many servers may load at a time.
    pub starts: Option<usize>,
    /// What happens where memory does not suffice.
    pub memory: AdmissionPolicy,
    /// How many servers the router lets run at a time; `None` is no router, 0 no limit.
    pub routed: Option<usize>,
    /// The seed of the jitter of restarts.
    pub seed: u64,
    /// The configuration at the start.
    pub states: [u8; SERVERS],
}

/// A promise that was broken, with the events that led there.
#[derive(Debug)]
pub struct Broken {
    /// The promise.
    pub violation: BrokenPromise,
    /// Every event, one a line.
    pub log: String,
}

/// The configuration file and the profile in force.
#[derive(Debug)]
pub(crate) struct ConfigurationFile {
    pub(crate) states: [u8; SERVERS],
    pub(crate) is_valid: bool,
    pub(crate) in_force: [u8; SERVERS],
    pub(crate) profile: u8,
}

/// A daemon, its servers and its users.
#[derive(Debug)]
pub struct Simulation {
    pub(crate) now: Uptime,
    pub(crate) bus: SimulatedBus,
    pub(crate) world: World,
    pub(crate) file: ConfigurationFile,
    pub(crate) promises: Promises,
    pub(crate) supervisor: SupervisorPart,
    pub(crate) launcher: LauncherPart,
    pub(crate) terminator: TerminatorPart,
    pub(crate) readiness: ReadinessPart,
    pub(crate) health: HealthPart,
    pub(crate) hooks: HooksPart,
    pub(crate) router: RouterPart,
    /// How many processes may run at a time.
    pub(crate) most: Option<usize>,
    is_routed: bool,
    requests: u64,
    /// Steps that did something.
    work: u64,
}

impl Simulation {
    /// A daemon that has just started.
    pub fn new(settings: &SimulationSettings) -> Self {
        let fleet = configuration::fleet(settings.states, 0);
        let (sender, receiver) = watch::channel(fleet);
        let most = settings.routed.filter(|most| *most > 0);
        let rules = RoomRules { max_loaded: most, ..RoomRules::default() };
        let routing = RoutingPolicy { is_on: settings.routed.is_some(), rules, ..RoutingPolicy::default() };
        let limits = SupervisorLimits {
            shutdown: Duration::from_secs(30),
            starts: settings.starts,
            memory: settings.memory,
            routing,
        };
        Self {
            now: Uptime::default(),
            bus: SimulatedBus::default(),
            world: World { free_memory: PLENTY, ..World::default() },
            file: ConfigurationFile { states: settings.states, is_valid: true, in_force: settings.states, profile: 0 },
            promises: Promises::new(settings.routed.is_some()),
            supervisor: SupervisorPart::new(limits, settings.seed, sender),
            launcher: LauncherPart::new(receiver.clone()),
            terminator: TerminatorPart::new(receiver.clone()),
            readiness: ReadinessPart::new(receiver.clone()),
            health: HealthPart::new(receiver),
            hooks: HooksPart::new(),
            router: RouterPart::default(),
            most,
            is_routed: settings.routed.is_some(),
            requests: 0,
            work: 0,
        }
    }

    /// Does the steps, comes to rest, shuts down, and returns how many steps did something.
    ///
    /// # Errors
    /// If a promise was broken.
    pub fn run(settings: &SimulationSettings, steps: &[SimulationStep]) -> Result<u64, Box<Broken>> {
        let mut simulation = Self::new(settings);
        let result = simulation.all(steps);
        result.map_err(|violation| Box::new(Broken { violation, log: simulation.log() }))?;
        Ok(simulation.work)
    }

    fn all(&mut self, steps: &[SimulationStep]) -> Result<(), BrokenPromise> {
        self.promises.begin(&self.fleet());
        self.start_supervisor()?;
        for step in steps {
            if self.promises.has_ended() {
                break;
            }
            if self.step(step)? {
                self.work += 1;
            }
        }
        self.come_to_rest()?;
        if !self.promises.is_shutting_down() {
            if let Some(server) = self.router.waiting() {
                return Err(BrokenPromise::Unserved(server.clone()));
            }
            self.promises.at_rest(self.bus.snapshot(), &self.fleet())?;
            self.command(UserCommand::ShutDown(StopHaste::Graceful));
            self.come_to_rest()?;
        }
        self.promises.at_rest(self.bus.snapshot(), &self.fleet())?;
        self.check_trackers()?;
        self.check_log()
    }

    /// Does one step, and says whether it did something.
    fn step(&mut self, step: &SimulationStep) -> Result<bool, BrokenPromise> {
        match step {
            SimulationStep::Command(command) => self.command(*command),
            SimulationStep::Sequence(count) => {
                for _ in 0..*count {
                    if !self.sequence()? {
                        break;
                    }
                }
            }
            SimulationStep::Read { part, command_first } => return self.read(*part, *command_first),
            SimulationStep::Miss(part) => return self.miss(*part),
            SimulationStep::Finish { part, task } => return self.finish(*part, usize::from(*task)),
            SimulationStep::Deadline(part) => return self.deadline(*part),
            SimulationStep::Wait(time) => self.now = self.now + *time,
            SimulationStep::Launch { server, outcome } => {
                return self.advance_launch(&configuration::server(*server), *outcome);
            }
            SimulationStep::Process { server, act } => return Ok(self.act(&configuration::server(*server), *act)),
            SimulationStep::Traffic { server, traffic } => {
                return Ok(self.is_routed && self.traffic(&configuration::server(*server), *traffic));
            }
            SimulationStep::Outside(change) => return self.change_outside(*change),
            SimulationStep::Settle => self.settle(false)?,
        }
        Ok(true)
    }

    fn command(&mut self, command: UserCommand) {
        self.requests += 1;
        self.promises.on_request(self.requests);
        self.supervisor.send(&self.bus, command, self.requests);
    }

    /// The router sends a command.
    pub(crate) fn send_to_supervisor(&mut self, command: SuperviseCommand) {
        self.requests += 1;
        self.promises.on_request(self.requests);
        self.supervisor.send_command(&self.bus, command, self.requests);
    }

    pub(crate) fn fleet(&self) -> Fleet {
        self.supervisor.fleet()
    }

    pub(crate) fn publish(&mut self, draft: EventDraft) -> Seq {
        self.bus.publish(draft)
    }

    /// Publishes an event and waits until it is visible.
    pub(crate) fn publish_acked(&mut self, draft: EventDraft) -> Result<Seq, BrokenPromise> {
        let seq = self.bus.publish(draft);
        while self.sequence()? {}
        Ok(seq)
    }

    /// Numbers the oldest published event; false if there is none.
    fn sequence(&mut self) -> Result<bool, BrokenPromise> {
        let before = Arc::clone(self.bus.snapshot());
        let Some(envelope) = self.bus.sequence(self.now) else { return Ok(false) };
        self.work += 1;
        self.promises.on_event(&envelope, &before, &self.world)?;
        Ok(true)
    }

    fn read(&mut self, part: Part, command_first: bool) -> Result<bool, BrokenPromise> {
        match part {
            Part::Supervisor => self.read_supervisor(command_first),
            Part::Launcher => self.read_launcher(command_first),
            Part::Terminator => self.read_terminator(command_first),
            Part::Readiness => self.read_readiness(),
            Part::Health => self.read_health(),
            Part::Hooks => self.read_hooks(command_first),
            Part::Router => self.read_router(command_first),
        }
    }

    fn miss(&mut self, part: Part) -> Result<bool, BrokenPromise> {
        match part {
            Part::Supervisor => self.miss_supervisor(),
            Part::Launcher => Ok(self.miss_launcher()),
            Part::Terminator => self.miss_terminator(),
            Part::Readiness => self.miss_readiness(),
            Part::Health => Ok(self.miss_health()),
            Part::Hooks => Ok(self.hooks.inbox.miss(&self.bus).is_some()),
            Part::Router => Ok(self.router.inbox.miss(&self.bus).is_some()),
        }
    }

    fn finish(&mut self, part: Part, task: usize) -> Result<bool, BrokenPromise> {
        match part {
            Part::Supervisor => self.finish_supervisor(task),
            Part::Launcher | Part::Router => Ok(false),
            Part::Terminator => self.finish_terminator(),
            Part::Readiness => self.finish_readiness(task),
            Part::Health => Ok(self.finish_health(task)),
            Part::Hooks => Ok(self.finish_hook(task)),
        }
    }

    fn deadline(&mut self, part: Part) -> Result<bool, BrokenPromise> {
        if self.next_deadline(part).is_none_or(|due| due > self.now) {
            return Ok(false);
        }
        match part {
            Part::Supervisor => self.deadline_supervisor()?,
            Part::Terminator => self.deadline_terminator()?,
            Part::Readiness => self.deadline_readiness()?,
            Part::Health => self.deadline_health(),
            Part::Router => self.deadline_router(),
            Part::Launcher | Part::Hooks => {}
        }
        Ok(true)
    }

    fn next_deadline(&self, part: Part) -> Option<Uptime> {
        match part {
            Part::Supervisor => self.supervisor.machine.next_deadline(),
            Part::Terminator => self.terminator.machine.next_deadline(),
            Part::Readiness => self.readiness.next_deadline(),
            Part::Health => self.health.next_deadline(),
            Part::Router => self.router.next_deadline(),
            Part::Launcher | Part::Hooks => None,
        }
    }

    /// A process does something; false if it is not there.
    fn act(&mut self, server: &ServerId, act: Act) -> bool {
        let is_taken = self.world.strangers.contains_key(server);
        let Some(process) = self.world.alive(server) else { return false };
        match act {
            // A build that cannot bind its port ends.
            Act::Load | Act::Serve if is_taken && process.manner == Manner::Closed => {
                process.ending = Some(ProcessEnd::Exited { code: 1 });
            }
            Act::Load if process.manner == Manner::Closed => process.manner = Manner::Loading,
            Act::Load => return false,
            Act::Serve => process.manner = Manner::Serving,
            Act::Compute if process.manner != Manner::Closed => process.manner = Manner::Busy,
            Act::Hang if process.manner != Manner::Closed => process.manner = Manner::Wedged,
            Act::Compute | Act::Hang => return false,
            Act::Exit(code) => process.ending = Some(ProcessEnd::Exited { code }),
            Act::Crash => {
                process.ending = Some(ProcessEnd::Signaled { signal: Signal::ABRT, core_dumped: false });
            }
            Act::RunOutOfMemory => process.ending = Some(ProcessEnd::OutOfMemory),
            Act::IgnoreSignals => process.ignores_signals = true,
            Act::GetStuck => process.is_stuck = true,
            Act::GetReleased => process.is_stuck = false,
            Act::Obey => {}
            Act::ServeOther => process.serves_other_model = true,
            Act::Hint => process.hint(HintStrength::Ready),
            Act::Storm => {
                process.output.progress = Some(Some(50.0));
                process.output.last_line = Some(self.now);
                process.hint(HintStrength::NearlyReady);
            }
        }
        process.end_if_due();
        true
    }

    fn change_outside(&mut self, change: Outside) -> Result<bool, BrokenPromise> {
        match change {
            Outside::EditFile(states) => {
                self.file.states = states;
                self.file.is_valid = true;
            }
            Outside::BreakFile => self.file.is_valid = false,
            Outside::TakePort(server) => {
                let server = configuration::server(server);
                if self.world.alive(&server).is_some_and(|process| process.manner != Manner::Closed) {
                    return Ok(false);
                }
                self.world.strangers.insert(server, ());
            }
            Outside::LeavePort(server) => {
                return Ok(self.world.strangers.remove(&configuration::server(server)).is_some());
            }
            Outside::Memory(units) => self.world.free_memory = u64::from(units),
            Outside::FileChanges(server) => return self.change_file(&configuration::server(server)),
        }
        Ok(true)
    }

    /// Lets everything happen that needs no time. With `kindly`, what is outside helps: processes serve, ports are free.
    fn settle(&mut self, kindly: bool) -> Result<(), BrokenPromise> {
        for _ in 0..ROUNDS {
            let mut has_changed = self.sequence()?;
            for part in Part::ALL {
                for done in [self.read(part, false)?, self.finish(part, 0)?, self.deadline(part)?] {
                    self.work += u64::from(done);
                    has_changed |= done;
                }
            }
            for number in 0..SERVERS as u8 {
                let server = configuration::server(number);
                has_changed |= self.advance_launch(&server, Preparation::Spawned)?;
                if kindly {
                    has_changed |= self.be_kind(&server);
                }
            }
            if kindly {
                has_changed |= self.respond_to_all();
            }
            if !has_changed {
                return Ok(());
            }
        }
        Err(BrokenPromise::NoRest(format!("at {:?}", self.now)))
    }

    /// A process that lives serves, or obeys; says whether that is a change.
    fn be_kind(&mut self, server: &ServerId) -> bool {
        let Some(process) = self.world.alive(server) else { return false };
        process.is_stuck = false;
        process.end_if_due();
        let is_new = process.end.is_some() || process.manner != Manner::Serving || process.serves_other_model;
        process.manner = Manner::Serving;
        process.serves_other_model = false;
        is_new
    }

    /// Lets time pass, kindly, until nothing is due any more.
    fn come_to_rest(&mut self) -> Result<(), BrokenPromise> {
        self.world.strangers.clear();
        self.world.free_memory = PLENTY;
        for _ in 0..ROUNDS {
            self.settle(true)?;
            if self.promises.has_ended() {
                return self.settle(true);
            }
            // Checks of ready servers go on for ever. They matter only until every server answers again.
            let is_lost = self.bus.snapshot().servers.values().any(|record| record.phase.name() == PhaseName::Unready);
            let parts = [Part::Supervisor, Part::Terminator, Part::Readiness, Part::Router];
            let parts = parts.into_iter().chain(is_lost.then_some(Part::Health));
            let next = parts.filter_map(|part| self.next_deadline(part)).min();
            match next.filter(|next| next.since(self.now) < FAR) {
                Some(next) => self.now = self.now.max(next),
                None => return Ok(()),
            }
        }
        Err(BrokenPromise::NoRest("as a whole".to_owned()))
    }

    /// Every component that follows launches believes what the snapshot says.
    fn check_trackers(&self) -> Result<(), BrokenPromise> {
        let snapshot = self.bus.snapshot();
        for (server, record) in &snapshot.servers {
            let is_over = |known: Option<(Incarnation, bool)>| match known {
                Some((incarnation, is_over)) => incarnation == record.incarnation && is_over != record.is_running(),
                None => record.incarnation == Incarnation::default(),
            };
            let beliefs = [("readiness", self.readiness.belief(server)), ("launcher", self.launcher.belief(server))];
            for (part, belief) in beliefs.into_iter().chain([("health", self.health.belief(server))]) {
                // A launch that was refused has no events but its failure.
                let was_refused = record
                    .failure
                    .as_ref()
                    .is_some_and(|failure| failure.reason == llama_warden_events::FailureReason::Refused);
                if !is_over(belief) && !was_refused {
                    return Err(BrokenPromise::Tracker(part, server.clone()));
                }
            }
        }
        Ok(())
    }

    /// The log, written and read again, leads to the snapshot, and no event was impossible.
    fn check_log(&self) -> Result<(), BrokenPromise> {
        let snapshot = self.bus.snapshot();
        let mut replayed = Snapshot::new(snapshot.boot);
        let mut removed = BTreeMap::<_, Incarnation>::new();
        for envelope in self.bus.log() {
            let written = serde_json::to_string(&**envelope).map_err(|_| BrokenPromise::Replay)?;
            let read: Envelope = serde_json::from_str(&written).map_err(|_| BrokenPromise::Replay)?;
            // An event may cross the removal of its server, even if it is configured again, or the beginning of the next launch.
            let is_stale = read.server.as_ref().is_some_and(|server| {
                let Some(record) = replayed.servers.get(server) else { return true };
                let dropped = removed.entry(server.clone()).or_default();
                if let Event::ServerRemoved = read.event {
                    *dropped = record.incarnation.max(*dropped);
                }
                read.incarnation.is_some_and(|launch| launch < record.incarnation || launch <= *dropped)
            });
            let before = replayed.anomalies;
            replayed.apply(&read);
            if replayed.anomalies > before && !is_stale {
                return Err(BrokenPromise::Anomalies(read.seq.get(), read.event.kind().to_owned()));
            }
        }
        if replayed == **snapshot { Ok(()) } else { Err(BrokenPromise::Replay) }
    }

    /// Every event, one a line.
    fn log(&self) -> String {
        let mut log = String::new();
        for envelope in self.bus.log() {
            let Envelope { seq, elapsed, server, incarnation, cause, event, .. } = &**envelope;
            let server = server.as_ref().map(ServerId::as_str).unwrap_or_default();
            let launch = incarnation.map(|incarnation| format!("#{incarnation}")).unwrap_or_default();
            let at = elapsed.as_duration().as_secs_f64();
            let text = match event {
                Event::ServerConfigured { .. } | Event::ProfilesConfigured { .. } => event.kind().to_owned(),
                event => format!("{event:?}"),
            };
            // Writing into a string cannot fail.
            let _ = writeln!(log, "{seq:>5} {at:>9.3} {server}{launch} {text} because of {cause:?}");
        }
        log
    }
}
