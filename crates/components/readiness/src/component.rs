//! The component: gives events, output and answers to the machine of each launch, and performs its actions.
//!
//! Probes, identity checks and commands run as tasks of their own, so that one slow server delays no other. Their number is
//! bounded: a machine has at most two probes and one confirmation in flight, each with a time limit.
//!
//! Before a machine gets an answer or a deadline, it gets the output that came before: a line decides by which hint a server
//! counts as ready, and it is a sign of life.

use std::path::Path;
use std::sync::Arc;

use llama_warden_bus::{BusClosed, Clock, CommandSender, CommandSetId, Delivery, EventDraft, OutputLane, Publisher};
use llama_warden_component::{
    Component, Context, LaunchChange, LaunchReadiness, LaunchTracker, LaunchedProcess, Ports, Transition, Worker,
    next_task,
};
use llama_warden_config::{Fleet, ServerSpec};
use llama_warden_detectors::{Matcher, Pack, PackSet, ProbeWay};
use llama_warden_events::{BinaryIdentity, Envelope, Event, LaunchCommand, ListenerOwner, NoCommand, Seq, Uptime};
use llama_warden_plugin_files::{PluginFile as _, PluginSetError};
use llama_warden_probe::{Target, model_names, probe};
use llama_warden_state::{ServerRecord, Snapshot};
use llama_warden_support::{fail_point, lock};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::failure::ReadinessFailure;
use crate::identity::{self, Identity};
use crate::machine::{Probeable, ReadinessAction, ReadinessInput, ReadinessMachine, ReadinessPolicy};
use crate::pack_reloader::PackReloader;
use crate::tap::{LaunchKey, LaunchOutputs, SharedOutput};

/// The component: one verdict per launch, ready or the reason why not.
pub struct Readiness {
    fleet: watch::Receiver<Fleet>,
    packs: PackReloader,
    outputs: Arc<LaunchOutputs>,
    make_matcher: Option<MakeMatcher>,
}

/// Makes the matcher of one launch from the server and the port that it was given. `None` leaves the launch to its detector
/// pack.
pub type MakeMatcher = Box<dyn Fn(&ServerSpec, u16) -> Option<Box<dyn Matcher>> + Send + Sync>;

impl Readiness {
    /// Reads output with the packs of `readiness.detectors-dir`, which are reloaded while the daemon runs and in force from the next
    /// launch on, and with `matchers` where they make one.
    ///
    /// # Errors
    /// A file of the directory is refused.
    pub fn build(context: &Context, matchers: Option<MakeMatcher>) -> Result<Self, PluginSetError> {
        let directory = context.config().detectors_dir();
        let packs = PackSet::configured(directory)?;
        let reloader = PackReloader::new(packs.clone(), directory.map(Path::to_owned));
        let built = Self::new(context.fleet(), packs, context.lane());
        Ok(Self { packs: reloader, make_matcher: matchers, ..built })
    }

    /// Creates the component, and registers its taps on the lane at once, so that no line of a first launch is missed.
    pub fn new(fleet: watch::Receiver<Fleet>, packs: PackSet, lane: &OutputLane) -> Self {
        let outputs = Arc::new(LaunchOutputs::new(packs.clone(), lane.requests().clone()));
        lane.register_taps(outputs.clone());
        Self { fleet, packs: PackReloader::new(packs, None), outputs, make_matcher: None }
    }

    /// Uses the matcher that `make` returns for a server and its port, instead of the patterns of the detector pack. The pack still
    /// says how to probe.
    #[must_use]
    pub fn with_matchers(self, make: MakeMatcher) -> Self {
        Self { make_matcher: Some(make), ..self }
    }
}

impl Component for Readiness {
    const NAME: &'static str = "readiness";
    const SENDS: &'static [CommandSetId] = &[CommandSetId::of::<LaunchCommand>()];
    type Command = NoCommand;
    type Error = BusClosed;

