//! The component: hears events and taps, lets a machine per incarnation decide, performs what it wants.
//!
//! Probes, identity checks and commands run as tasks of their own, so that one slow server delays no other. Their number
//! is bounded: a machine has two probes and one identity check on their way at most, each with a time limit.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use llama_warden_bus::{BusClosed, Clock, CommandSender, Delivery, EventDraft, OutputLane, Publisher};
use llama_warden_component::{Component, Ports};
use llama_warden_config::{Fleet, ServerSpec};
use llama_warden_detectors::{Matcher, Pack, PackSet, ProbeWay};
use llama_warden_events::{
    Envelope, Event, Incarnation, LaunchCommand, ListenerOwner, NoCommand, ProcessEnd, Seq, ServerId, Uptime,
};
use llama_warden_plugin_files::PluginFile as _;
use llama_warden_probe::{Target, model_names, probe};
use llama_warden_state::{Phase, ProcessRecord, ServerRecord, Snapshot};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::identity;
use crate::machine::{Action, Askable, Input, Machine, Sighting, Terms};
use crate::shelf::Shelf;
use crate::tap::{LaunchKey, Readings, SharedReading, lock};

/// Decides for every incarnation whether it is ready, or why not.
pub struct Readiness {
    fleet: watch::Receiver<Fleet>,
    packs: Shelf,
    readings: Readings,
    make_matcher: Option<Arc<MatcherMaker>>,
}

type MatcherMaker = dyn Fn(&ServerSpec, u16) -> Option<Box<dyn Matcher>> + Send + Sync;

/// Why the component ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ReadinessError {
    /// Events come and go no more.
    #[error("lost the line of events: {0}")]
    Bus(#[from] BusClosed),
}

impl Readiness {
    /// The component. Its taps are on the lane from now on, so that no line of a first launch is missed.
    pub fn new(fleet: watch::Receiver<Fleet>, packs: PackSet, lane: &OutputLane) -> Self {
        let readings = Readings::new(packs.clone());
        lane.register_taps(Arc::new(readings.clone()));
        Self { fleet, packs: Shelf::new(packs, None), readings, make_matcher: None }
    }

    /// Takes up what changes in `directory` (absolute) while the daemon runs: in force from the next launch on. Nothing
    /// is watched without one.
    #[must_use]
    pub fn watching(mut self, directory: Option<PathBuf>) -> Self {
        self.packs = Shelf::new(self.packs.library().clone(), directory);
        self
    }

    /// Reads servers for which `make` gives a matcher with it instead of the detector pack's patterns. `make` gets the
    /// server and the port that it was given. The pack still says how to probe.
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

    async fn run(self, mut ports: Ports<NoCommand>) -> Result<(), ReadinessError> {
        let mut watchroom = Watchroom {
            readiness: self,
            events: ports.events,
            commands: ports.commands,
            clock: ports.clock,
            chosen: BTreeMap::new(),
            stopping: BTreeSet::new(),
            watches: BTreeMap::new(),
            tasks: JoinSet::new(),
        };
        watchroom.readiness.packs.open();
        watchroom.catch_up(&ports.subscription.snapshot()).await?;
        loop {
            let deadline = watchroom.next_deadline();
            tokio::select! {
                () = ports.cancel.cancelled() => return Ok(()),
                delivery = ports.subscription.next() => match delivery {
                    Some(Delivery::Event(envelope)) => watchroom.hear(&envelope).await?,
                    Some(Delivery::Gap { snapshot, .. }) => watchroom.catch_up(&snapshot).await?,
                    None => return Err(BusClosed.into()),
                },
                () = watchroom.readiness.readings.news() => watchroom.take_news().await?,
                renewed = watchroom.readiness.packs.renewed() => watchroom.take_packs(renewed).await?,
                Some(done) = watchroom.tasks.join_next() => watchroom.finish(done).await?,
                () = ports.clock.sleep_until(deadline) => watchroom.meet_deadlines().await?,
            }
        }
    }
}

/// What a task brings back, if it concerns the machine.
type Finished = (LaunchKey, Option<Input>);

struct Watchroom {
    readiness: Readiness,
    events: Publisher,
    commands: CommandSender,
    clock: Clock,
    /// Packs of launches whose process does not exist yet.
    chosen: BTreeMap<LaunchKey, Pack>,
    /// Launches that were asked to end before their process existed.
    stopping: BTreeSet<LaunchKey>,
    watches: BTreeMap<LaunchKey, Watch>,
    tasks: JoinSet<Finished>,
}

