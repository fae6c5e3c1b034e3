//! Decides when the slots of launches are saved and restored, and publishes the outcome.
//!
//! Invariants: a launch is saved only behind a closed gate with nothing in flight, and never for a stop or a restart by hand, nor for the
//! end of the daemon; every request for a save is answered, whatever its outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use llama_warden_bus::{Bus, BusClosed, Delivery, EventDraft, Publisher};
use llama_warden_component::LaunchedProcess;
use llama_warden_config::ServerSpec;
use llama_warden_events::{CommandSummary, Event, Incarnation, ServerId};
use llama_warden_probe::Target;
use llama_warden_slot_cache::{LaunchIdentity, SavedSlot, SlotProof, remove, start_time};
use llama_warden_state::{SlotsState, Snapshot};
use llama_warden_support::blocking;
use tokio::task::AbortHandle;

use crate::keeper::{CacheKeeper, EndedTurn, Kept, KeptLaunch, Prepared, ReadyLaunch, Restored, SaveOutcome};

/// Why slots are not kept of a launch that did not use what it was given.
const NO_USE: &str = "the whole prompt was computed again although its slots were restored; a model with a sliding window needs \
                      `swa-full` on builds of 2026";

/// The launches whose slots can be saved, and those that are being saved.
#[derive(Debug)]
pub struct SlotKeeping {
    keeper: Arc<CacheKeeper>,
    bus: Bus,
    events: Publisher,
    kept: BTreeMap<ServerId, (Incarnation, KeptLaunch)>,
    saving: BTreeMap<ServerId, (Incarnation, AbortHandle)>,
    /// Stopped or restarted by hand: a person who does that may want to discard what the server holds, and does not want to wait.
    by_hand: BTreeSet<ServerId>,
    is_ending: bool,
}

/// What follows when the slots are saved, or cannot be.
pub enum AfterSave {
    /// The command is answered.
    Answer(Box<dyn FnOnce() + Send>),
    /// The event is published.
    Tell(EventDraft),
}

/// What became of the slots of a launch.
#[derive(Debug)]
pub enum SaveResult {
    /// They are in these files.
    Saved(Vec<SavedSlot>),
    /// They held too little.
    Nothing,
    /// They could not be saved.
    Lost {
        /// What failed.
        because: String,
        /// Whether it is not tried again.
        for_good: bool,
    },
}

impl SlotKeeping {
    /// Follows the launches on a bus.
    pub fn new(keeper: Arc<CacheKeeper>, bus: Bus, events: Publisher) -> Self {
        Self {
            keeper,
            bus,
            events,
            kept: BTreeMap::new(),
            saving: BTreeMap::new(),
            by_hand: BTreeSet::new(),
            is_ending: false,
        }
    }

    /// Gives up saves for which there is no time any more.
    pub fn on_event(&mut self, delivery: &Delivery) {
        let Delivery::Event(envelope) = delivery else { return };
        match (&envelope.event, &envelope.server) {
            (
                Event::CommandAccepted {
                    command: CommandSummary::Stop { .. } | CommandSummary::Restart { .. }, ..
                },
                Some(server),
            ) => {
                self.by_hand.insert(server.clone());
                // Dropping its answer releases the server.
                self.saving.remove(server).inspect(|(_, task)| task.abort());
            }
            (Event::ReadyReached { .. }, Some(server)) => drop(self.by_hand.remove(server)),
            (Event::DaemonStopping { .. } | Event::DaemonHandingOver { .. }, _) => {
                self.is_ending = true;
                std::mem::take(&mut self.saving).values().for_each(|(_, task)| task.abort());
            }
            _ => {}
        }
    }