    async fn run(mut self, ports: Ports<NoCommand>) -> Result<(), BusClosed> {
        self.packs.open();
        let worker = ReadinessWorker {
            launches: LaunchTracker::new(self.fleet.clone()),
            readiness: self,
            events: ports.events.clone(),
            commands: ports.commands.clone(),
            clock: ports.clock,
            tasks: JoinSet::new(),
        };
        ports.drive(worker).await
    }
}

/// The launch that a task worked for, and the input for its machine, if there is one.
type FinishedTask = (LaunchKey, Option<ReadinessInput>);

struct ReadinessWorker {
    readiness: Readiness,
    events: Publisher,
    commands: CommandSender,
    clock: Clock,
    launches: LaunchTracker<LaunchReading>,
    tasks: JoinSet<FinishedTask>,
}

/// The state of readiness for the latest launch of a server.
#[derive(Default)]
struct LaunchReading {
    /// The pack that was chosen, until there is a process.
    pack: Option<Pack>,
    /// Its process was taken over, and was ready.
    was_ready: bool,
    /// From the process on, unless a stop overtook it.
    watched: Option<WatchedLaunch>,
}

/// Wakes readiness, like events and deadlines.
enum Wake {
    /// A tap saw something new.
    Output,
    /// The directory of packs was read again; the event says what changed.
    PacksReloaded(Option<Event>),
    /// A probe, an identity check or a request ended.
    TaskDone(Result<FinishedTask, JoinError>),
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
    /// A build without --alias calls a model that it downloaded by the name of a file that we do not know.
    is_named_by_server: bool,
}

/// The decision of a machine, with the data of the launch that its actions need.
struct Decided {
    actions: Vec<ReadinessAction>,
    /// The last lines, for a failure.
    lines: Vec<String>,
    spawned: Option<Seq>,
    is_verdict: bool,
}

impl WatchedLaunch {
    /// Lets the machine decide about an input.
    fn decide(&mut self, input: ReadinessInput, now: Uptime) -> Decided {
        let was_starting = self.machine.is_starting();
        let actions = self.machine.on(input, now);
        // Only a failure needs the last lines, which are copied for it.
        let is_failure = actions.iter().any(|action| matches!(action, ReadinessAction::Fail(_)));
        let lines = if is_failure { lock(&self.output).last_lines() } else { Vec::new() };
        let is_verdict = was_starting && !self.machine.is_starting();
        if is_verdict {
            self.on_verdict();
        }
        Decided { actions, lines, spawned: self.spawned, is_verdict }
    }

    /// Drops what only served to find the verdict: a ready server keeps none of it for months.
    fn on_verdict(&mut self) {
        lock(&self.output).on_verdict();
        self.probe = None;
    }
}

impl Worker for ReadinessWorker {
    type Command = NoCommand;
    type Error = BusClosed;
    type Input = Wake;

    async fn on_start(&mut self, snapshot: &Snapshot, _: Uptime) -> Result<(), BusClosed> {
        let changes = self.launches.on_snapshot(snapshot);
        self.follow(changes, Some(snapshot)).await
    }

    async fn on_event(&mut self, delivery: Delivery, _: Uptime) -> Result<(), BusClosed> {
        let changes = self.launches.on_event(&delivery);
        match delivery {
            Delivery::Gap { snapshot, .. } => self.follow(changes, Some(&snapshot)).await,
            Delivery::Event(envelope) => {
                self.follow(changes, None).await?;
                self.on_envelope(&envelope).await
            }
        }
    }

    fn next_deadline(&self) -> Option<Uptime> {
        self.watched().filter_map(|(_, launch)| launch.machine.next_deadline()).min()
    }