struct Watch {
    machine: Machine,
    reading: SharedReading,
    /// None once nothing is asked any more: the verdict is out.
    asked: Option<Arc<Asked>>,
    /// The event that made the process known.
    spawned: Option<Seq>,
}

/// Where a server is asked, and as whom it is known.
struct Asked {
    target: Target,
    probe_path: Box<str>,
    model_names: Vec<String>,
}

impl Watch {
    /// The verdict is out: what only served to find it is kept no longer.
    fn settle(&mut self) {
        lock(&self.reading).settle();
        self.asked = None;
    }
}

impl Watchroom {
    async fn hear(&mut self, envelope: &Envelope) -> Result<(), BusClosed> {
        let (Some(server), Some(incarnation)) = (&envelope.server, envelope.incarnation) else { return Ok(()) };
        let key = (server.clone(), incarnation);
        let seq = Some(envelope.seq);
        match &envelope.event {
            Event::LaunchBegan { .. } => self.forget_before(server, incarnation),
            Event::BinaryIdentified(binary) => self.choose(key, binary.build, &binary.options, seq).await?,
            Event::ServerSpawned { port, .. } => self.watch(key, *port, envelope.elapsed, seq).await?,
            Event::ListenerIdentified { listener } => {
                self.take(&key).await?;
                self.feed(&key, Input::ListenerIdentified(listener.clone()), seq).await?;
            }
            Event::StopBegan { .. } => self.hear_stop(&key).await?,
            Event::ServerFailed { .. } => self.feed(&key, Input::FailedElsewhere, seq).await?,
            Event::ServerExited { end, .. } => self.hear_exit(&key, *end, seq).await?,
            _ => {}
        }
        Ok(())
    }

    async fn choose(
        &mut self,
        key: LaunchKey,
        build: Option<u64>,
        options: &[String],
        cause: Option<Seq>,
    ) -> Result<(), BusClosed> {
        let Some(spec) = self.spec(&key.0) else { return Ok(()) };
        let Some(choice) = self.readiness.packs.library().choose(build, options, spec.readiness.detector.as_deref())
        else {
            return Ok(());
        };
        let chosen = Event::DetectorChosen { detector: choice.file.name().into(), because: choice.because };
        self.chosen.insert(key.clone(), choice.file);
        self.events.publish(EventDraft::incarnation(key.0, key.1, chosen).because(cause)).await
    }

    async fn watch(&mut self, key: LaunchKey, port: u16, spawned: Uptime, cause: Option<Seq>) -> Result<(), BusClosed> {
        if self.stopping.contains(&key) {
            return Ok(());
        }
        if !self.chosen.contains_key(&key) {
            // The build was not identified, or that event was missed.
            self.choose(key.clone(), None, &[], cause).await?;
        }
        let Some(watch) = self.new_watch(&key, port, spawned, cause) else { return Ok(()) };
        self.watches.insert(key.clone(), watch);
        // What came before the matcher may hold news.
        self.take(&key).await
    }

    fn new_watch(&mut self, key: &LaunchKey, port: u16, spawned: Uptime, cause: Option<Seq>) -> Option<Watch> {
        let Some(spec) = self.spec(&key.0) else {
            tracing::warn!(server = %key.0, "a server was launched that is not configured; nobody watches it");
            return None;
        };
        let pack = self.chosen.remove(key)?;
        let target = Target::new(&spec, port);
        let (askable, probe_path) = match pack.probe() {
            ProbeWay::Http { path } if !target.encrypted => (Askable::Yes, path.as_str()),
            ProbeWay::Http { .. } | ProbeWay::None => (Askable::No, "/health"),
        };
        let asked = Asked { target, probe_path: probe_path.into(), model_names: model_names(&spec) };
        let reading = self.readiness.readings.of(key);
        let own = self.readiness.make_matcher.as_ref().and_then(|make| make(&spec, port));
        lock(&reading).read_with(own.unwrap_or_else(|| Box::new(pack.matcher(Some(port)))));
        Some(Watch {
            machine: Machine::new(Terms::new(&spec.readiness, askable), spawned),
            reading,
            asked: Some(Arc::new(asked)),
            spawned: cause,
        })
    }

    async fn hear_stop(&mut self, key: &LaunchKey) -> Result<(), BusClosed> {
        if !self.watches.contains_key(key) {
            self.stopping.insert(key.clone());
        }
        self.feed(key, Input::StopBegan, None).await
    }

