//! The component: gives events, output and answers to the machine of each launch, and performs its actions.
//!
//! Probes, identity checks and commands run as tasks of their own, so that one slow server delays no other. Their number is
//! bounded: a machine has at most two probes and one confirmation in flight, each with a time limit.
//!
//! Before a machine gets an answer or a deadline, it gets the output that came before: a line decides by which hint a server
//! counts as ready, and it is a sign of life.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use llama_warden_bus::{BusClosed, Clock, CommandSender, Delivery, EventDraft, OutputLane, Publisher};
use llama_warden_component::{Component, Ports};
use llama_warden_config::{Fleet, ServerSpec};
use llama_warden_detectors::{Matcher, Pack, PackSet, ProbeWay};
use llama_warden_events::{
    BinaryIdentity, Envelope, Event, Incarnation, LaunchCommand, ListenerOwner, NoCommand, ProcessEnd, Seq, ServerId,
    Uptime,
};
use llama_warden_plugin_files::PluginFile as _;
use llama_warden_probe::{Target, model_names, probe};
use llama_warden_state::{Phase, ProcessRecord, ServerRecord, Snapshot};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::identity;
use crate::machine::{Probeable, ReadinessAction, ReadinessInput, ReadinessMachine, ReadinessPolicy};
use crate::pack_reloader::PackReloader;
use crate::tap::{LaunchKey, LaunchOutputs, SharedOutput, lock};

/// The component: one verdict per launch, ready or the reason why not.
pub struct Readiness {
    fleet: watch::Receiver<Fleet>,
    packs: PackReloader,
    outputs: Arc<LaunchOutputs>,
    make_matcher: Option<Arc<MatcherMaker>>,
}

type MatcherMaker = dyn Fn(&ServerSpec, u16) -> Option<Box<dyn Matcher>> + Send + Sync;

/// Why the component ended without being cancelled.
#[derive(Debug, thiserror::Error)]
pub enum ReadinessError {
    /// The bus is closed: no event arrives or leaves any more.
    #[error("lost the line of events: {0}")]
    Bus(#[from] BusClosed),
}

impl Readiness {
    /// Creates the component, and registers its taps on the lane at once, so that no line of a first launch is missed.
    pub fn new(fleet: watch::Receiver<Fleet>, packs: PackSet, lane: &OutputLane) -> Self {
        let outputs = Arc::new(LaunchOutputs::new(packs.clone()));
        lane.register_taps(outputs.clone());
        Self { fleet, packs: PackReloader::new(packs, None), outputs, make_matcher: None }
    }

    /// Reloads packs from `directory` (absolute) while the daemon runs; they are in force from the next launch on. `None`
    /// watches nothing.
    #[must_use]
    pub fn watching(mut self, directory: Option<PathBuf>) -> Self {
        self.packs = PackReloader::new(self.packs.packs().clone(), directory);
        self
    }

    /// Uses the matcher that `make` returns for a server and its port, instead of the patterns of the detector pack. `None`
    /// keeps the patterns. The pack still says how to probe.
    #[must_use]
    pub fn with_matchers(
        mut self,
        make: impl Fn(&ServerSpec, u16) -> Option<Box<dyn Matcher>> + Send + Sync + 'static,
    ) -> Self {
        self.make_matcher = Some(Arc::new(make));
        self
    }
}

impl Component for Readiness {
    const NAME: &'static str = "readiness";
    type Command = NoCommand;
    type Error = ReadinessError;