    async fn on_deadline(&mut self, now: Uptime) -> Result<(), BusClosed> {
        let is_due = |launch: &WatchedLaunch| launch.machine.next_deadline().is_some_and(|deadline| deadline <= now);
        let due: Vec<_> = self.watched().filter(|(_, launch)| is_due(launch)).map(|(key, _)| key).collect();
        for key in due {
            self.read_output(&key).await?;
            self.advance(&key, ReadinessInput::Deadline, None).await?;
        }
        Ok(())
    }

    async fn next_input(&mut self) -> Wake {
        tokio::select! {
            () = self.readiness.outputs.changed() => Wake::Output,
            reloaded = self.readiness.packs.next_reload() => Wake::PacksReloaded(reloaded),
            done = next_task(&mut self.tasks) => Wake::TaskDone(done),
        }
    }

    async fn on_input(&mut self, wake: Wake, _: Uptime) -> Result<(), BusClosed> {
        match wake {
            // The wake-up does not say which output changed: a summary of an unchanged one is cheap.
            Wake::Output => {
                let keys: Vec<_> = self.watched().map(|(key, _)| key).collect();
                for key in keys {
                    self.read_output(&key).await?;
                }
            }
            Wake::PacksReloaded(None) | Wake::TaskDone(Ok((_, None))) => {}
            Wake::PacksReloaded(Some(reloaded)) => {
                self.readiness.outputs.set_packs(self.readiness.packs.packs().clone());
                self.events.publish(EventDraft::daemon(reloaded)).await?;
            }
            Wake::TaskDone(Ok((key, Some(input)))) => {
                self.read_output(&key).await?;
                self.advance(&key, input, None).await?;
            }
            // Tasks do not panic. If a probe did, the cap would still bound its launch.
            Wake::TaskDone(Err(error)) => tracing::error!(%error, "a probe failed"),
        }
        Ok(())
    }
}

impl ReadinessWorker {
    /// The launches that are watched.
    fn watched(&self) -> impl Iterator<Item = (LaunchKey, &WatchedLaunch)> {
        self.launches
            .iter()
            .filter_map(|(server, launch)| Some(((server.clone(), launch.incarnation), launch.state.watched.as_ref()?)))
    }

    fn watched_mut(&mut self, (server, incarnation): &LaunchKey) -> Option<&mut WatchedLaunch> {
        self.launches.launch_mut(server, *incarnation)?.state.watched.as_mut()
    }

    /// The events that say more about a launch than its transitions do.
    async fn on_envelope(&mut self, envelope: &Envelope) -> Result<(), BusClosed> {
        let (Some(server), Some(incarnation)) = (&envelope.server, envelope.incarnation) else { return Ok(()) };
        let key = (server.clone(), incarnation);
        let seq = Some(envelope.seq);
        match &envelope.event {
            Event::BinaryIdentified(binary) => self.choose_pack(&key, Some(binary), seq).await,
            Event::ServerAdopted { was_ready, .. } => {
                if let Some(launch) = self.launches.launch_mut(&key.0, key.1) {
                    launch.state.was_ready = *was_ready;
                }
                Ok(())
            }
            Event::ListenerIdentified { listener } => {
                self.read_output(&key).await?;
                self.advance(&key, ReadinessInput::ListenerIdentified(listener.clone()), seq).await
            }
            _ => Ok(()),
        }
    }