    async fn hear_exit(&mut self, key: &LaunchKey, end: ProcessEnd, cause: Option<Seq>) -> Result<(), BusClosed> {
        if let Some(watch) = self.watches.get(key) {
            let evidence = lock(&watch.reading).evidence();
            self.feed(key, Input::Exited { end, evidence }, cause).await?;
        }
        self.forget(key);
        Ok(())
    }

    /// Makes up for events that were not heard, from the snapshot that contains them.
    async fn catch_up(&mut self, snapshot: &Snapshot) -> Result<(), BusClosed> {
        let gone: Vec<_> = self.watches.keys().filter(|key| !is_latest(snapshot, key)).cloned().collect();
        for key in gone {
            self.forget(&key);
        }
        for (server, record) in &snapshot.servers {
            let key = (server.clone(), record.incarnation);
            match &record.process {
                Some(process) => self.catch_up_with_process(&key, record, process).await?,
                None => self.catch_up_with_end(&key, record).await?,
            }
        }
        Ok(())
    }

    async fn catch_up_with_process(
        &mut self,
        key: &LaunchKey,
        record: &ServerRecord,
        process: &ProcessRecord,
    ) -> Result<(), BusClosed> {
        if record.stop.is_some() {
            return self.hear_stop(key).await;
        }
        if record.failure.is_some() {
            return self.feed(key, Input::FailedElsewhere, None).await;
        }
        if self.watches.contains_key(key) {
            return Ok(());
        }
        if let Some(pack) = record.detector.as_deref().and_then(|name| self.readiness.packs.library().get(name)) {
            self.chosen.insert(key.clone(), pack.clone());
        }
        self.watch(key.clone(), process.port, process.spawned, None).await?;
        if let (Phase::Ready { .. } | Phase::Unready { .. }, Some(watch)) = (record.phase, self.watches.get_mut(key)) {
            watch.machine.note_ready();
            watch.settle();
        }
        Ok(())
    }

    async fn catch_up_with_end(&mut self, key: &LaunchKey, record: &ServerRecord) -> Result<(), BusClosed> {
        if !self.watches.contains_key(key) {
            return Ok(());
        }
        if record.stop.is_some() || record.failure.is_some() {
            self.forget(key);
            return Ok(());
        }
        self.hear_exit(key, record.last_end.unwrap_or(ProcessEnd::Unknown), None).await
    }

    async fn take_news(&mut self) -> Result<(), BusClosed> {
        let keys: Vec<_> = self.watches.keys().cloned().collect();
        for key in keys {
            self.take(&key).await?;
        }
        Ok(())
    }

    /// Lets the machine of a launch see what was read since the last time.
    async fn take(&mut self, key: &LaunchKey) -> Result<(), BusClosed> {
        let Some(watch) = self.watches.get(key).filter(|watch| watch.machine.is_watching()) else { return Ok(()) };
        let taken = lock(&watch.reading).take();
        let now = self.clock.now();
        let sighting = Sighting {
            hints: taken.hints,
            progress: taken.progress,
            last_line: taken.last_line.map(|at| Uptime::new(now.as_duration().saturating_sub(at.elapsed()))),
        };
        self.feed(key, Input::Sighted(sighting), None).await
    }

    async fn take_packs(&mut self, renewed: Option<Event>) -> Result<(), BusClosed> {
        let Some(reloaded) = renewed else { return Ok(()) };
        self.readiness.readings.fall_back_to(self.readiness.packs.library().clone());
        self.events.publish(EventDraft::daemon(reloaded)).await
    }

    async fn meet_deadlines(&mut self) -> Result<(), BusClosed> {
        let now = self.clock.now();
        let is_due = |watch: &Watch| watch.machine.next_deadline().is_some_and(|deadline| deadline <= now);
        let due: Vec<_> = self.watches.iter().filter(|(_, watch)| is_due(watch)).map(|(key, _)| key.clone()).collect();
        for key in due {
            // First what was read: a line is a sign of life.
            self.take(&key).await?;
            self.feed(&key, Input::Deadline, None).await?;
        }
        Ok(())
    }

    async fn finish(&mut self, done: Result<Finished, tokio::task::JoinError>) -> Result<(), BusClosed> {
        match done {
            Ok((key, Some(input))) => {
                // First what was read: a line that came before an answer names the proof.
                self.take(&key).await?;
                self.feed(&key, input, None).await
            }
            Ok((_, None)) => Ok(()),
            // Probes do not panic; if one did, its server is still bounded by its cap.
            Err(error) => {
                tracing::error!(%error, "a probe failed");
                Ok(())
            }
        }
    }