    async fn run(self, ports: Ports<NoCommand>) -> Result<(), ReadinessError> {
        let (mut subscription, _) = ports.inbox.split();
        let mut worker = ReadinessWorker {
            readiness: self,
            events: ports.events,
            commands: ports.commands,
            clock: ports.clock,
            chosen_packs: BTreeMap::new(),
            stopping: BTreeSet::new(),
            launches: BTreeMap::new(),
            tasks: JoinSet::new(),
        };
        worker.readiness.packs.open();
        worker.catch_up(&subscription.snapshot()).await?;
        loop {
            let deadline = worker.next_deadline();
            tokio::select! {
                () = ports.cancel.cancelled() => return Ok(()),
                delivery = subscription.next() => match delivery {
                    Some(Delivery::Event(envelope)) => worker.on_event(&envelope).await?,
                    Some(Delivery::Gap { snapshot, .. }) => worker.catch_up(&snapshot).await?,
                    None => return Err(BusClosed.into()),
                },
                () = worker.readiness.outputs.changed() => worker.on_output().await?,
                reloaded = worker.readiness.packs.next_reload() => worker.on_packs_reloaded(reloaded).await?,
                Some(done) = worker.tasks.join_next() => worker.on_task_done(done).await?,
                () = ports.clock.sleep_until(deadline) => worker.on_deadline().await?,
            }
        }
    }
}

/// The launch that a task worked for, and the input for its machine, if there is one.
type TaskResult = (LaunchKey, Option<ReadinessInput>);

struct ReadinessWorker {
    readiness: Readiness,
    events: Publisher,
    commands: CommandSender,
    clock: Clock,
    /// Packs of launches that have no process yet.
    chosen_packs: BTreeMap<LaunchKey, Pack>,
    /// Launches that were stopped before they had a process: they are not tracked when it appears.
    stopping: BTreeSet<LaunchKey>,
    launches: BTreeMap<LaunchKey, WatchedLaunch>,
    tasks: JoinSet<TaskResult>,
}

struct WatchedLaunch {
    machine: ReadinessMachine,
    output: SharedOutput,
    /// `None` after the verdict, when nothing is asked any more.
    probe: Option<Arc<ProbeSettings>>,
    /// The `ServerSpawned` event: the cause of what a probe or a line leads to.
    spawned: Option<Seq>,
}

/// Where to ask a server, and the names under which the right model may answer.
struct ProbeSettings {
    target: Target,
    probe_path: Box<str>,
    model_names: Vec<String>,
}

impl WatchedLaunch {
    /// Drops what only served to find the verdict: a ready server keeps none of it for months.
    fn on_verdict(&mut self) {
        lock(&self.output).on_verdict();
        self.probe = None;
    }
}

impl ReadinessWorker {
    async fn on_event(&mut self, envelope: &Envelope) -> Result<(), BusClosed> {
        let (Some(server), Some(incarnation)) = (&envelope.server, envelope.incarnation) else { return Ok(()) };
        let key = (server.clone(), incarnation);
        let seq = Some(envelope.seq);
        match &envelope.event {
            Event::LaunchBegan { .. } => self.untrack_before(server, incarnation),
            Event::BinaryIdentified(binary) => self.choose_pack(key, Some(binary), seq).await?,
            Event::ServerSpawned { port, .. } => self.track(key, *port, envelope.elapsed, seq).await?,
            Event::ListenerIdentified { listener } => {
                self.read_output(&key).await?;
                self.advance(&key, ReadinessInput::ListenerIdentified(listener.clone()), seq).await?;
            }
            Event::StopBegan { .. } => self.on_stop_began(&key).await?,
            Event::ServerFailed { .. } => self.advance(&key, ReadinessInput::FailedElsewhere, seq).await?,
            Event::ServerExited { end, .. } => self.on_exited(&key, *end, seq).await?,
            _ => {}
        }
        Ok(())
    }

    /// Chooses the pack of a launch, by what its binary reports, and publishes the choice.
    async fn choose_pack(
        &mut self,
        key: LaunchKey,
        binary: Option<&BinaryIdentity>,
        cause: Option<Seq>,
    ) -> Result<(), BusClosed> {
        let Some(spec) = self.spec(&key.0) else { return Ok(()) };
        let (build, options) = binary.map_or((None, &[][..]), |binary| (binary.build, &*binary.options));
        let choice = self.readiness.packs.packs().choose(build, options, spec.readiness.detector.as_deref());
        let Some(choice) = choice else { return Ok(()) };
        let event = Event::DetectorChosen { detector: choice.file.name().into(), because: choice.because };
        self.chosen_packs.insert(key.clone(), choice.file);
        self.events.publish(EventDraft::incarnation(key.0, key.1, event).because(cause)).await
    }