    /// Restores what an equal launch has saved, before the gate opens; with the key of the server, which is read for it.
    pub fn prepare(
        &self,
        (server, incarnation): (ServerId, Incarnation),
        spec: &ServerSpec,
        process: LaunchedProcess,
    ) -> impl Future<Output = (Option<String>, Prepared)> + Send + 'static {
        let (keeper, bus, target) = (self.keeper.clone(), self.bus.clone(), Target::new(spec, process.port));
        let folder = spec.slots_folder().map(ToOwned::to_owned);
        let (environment, directory) = ((*spec.env).clone(), spec.directory.to_path_buf());
        async move {
            let key = target.read_key().await;
            let snapshot = bus.snapshot();
            let record = snapshot.servers.get(&server).filter(|record| record.incarnation == incarnation);
            let identity = record.zip(start_time(process.start_ticks).ok()).map(|(record, started)| LaunchIdentity {
                pid: process.pid,
                started,
                argv: record.argv.to_vec(),
                version: record.llama_version.as_deref().map(str::to_owned),
                environment,
                directory,
            });
            let Some(identity) = identity else {
                let because = "its start is not known".to_owned();
                return (key, Prepared::Off { because, for_good: false });
            };
            let launch = ReadyLaunch { server, folder, identity, target, key: key.clone() };
            (key, keeper.prepare(launch).await)
        }
    }

    /// Whether the launch can be asked; otherwise another one has to take its place.
    ///
    /// # Errors
    /// The bus is closed.
    pub async fn on_prepared(
        &mut self,
        (server, incarnation): (&ServerId, Incarnation),
        prepared: Prepared,
    ) -> Result<bool, BusClosed> {
        let launch = (server, incarnation);
        match prepared {
            Prepared::Off { because, for_good } => self.lost(launch, because, for_good).await?,
            Prepared::Kept { launch: kept, restored, lost } => {
                self.kept.insert(server.clone(), (incarnation, *kept));
                if let Some(because) = lost {
                    self.lost(launch, because, false).await?;
                }
                if let Some(Restored { slots, tokens }) = restored {
                    self.tell(launch, Event::SlotsRestored { slots, tokens }).await?;
                }
            }
            // A stop that came meanwhile ends the connection too.
            Prepared::Spoilt { .. } if is_stopped(&self.bus.snapshot(), server, incarnation) => {}
            Prepared::Spoilt { launch: kept, because } => {
                self.keeper.switch_off(&kept, &because);
                self.lost(launch, because, true).await?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Saves the slots of a launch that no request can reach, where they are kept. Then, and in any case, what follows. What takes a while
    /// is handed out; its owner spawns it, and says so by [`Self::is_saved_by`].
    ///
    /// # Errors
    /// The bus is closed.
    pub async fn save(
        &mut self,
        (server, incarnation): (&ServerId, Incarnation),
        then: AfterSave,
    ) -> Result<Option<impl Future<Output = SaveResult> + Send + 'static>, BusClosed> {
        let is_saving = self.saving.get(server).is_some_and(|(saving, _)| *saving == incarnation);
        let launch = self.kept.get(server).filter(|(known, _)| *known == incarnation);
        let (keeper, bus, events) = (self.keeper.clone(), self.bus.clone(), self.events.clone());
        let launch = match launch {
            Some((_, launch)) if !is_saving && !self.is_ending && !self.by_hand.contains(server) => launch.clone(),
            // The save that is under way publishes it.
            _ if is_saving && matches!(then, AfterSave::Tell(_)) => return Ok(None),
            _ => return then.go_on(&events).await.map(|()| None),
        };
        let server = server.clone();
        Ok(Some(async move {
            let outcome = keeper.save(&launch).await;
            // Before the answer, which leads to the stop: one that is there already has cut it short.
            let was_cut = is_stopped(&bus.snapshot(), &server, incarnation);
            // The component hears of a bus that is closed too.
            let _ = then.go_on(&events).await;
            match outcome {
                SaveOutcome::Written(written) => match CacheKeeper::seal(written).await {
                    Ok(slots) => SaveResult::Saved(slots),
                    Err(because) => SaveResult::Lost { because, for_good: false },
                },
                SaveOutcome::Nothing => SaveResult::Nothing,
                SaveOutcome::Failed(because) => SaveResult::Lost { because, for_good: !was_cut },
            }
        }))
    }

    /// The task that saves a launch. It is given up where there is no time for it any more.
    pub fn is_saved_by(&mut self, server: &ServerId, incarnation: Incarnation, task: AbortHandle) {
        self.saving.insert(server.clone(), (incarnation, task));
    }

    /// Deletes every file, at the end of the daemon.
    pub async fn clear(&self) {
        self.keeper.clear().await;
    }

    /// The slots of a launch were saved, or not.
    ///
    /// # Errors
    /// The bus is closed.
    pub async fn on_saved(
        &mut self,
        server: &ServerId,
        incarnation: Incarnation,
        result: SaveResult,
    ) -> Result<(), BusClosed> {
        if self.saving.get(server).is_some_and(|(saving, _)| *saving == incarnation) {
            self.saving.remove(server);
        }
        let Some((_, launch)) = self.kept.get(server).filter(|(known, _)| *known == incarnation).cloned() else {
            return Ok(());
        };
        let mut files = self.keeper.forget(server);
        match result {
            SaveResult::Nothing => {}
            SaveResult::Saved(slots) => {
                let (kept, dropped) = self.keeper.keep(server, &launch, slots);
                files.extend(dropped);
                match kept {
                    Kept::Saved { slots, tokens, bytes } => {
                        self.tell((server, incarnation), Event::SlotsSaved { slots, tokens, bytes }).await?;
                    }
                    Kept::Lost(because) => self.lost((server, incarnation), because, false).await?,
                }
            }
            SaveResult::Lost { because, for_good } => {
                if for_good {
                    self.keeper.switch_off(&launch, &because);
                    self.kept.remove(server);
                }
                self.lost((server, incarnation), because, for_good).await?;
            }
        }
        let sweep = self.keeper.sweep(server);
        delete(move || {
            remove(&files);
            sweep();
        });
        Ok(())
    }

    /// A request has its whole answer.
    ///
    /// # Errors
    /// The bus is closed.
    pub async fn on_turn(&mut self, ended: &EndedTurn) -> Result<(), BusClosed> {
        let Some((incarnation, launch)) = self.kept.get_mut(&ended.server) else { return Ok(()) };
        if *incarnation != ended.incarnation {
            return Ok(());
        }
        let proof = self.keeper.on_turn(launch, ended);
        let launch = (&ended.server, ended.incarnation);
        match proof {
            None => Ok(()),
            Some((SlotProof::Works, cached)) => self.tell(launch, Event::SlotsUsed { cached }).await,
            Some((SlotProof::NoUse, _)) => {
                if let Some((_, kept)) = self.kept.remove(&ended.server) {
                    self.keeper.switch_off(&kept, NO_USE);
                }
                self.lost(launch, NO_USE.to_owned(), true).await
            }
        }
    }

    /// The process has ended. A save that it has left may go on to read its files.
    pub fn on_ended(&mut self, server: &ServerId, incarnation: Incarnation) {
        let is_saving = self.saving.get(server).is_some_and(|(saving, _)| *saving == incarnation);
        if !is_saving && self.kept.get(server).is_some_and(|(known, _)| *known == incarnation) {
            self.kept.remove(server);
            delete(self.keeper.sweep(server));
        }
    }

    /// What is kept of a server is of no use: it runs on, or is configured no more.
    pub fn forget(&self, server: &ServerId) {
        let files = self.keeper.forget(server);
        if !files.is_empty() {
            delete(move || remove(&files));
        }
    }

    /// The same reason is not published again with each launch.
    async fn lost(&self, launch: (&ServerId, Incarnation), because: String, off: bool) -> Result<(), BusClosed> {
        let snapshot = self.bus.snapshot();
        let told = snapshot.servers.get(launch.0).and_then(|record| record.slots.as_deref());
        if off && told.is_some_and(|told| told.state == SlotsState::Off && told.because.as_ref() == Some(&because)) {
            return Ok(());
        }
        self.tell(launch, Event::SlotsLost { because, off }).await
    }

    async fn tell(&self, (server, incarnation): (&ServerId, Incarnation), event: Event) -> Result<(), BusClosed> {
        self.events.publish(EventDraft::incarnation(server.clone(), incarnation, event)).await
    }
}

impl AfterSave {
    async fn go_on(self, events: &Publisher) -> Result<(), BusClosed> {
        match self {
            Self::Answer(answer) => {
                answer();
                Ok(())
            }
            Self::Tell(draft) => events.publish(draft).await,
        }
    }
}

/// Whether the stop of a launch has begun, or a later launch.
fn is_stopped(snapshot: &Snapshot, server: &ServerId, incarnation: Incarnation) -> bool {
    let record = snapshot.servers.get(server);
    record.is_none_or(|record| record.incarnation != incarnation || record.stop.is_some())
}

/// Deletes files beside everything else.
fn delete(files: impl FnOnce() + Send + 'static) {
    tokio::spawn(blocking(files));
}