    /// Gives an input to the machine of a launch and does what it wants. `cause` is the event that led here.
    async fn feed(&mut self, key: &LaunchKey, input: Input, cause: Option<Seq>) -> Result<(), BusClosed> {
        let Some(watch) = self.watches.get_mut(key) else { return Ok(()) };
        let was_watching = watch.machine.is_watching();
        let actions = watch.machine.on(input, self.clock.now());
        let settled = was_watching && !watch.machine.is_watching();
        let cause = cause.or(watch.spawned);
        let lines = actions.iter().any(|action| matches!(action, Action::Fail(_)));
        let lines = if lines { lock(&watch.reading).last_lines() } else { Vec::new() };
        if settled {
            watch.settle();
            self.rest();
        }
        for action in actions {
            match action {
                Action::Probe => self.start_probe(key),
                Action::IdentifyListener => self.ask_for_listener(key),
                Action::CheckIdentity { round } => self.start_identity_check(key, round),
                Action::Publish(event) => self.publish(key, event, cause).await?,
                Action::Fail(failure) => {
                    let lines = lines.clone();
                    let failed = Event::ServerFailed { reason: failure.reason, detail: failure.detail, lines };
                    self.publish(key, failed, cause).await?;
                }
            }
        }
        Ok(())
    }

    /// What loading has taught is not needed by servers that only serve. It is much, and it is learnt again within a few lines.
    fn rest(&self) {
        if !self.watches.values().any(|watch| watch.machine.is_watching()) {
            self.readiness.packs.library().iter().for_each(Pack::forget);
        }
    }

    async fn publish(&self, key: &LaunchKey, event: Event, cause: Option<Seq>) -> Result<(), BusClosed> {
        self.events.publish(EventDraft::incarnation(key.0.clone(), key.1, event).because(cause)).await
    }

    fn start_probe(&mut self, key: &LaunchKey) {
        let (Some(asked), key) = (self.asked(key), key.clone()) else { return };
        self.tasks.spawn(async move {
            let answer = probe(&asked.target, &asked.probe_path, identity::ASK_TIMEOUT).await;
            (key, Some(Input::Answered(answer)))
        });
    }

    fn start_identity_check(&mut self, key: &LaunchKey, round: u32) {
        let (Some(asked), key) = (self.asked(key), key.clone()) else { return };
        self.tasks.spawn(async move {
            let identity = identity::identify(&asked.target, &asked.model_names).await;
            (key, Some(Input::IdentityChecked { round, identity }))
        });
    }

    /// The answer comes as an event; only a refusal comes from here.
    fn ask_for_listener(&mut self, key: &LaunchKey) {
        let command = LaunchCommand::IdentifyListener { server: key.0.clone(), incarnation: key.1 };
        let reply = self.commands.post(command);
        let key = key.clone();
        self.tasks.spawn(async move {
            let refused = reply.await.err();
            let unreadable = |detail| Input::ListenerIdentified(ListenerOwner::Unreadable { detail });
            (key, refused.map(|refused| unreadable(refused.to_string())))
        });
    }

    fn next_deadline(&self) -> Option<Uptime> {
        self.watches.values().filter_map(|watch| watch.machine.next_deadline()).min()
    }

    fn asked(&self, key: &LaunchKey) -> Option<Arc<Asked>> {
        self.watches.get(key)?.asked.clone()
    }

    fn spec(&self, server: &ServerId) -> Option<Arc<ServerSpec>> {
        self.readiness.fleet.borrow().get(server.as_str()).cloned()
    }

    fn forget(&mut self, key: &LaunchKey) {
        self.chosen.remove(key);
        self.stopping.remove(key);
        self.watches.remove(key);
        self.readiness.readings.forget(key);
    }

    /// A new launch ends whatever was left of those before, also of those that never got a process.
    fn forget_before(&mut self, server: &ServerId, incarnation: Incarnation) {
        let stale = |key: &LaunchKey| key.0 == *server && key.1 < incarnation;
        self.chosen.retain(|key, _| !stale(key));
        self.stopping.retain(|key| !stale(key));
        self.watches.retain(|key, _| !stale(key));
    }
}

fn is_latest(snapshot: &Snapshot, (server, incarnation): &LaunchKey) -> bool {
    snapshot.servers.get(server).is_some_and(|record| record.incarnation == *incarnation)
}