    /// Starts to track a launch whose process exists now.
    async fn track(&mut self, key: LaunchKey, port: u16, spawned: Uptime, cause: Option<Seq>) -> Result<(), BusClosed> {
        // The stop overtook the process: whatever becomes of it now is expected, and gets no verdict.
        if self.stopping.contains(&key) {
            return Ok(());
        }
        if !self.chosen_packs.contains_key(&key) {
            // The build could not be identified, or that event was lost in a gap.
            self.choose_pack(key.clone(), None, cause).await?;
        }
        let Some(launch) = self.new_launch(&key, port, spawned, cause) else { return Ok(()) };
        self.launches.insert(key.clone(), launch);
        // The new matcher has matched the lines that came before it, and their taps have nobody to wake.
        self.read_output(&key).await
    }

    fn new_launch(&mut self, key: &LaunchKey, port: u16, spawned: Uptime, cause: Option<Seq>) -> Option<WatchedLaunch> {
        let Some(spec) = self.spec(&key.0) else {
            tracing::warn!(server = %key.0, "a server was launched that is not configured; nobody watches it");
            return None;
        };
        let pack = self.chosen_packs.remove(key)?;
        let target = Target::new(&spec, port);
        // A probe speaks plain HTTP: a server behind TLS proves readiness by its line.
        let (probeable, probe_path) = match pack.probe() {
            ProbeWay::Http { path } if !target.encrypted => (Probeable::Yes, path.as_str()),
            ProbeWay::Http { .. } | ProbeWay::None => (Probeable::No, "/health"),
        };
        let probe = ProbeSettings { target, probe_path: probe_path.into(), model_names: model_names(&spec) };
        let output = self.readiness.outputs.get_or_create(key);
        let own = self.readiness.make_matcher.as_ref().and_then(|make| make(&spec, port));
        lock(&output).set_matcher(own.unwrap_or_else(|| Box::new(pack.matcher(Some(port)))));
        Some(WatchedLaunch {
            machine: ReadinessMachine::new(ReadinessPolicy::new(&spec.readiness, probeable), spawned),
            output,
            probe: Some(Arc::new(probe)),
            spawned: cause,
        })
    }

    async fn on_stop_began(&mut self, key: &LaunchKey) -> Result<(), BusClosed> {
        // A stop may come before the process: `track` has to know of it.
        if !self.launches.contains_key(key) {
            self.stopping.insert(key.clone());
        }
        self.advance(key, ReadinessInput::StopBegan, None).await
    }

    async fn on_exited(&mut self, key: &LaunchKey, end: ProcessEnd, cause: Option<Seq>) -> Result<(), BusClosed> {
        if let Some(launch) = self.launches.get(key) {
            // The launcher publishes an exit behind the last line of its pipes, so that all evidence is here.
            let evidence = lock(&launch.output).evidence();
            self.advance(key, ReadinessInput::Exited { end, evidence }, cause).await?;
        }
        self.untrack(key);
        Ok(())
    }

    /// Makes up for lost events from the snapshot, which contains them.
    async fn catch_up(&mut self, snapshot: &Snapshot) -> Result<(), BusClosed> {
        let gone: Vec<_> = self.launches.keys().filter(|key| !is_latest(snapshot, key)).cloned().collect();
        for key in gone {
            self.untrack(&key);
        }
        for (server, record) in &snapshot.servers {
            let key = (server.clone(), record.incarnation);
            match &record.process {
                Some(process) => self.catch_up_running(&key, record, process).await?,
                None => self.catch_up_ended(&key, record).await?,
            }
        }
        Ok(())
    }