    /// Follows launches. `snapshot` is there where events were missed: it knows the pack that was chosen.
    async fn follow(
        &mut self,
        changes: Vec<LaunchChange<LaunchReading>>,
        snapshot: Option<&Snapshot>,
    ) -> Result<(), BusClosed> {
        for LaunchChange { server, incarnation, cause, transition, .. } in changes {
            let key = (server, incarnation);
            match transition {
                Transition::Spawned(process) => {
                    if let Some(record) = snapshot.and_then(|snapshot| snapshot.servers.get(&key.0)) {
                        self.restore_pack(&key, record);
                    }
                    self.watch(&key, process, cause).await?;
                }
                Transition::BecameReady(_) => {
                    // Usually our own event. If the machine has not decided yet, a former run of this component did.
                    if let Some(launch) = self.watched_mut(&key).filter(|launch| launch.machine.is_starting()) {
                        launch.machine.note_ready();
                        launch.on_verdict();
                    }
                }
                Transition::StopBegan(_) => self.advance(&key, ReadinessInput::StopBegan, None).await?,
                Transition::Failed(_) => self.advance(&key, ReadinessInput::FailedElsewhere, cause).await?,
                Transition::Ended { end, launch } => {
                    let output = self.readiness.outputs.remove(&key);
                    // Without an end it had no process, or its end was missed and a later launch has begun: no verdict.
                    let Some(end) = end else { continue };
                    // The launcher publishes an exit behind the last line of its pipes, so that all evidence is here.
                    if let Some(mut watched) = launch.state.watched {
                        let evidence = lock(&watched.output).evidence_for(end);
                        let decided = watched.decide(ReadinessInput::Exited { end, evidence }, self.clock.now());
                        self.perform(&key, decided, cause).await?;
                    } else if launch.stop.is_none() && launch.failure.is_none() {
                        // Its whole life was missed. The restart policy waits for the verdict all the same.
                        let said = output.map(|output| {
                            let mut output = lock(&output);
                            (output.evidence_for(end), output.last_lines())
                        });
                        let (evidence, lines) = said.unwrap_or_default();
                        let was_ready = launch.readiness != LaunchReadiness::NotYet;
                        let failure = ReadinessFailure::at_unwatched_exit(was_ready, end, evidence);
                        let event = Event::ServerFailed { reason: failure.reason, detail: failure.detail, lines };
                        self.publish(&key, event, cause).await?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes over the pack that was chosen before events were missed.
    fn restore_pack(&mut self, (server, incarnation): &LaunchKey, record: &ServerRecord) {
        let pack = record.detector.as_deref().and_then(|name| self.readiness.packs.packs().get(name)).cloned();
        if let Some(launch) = self.launches.launch_mut(server, *incarnation) {
            launch.state.pack = launch.state.pack.take().or(pack);
        }
    }

    /// Chooses the pack of a launch, by what its binary reports, and publishes the choice.
    async fn choose_pack(
        &mut self,
        key: &LaunchKey,
        binary: Option<&BinaryIdentity>,
        cause: Option<Seq>,
    ) -> Result<(), BusClosed> {
        let Some(spec) = self.launches.configured(&key.0) else { return Ok(()) };
        let (build, options) = binary.map_or((None, &[][..]), |binary| (binary.build, &*binary.options));
        let choice = self.readiness.packs.packs().choose(build, options, spec.readiness.detector.as_deref());
        let Some(choice) = choice else { return Ok(()) };
        let event = Event::DetectorChosen { detector: choice.file.name().into(), because: choice.because };
        if let Some(launch) = self.launches.launch_mut(&key.0, key.1) {
            launch.state.pack = Some(choice.file);
        }
        self.publish(key, event, cause).await
    }

    /// Starts to watch a launch whose process exists now.
    async fn watch(&mut self, key: &LaunchKey, process: LaunchedProcess, cause: Option<Seq>) -> Result<(), BusClosed> {
        let Some(launch) = self.launches.launch_mut(&key.0, key.1) else { return Ok(()) };
        // A stop or a failure overtook the process: whatever becomes of it now is expected, and gets no verdict.
        if launch.stop.is_some() || launch.failure.is_some() {
            return Ok(());
        }
        if launch.state.pack.is_none() {
            // The build could not be identified, or that event was lost in a gap.
            self.choose_pack(key, None, cause).await?;
        }
        let watched = self.new_launch(key, process.port, process.spawned, cause);
        if let Some(launch) = self.launches.launch_mut(&key.0, key.1) {
            launch.state.watched = watched;
        }
        // The new matcher has matched the early lines, whose taps could not wake the component.
        self.read_output(key).await
    }

    fn new_launch(&mut self, key: &LaunchKey, port: u16, spawned: Uptime, cause: Option<Seq>) -> Option<WatchedLaunch> {
        let Some(spec) = self.launches.configured(&key.0) else {
            tracing::warn!(server = %key.0, "a server was launched that is not configured; nobody watches it");
            return None;
        };
        let state = &mut self.launches.launch_mut(&key.0, key.1)?.state;
        let (pack, was_ready) = (state.pack.take()?, state.was_ready);
        let target = Target::new(&spec, port);
        // A probe speaks plain HTTP: a server behind TLS proves readiness by its line.
        let (probeable, probe_path) = match pack.probe() {
            ProbeWay::Http { path } if !target.encrypted => (Probeable::Yes, path.as_str()),
            ProbeWay::Http { .. } | ProbeWay::None => (Probeable::No, "/health"),
        };
        let probe = ProbeSettings {
            target,
            probe_path: probe_path.into(),
            model_names: model_names(&spec),
            is_named_by_server: spec.model_repository().is_some(),
        };
        let output = self.readiness.outputs.get_or_create(key);
        let own = self.readiness.make_matcher.as_ref().and_then(|make| make(&spec, port));
        lock(&output).requests().expect(pack.knows_requests(), was_ready);
        lock(&output).set_matcher(own.unwrap_or_else(|| Box::new(pack.matcher(Some(port)))));
        Some(WatchedLaunch {
            machine: ReadinessMachine::new(
                ReadinessPolicy { was_ready, ..ReadinessPolicy::new(&spec, probeable) },
                spawned,
            ),
            output,
            probe: Some(Arc::new(probe)),
            spawned: cause,
        })
    }

    /// Gives the machine of a launch the summary of its output since the last one.
    async fn read_output(&mut self, key: &LaunchKey) -> Result<(), BusClosed> {
        let now = self.clock.now();
        let Some(launch) = self.watched_mut(key).filter(|launch| launch.machine.is_starting()) else { return Ok(()) };
        let summary = lock(&launch.output).take_summary(now);
        self.advance(key, ReadinessInput::Output(summary), None).await
    }

    /// Gives an input to the machine of a launch and performs its actions. `cause` is the event that led to the input.
    async fn advance(&mut self, key: &LaunchKey, input: ReadinessInput, cause: Option<Seq>) -> Result<(), BusClosed> {
        let now = self.clock.now();
        let Some(launch) = self.watched_mut(key) else { return Ok(()) };
        let decided = launch.decide(input, now);
        self.perform(key, decided, cause).await
    }

    async fn perform(&mut self, key: &LaunchKey, decided: Decided, cause: Option<Seq>) -> Result<(), BusClosed> {
        let Decided { actions, mut lines, spawned, is_verdict } = decided;
        let cause = cause.or(spawned);
        if is_verdict {
            self.clear_idle_caches();
        }
        for action in actions {
            match action {
                ReadinessAction::Probe => self.start_probe(key),
                ReadinessAction::IdentifyListener => self.request_listener(key),
                ReadinessAction::CheckIdentity { round } => self.start_identity_check(key, round),
                ReadinessAction::Publish(event @ Event::ReadyReached { .. }) => {
                    fail_point("ready-decided");
                    self.publish(key, event, cause).await?;
                    fail_point("ready-published");
                }
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
        if !self.watched().any(|(_, launch)| launch.machine.is_starting()) {
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
            let identity = match identity::identify(&settings.target, &settings.model_names).await {
                Identity::Different { found } if settings.is_named_by_server => {
                    Identity::Unknown { because: format!("the model that it downloaded is called {found}") }
                }
                identity => identity,
            };
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

    fn probe_settings(&self, key: &LaunchKey) -> Option<Arc<ProbeSettings>> {
        let launch = self.launches.get(&key.0).filter(|launch| launch.incarnation == key.1)?;
        launch.state.watched.as_ref()?.probe.clone()
    }
}