    /// A launch with a process. Its machine gets what it missed; one that is not tracked yet starts, or continues as ready.
    async fn catch_up_running(
        &mut self,
        key: &LaunchKey,
        record: &ServerRecord,
        process: &ProcessRecord,
    ) -> Result<(), BusClosed> {
        if record.stop.is_some() {
            return self.on_stop_began(key).await;
        }
        if record.failure.is_some() {
            return self.advance(key, ReadinessInput::FailedElsewhere, None).await;
        }
        if self.launches.contains_key(key) {
            return Ok(());
        }
        if let Some(pack) = record.detector.as_deref().and_then(|name| self.readiness.packs.packs().get(name)) {
            self.chosen_packs.insert(key.clone(), pack.clone());
        }
        self.track(key.clone(), process.port, process.spawned, None).await?;
        if let (Phase::Ready { .. } | Phase::Unready { .. }, Some(launch)) = (record.phase, self.launches.get_mut(key))
        {
            launch.machine.note_ready();
            launch.on_verdict();
        }
        Ok(())
    }

    /// A launch without a process. If it was tracked, its exit was lost; an end that was asked for, or that has a failure
    /// already, gets no verdict.
    async fn catch_up_ended(&mut self, key: &LaunchKey, record: &ServerRecord) -> Result<(), BusClosed> {
        if !self.launches.contains_key(key) {
            return Ok(());
        }
        if record.stop.is_some() || record.failure.is_some() {
            self.untrack(key);
            return Ok(());
        }
        self.on_exited(key, record.last_end.unwrap_or(ProcessEnd::Unknown), None).await
    }

    /// Some output has something new. The wake-up does not say which: a summary of an unchanged one is cheap.
    async fn on_output(&mut self) -> Result<(), BusClosed> {
        let keys: Vec<_> = self.launches.keys().cloned().collect();
        for key in keys {
            self.read_output(&key).await?;
        }
        Ok(())
    }

    /// Gives the machine of a launch the summary of its output since the last one.
    async fn read_output(&mut self, key: &LaunchKey) -> Result<(), BusClosed> {
        let Some(launch) = self.launches.get(key).filter(|launch| launch.machine.is_starting()) else { return Ok(()) };
        let summary = lock(&launch.output).take_summary(self.clock.now());
        self.advance(key, ReadinessInput::Output(summary), None).await
    }

    async fn on_packs_reloaded(&mut self, reloaded: Option<Event>) -> Result<(), BusClosed> {
        let Some(reloaded) = reloaded else { return Ok(()) };
        self.readiness.outputs.set_packs(self.readiness.packs.packs().clone());
        self.events.publish(EventDraft::daemon(reloaded)).await
    }

    async fn on_deadline(&mut self) -> Result<(), BusClosed> {
        let now = self.clock.now();
        let is_due = |launch: &WatchedLaunch| launch.machine.next_deadline().is_some_and(|deadline| deadline <= now);
        let due: Vec<_> =
            self.launches.iter().filter(|(_, launch)| is_due(launch)).map(|(key, _)| key.clone()).collect();
        for key in due {
            self.read_output(&key).await?;
            self.advance(&key, ReadinessInput::Deadline, None).await?;
        }
        Ok(())
    }

    async fn on_task_done(&mut self, done: Result<TaskResult, tokio::task::JoinError>) -> Result<(), BusClosed> {
        match done {
            Ok((key, Some(input))) => {
                self.read_output(&key).await?;
                self.advance(&key, input, None).await
            }
            Ok((_, None)) => Ok(()),
            // Tasks do not panic. If a probe did, the cap would still bound its launch.
            Err(error) => {
                tracing::error!(%error, "a probe failed");
                Ok(())
            }
        }
    }

    /// Gives an input to the machine of a launch and performs its actions. `cause` is the event that led to the input.
    async fn advance(&mut self, key: &LaunchKey, input: ReadinessInput, cause: Option<Seq>) -> Result<(), BusClosed> {
        let Some(launch) = self.launches.get_mut(key) else { return Ok(()) };
        let was_starting = launch.machine.is_starting();
        let actions = launch.machine.on(input, self.clock.now());
        let cause = cause.or(launch.spawned);
        // Only a failure needs the last lines, which are copied for it.
        let is_failure = actions.iter().any(|action| matches!(action, ReadinessAction::Fail(_)));
        let mut lines = if is_failure { lock(&launch.output).last_lines() } else { Vec::new() };
        if was_starting && !launch.machine.is_starting() {
            launch.on_verdict();
            self.clear_idle_caches();
        }
        for action in actions {
            match action {
                ReadinessAction::Probe => self.start_probe(key),
                ReadinessAction::IdentifyListener => self.request_listener(key),
                ReadinessAction::CheckIdentity { round } => self.start_identity_check(key, round),
                ReadinessAction::Publish(event) => self.publish(key, event, cause).await?,
                ReadinessAction::Fail(failure) => {
                    let lines = std::mem::take(&mut lines);
                    let failed = Event::ServerFailed { reason: failure.reason, detail: failure.detail, lines };
                    self.publish(key, failed, cause).await?;
                }
            }
        }
        Ok(())
    }

    /// Drops the DFA caches when no server is loading: they are large and rebuild within a few lines.
    fn clear_idle_caches(&self) {
        if !self.launches.values().any(|launch| launch.machine.is_starting()) {
            self.readiness.packs.packs().iter().for_each(Pack::clear_cache);
        }
    }

    async fn publish(&self, key: &LaunchKey, event: Event, cause: Option<Seq>) -> Result<(), BusClosed> {
        self.events.publish(EventDraft::incarnation(key.0.clone(), key.1, event).because(cause)).await
    }

    fn start_probe(&mut self, key: &LaunchKey) {
        let (Some(settings), key) = (self.probe_settings(key), key.clone()) else { return };
        self.tasks.spawn(async move {
            let answer = probe(&settings.target, &settings.probe_path, identity::ASK_TIMEOUT).await;
            (key, Some(ReadinessInput::Answered(answer)))
        });
    }

    fn start_identity_check(&mut self, key: &LaunchKey, round: u32) {
        let (Some(settings), key) = (self.probe_settings(key), key.clone()) else { return };
        self.tasks.spawn(async move {
            let identity = identity::identify(&settings.target, &settings.model_names).await;
            (key, Some(ReadinessInput::IdentityChecked { round, identity }))
        });
    }

    /// Asks the launcher who listens. The answer comes as an event; the task only turns a refusal into one.
    fn request_listener(&mut self, key: &LaunchKey) {
        let command = LaunchCommand::IdentifyListener { server: key.0.clone(), incarnation: key.1 };
        let reply = self.commands.post(command);
        let key = key.clone();
        self.tasks.spawn(async move {
            let refused = reply.await.err();
            let unreadable = |detail| ReadinessInput::ListenerIdentified(ListenerOwner::Unreadable { detail });
            (key, refused.map(|refused| unreadable(refused.to_string())))
        });
    }

    fn next_deadline(&self) -> Option<Uptime> {
        self.launches.values().filter_map(|launch| launch.machine.next_deadline()).min()
    }

    fn probe_settings(&self, key: &LaunchKey) -> Option<Arc<ProbeSettings>> {
        self.launches.get(key)?.probe.clone()
    }

    fn spec(&self, server: &ServerId) -> Option<Arc<ServerSpec>> {
        self.readiness.fleet.borrow().get(server.as_str()).cloned()
    }

    fn untrack(&mut self, key: &LaunchKey) {
        self.chosen_packs.remove(key);
        self.stopping.remove(key);
        self.launches.remove(key);
        self.readiness.outputs.remove(key);
    }

    /// Forgets earlier launches of a server, also those that never had a process.
    fn untrack_before(&mut self, server: &ServerId, incarnation: Incarnation) {
        let stale = |key: &LaunchKey| key.0 == *server && key.1 < incarnation;
        self.chosen_packs.retain(|key, _| !stale(key));
        self.stopping.retain(|key| !stale(key));
        self.launches.retain(|key, _| !stale(key));
    }
}

/// Whether the launch is the latest of its server in the snapshot.
fn is_latest(snapshot: &Snapshot, (server, incarnation): &LaunchKey) -> bool {
    snapshot.servers.get(server).is_some_and(|record| record.incarnation == *incarnation)
}
