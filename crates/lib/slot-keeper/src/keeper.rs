//! Keeps what the slots of a server hold over a stop: saved behind its closed gate, restored before the gate of its next launch opens.
//!
//! Invariants: each question has a time limit, and so has the whole; what is restored is out of the store before the server is asked, so
//! that it is never used twice; one failure, and it is off for such launches.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use llama_warden_events::{Incarnation, ServerId};
use llama_warden_probe::{AskError, Question, Target, ask};
use llama_warden_slot_cache::{
    AnsweredTurn, LaunchFingerprint, LaunchIdentity, PromptText, RestoreAnswer, SaveAnswer, SavedLaunch, SavedSlot,
    SlotProof, SlotStore, TurnTokens, WrittenSlot, clear, judge, refused_before, remove,
};
use llama_warden_support::{blocking, lock};
use llama_warden_traffic::{FinishedRequest, RequestOutcome, TrackedRequest};
use serde_json::{Value as Json, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Longest time for all slots of a server: a stop waits for it.
const SAVE_LIMIT: Duration = Duration::from_secs(10);

/// Longest time for all slots of a server, beside that for their bytes: its first request waits for it.
const RESTORE_LIMIT: Duration = Duration::from_secs(5);

/// Bytes that are restored in a second at least.
const SLOWEST_DISK: u64 = 100 << 20;

/// Longest wait for an answer that needs no work.
const PROPS_LIMIT: Duration = Duration::from_secs(2);

/// Keeps the slots of all servers.
#[derive(Debug)]
pub struct CacheKeeper {
    /// Has a folder for each server.
    folders: PathBuf,
    store: Mutex<SlotStore>,
    /// The last request of an earlier launch that was restored, until an answer proves whether that was any use.
    awaited: Mutex<BTreeMap<ServerId, PromptText>>,
    turns: mpsc::UnboundedSender<EndedTurn>,
}

/// A request that has its whole answer.
#[derive(Debug)]
pub struct EndedTurn {
    pub(crate) server: ServerId,
    pub(crate) incarnation: Incarnation,
    turn: AnsweredTurn,
    /// Whether it continues what was awaited when it came.
    continues: bool,
}

/// A launch that became ready, as it is asked.
#[derive(Debug)]
pub(crate) struct ReadyLaunch {
    pub(crate) server: ServerId,
    pub(crate) folder: Option<PathBuf>,
    pub(crate) identity: LaunchIdentity,
    pub(crate) target: Target,
    pub(crate) key: Option<String>,
}

/// A launch whose slots can be saved.
#[derive(Debug, Clone)]
pub struct KeptLaunch {
    fingerprint: LaunchFingerprint,
    target: Target,
    key: Option<String>,
    folder: PathBuf,
    /// Its last request.
    turn: Option<AnsweredTurn>,
    /// The last one of the launch that was restored, until an answer proves whether that was any use.
    awaited: Option<AnsweredTurn>,
}

/// What was done for a launch before its gate opens.
#[derive(Debug)]
pub enum Prepared {
    /// Nothing is tried for it, nor, where that is so for good, for its like.
    Off {
        /// What speaks against it.
        because: String,
        /// Whether it is off for every such launch.
        for_good: bool,
    },
    /// Its slots can be saved.
    Kept {
        /// The launch.
        launch: Box<KeptLaunch>,
        /// What was restored.
        restored: Option<Restored>,
        /// What became of what was saved and is not used.
        lost: Option<String>,
    },
    /// A restore failed, and what the server holds now is not known: another process has to take its place.
    Spoilt {
        /// The launch.
        launch: Box<KeptLaunch>,
        /// How the restore failed.
        because: String,
    },
}

/// What was restored.
#[derive(Debug, Clone, Copy)]
pub struct Restored {
    pub(crate) slots: u32,
    pub(crate) tokens: u64,
}

/// The outcome of a save.
#[derive(Debug)]
pub(crate) enum SaveOutcome {
    /// The files are whole as far as their lengths tell.
    Written(Vec<WrittenSlot>),
    /// No slot holds enough, or the server sleeps.
    Nothing,
    /// It is not tried again.
    Failed(String),
}

/// What became of files that were written.
#[derive(Debug)]
pub(crate) enum Kept {
    Saved { slots: u32, tokens: u64, bytes: u64 },
    Lost(String),
}

impl CacheKeeper {
    /// A keeper of files of this many bytes below `folders`. Requests that have ended go to `turns`.
    pub fn new(folders: PathBuf, limit: u64, turns: mpsc::UnboundedSender<EndedTurn>) -> Self {
        Self { folders, store: Mutex::new(SlotStore::new(limit)), awaited: Mutex::default(), turns }
    }

    /// Deletes what earlier runs have left, or everything at the end of this one.
    pub async fn clear(&self) {
        let folders = self.folders.clone();
        let _ = blocking(move || clear(&folders, &[])).await;
    }

    /// Looks at a launch that became ready, and restores what an equal one has saved.
    pub(crate) async fn prepare(&self, launch: ReadyLaunch) -> Prepared {
        let ReadyLaunch { server, folder, identity, target, key } = launch;
        lock(&self.awaited).remove(&server);
        let saved = lock(&self.store).take(&server);
        let files = saved.as_ref().map(SavedLaunch::paths).unwrap_or_default();
        let prepared = self.look(&server, folder, identity, (target, key), saved).await;
        // Whatever came of it, what was taken is of no use any more.
        let _ = blocking(move || remove(&files)).await;
        prepared
    }

    async fn look(
        &self,
        server: &ServerId,
        folder: Option<PathBuf>,
        identity: LaunchIdentity,
        (target, key): (Target, Option<String>),
        saved: Option<SavedLaunch>,
    ) -> Prepared {
        let off = |because: String| Prepared::Off { because, for_good: true };
        let Some(folder) = folder else {
            return off("`slot-save-path` is set to a folder of others".to_owned());
        };
        if let Some(because) = refused_before(&identity.argv, &identity.environment, &folder) {
            return off(because);
        }
        let fingerprint = match blocking(move || LaunchFingerprint::read(&identity)).await {
            Ok(Ok(fingerprint)) => fingerprint,
            Ok(Err(error)) => return Prepared::Off { because: error.to_string(), for_good: false },
            Err(error) => return Prepared::Off { because: error.to_string(), for_good: false },
        };
        if let Some(because) = lock(&self.store).why_off(&fingerprint) {
            return off(because.to_owned());
        }
        let mut kept = KeptLaunch { fingerprint, target, key, folder, turn: None, awaited: None };
        let done = |launch, restored, lost: Option<&str>| {
            let lost = lost.map(str::to_owned);
            Prepared::Kept { launch: Box::new(launch), restored, lost }
        };
        let Some(saved) = saved else { return done(kept, None, None) };
        if saved.fingerprint != kept.fingerprint {
            return done(kept, None, Some("the executable, the model or the arguments have changed"));
        }
        let slots = saved.slots.clone();
        let checked = blocking(move || slots.iter().try_for_each(SavedSlot::check)).await;
        match checked {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => return done(kept, None, Some(&fault.to_string())),
            Err(error) => return done(kept, None, Some(&error.to_string())),
        }
        if let Err(because) = kept.restore(&saved.slots).await {
            return Prepared::Spoilt { launch: Box::new(kept), because };
        }
        kept.awaited = saved.turn;
        if let Some(turn) = saved.turn {
            lock(&self.awaited).insert(server.clone(), turn.text);
        }
        let restored = Restored { slots: count(saved.slots.len()), tokens: saved.tokens() };
        done(kept, Some(restored), None)
    }

    /// Saves the slots of a launch to which no request goes any more.
    pub(crate) async fn save(&self, launch: &KeptLaunch) -> SaveOutcome {
        let until = Instant::now() + SAVE_LIMIT;
        let slots = match launch.awake_slots().await {
            Ok(Some(slots)) => slots,
            Ok(None) => return SaveOutcome::Nothing,
            Err(because) => return SaveOutcome::Failed(because),
        };
        let mut written: Vec<WrittenSlot> = Vec::new();
        let failed = |written: Vec<WrittenSlot>, because: String| async move {
            let files: Vec<PathBuf> = written.into_iter().map(|written| written.path).collect();
            let _ = blocking(move || remove(&files)).await;
            SaveOutcome::Failed(because)
        };
        for slot in 0..slots {
            let name = lock(&self.store).next_name(slot);
            let path = launch.folder.join(&name);
            let answer = match launch.ask(slot, "save", &name, until).await {
                Ok(body) => SaveAnswer::read(&body).ok_or_else(|| "the answer to a save says nothing".to_owned()),
                Err(error) => Err(format!("a slot cannot be saved: {error}")),
            };
            let answer = match answer {
                Ok(answer) => answer,
                Err(because) => return failed(written, because).await,
            };
            let slot = WrittenSlot { slot, path, answer };
            if !answer.is_worth_keeping() {
                let _ = blocking(move || remove(&[slot.path])).await;
                continue;
            }
            let checked = blocking(move || slot.check_length().map(|()| slot)).await;
            match checked {
                Ok(Ok(slot)) => written.push(slot),
                Ok(Err(fault)) => return failed(written, format!("a slot was not saved whole: {fault}")).await,
                Err(error) => return failed(written, error.to_string()).await,
            }
        }
        if written.is_empty() { SaveOutcome::Nothing } else { SaveOutcome::Written(written) }
    }

    /// Reads what was written, and keeps it for the next launch of the server.
    pub(crate) async fn seal(written: Vec<WrittenSlot>) -> Result<Vec<SavedSlot>, String> {
        let sealed = blocking(move || written.into_iter().map(WrittenSlot::seal).collect::<Result<Vec<_>, _>>()).await;
        match sealed {
            Ok(Ok(slots)) => Ok(slots),
            Ok(Err(fault)) => Err(fault.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Keeps what was saved of a launch. The files that are of no use any more are to be deleted.
    pub(crate) fn keep(&self, server: &ServerId, launch: &KeptLaunch, slots: Vec<SavedSlot>) -> (Kept, Vec<PathBuf>) {
        let turn = launch.turn.filter(|turn| slots.iter().any(|slot| turn.is_in(slot.tokens)));
        let saved = SavedLaunch { fingerprint: launch.fingerprint.clone(), slots, turn };
        let (slots, tokens, bytes) = (count(saved.slots.len()), saved.tokens(), saved.bytes());
        let mut store = lock(&self.store);
        let stored = store.keep(server.clone(), saved);
        let kept = match stored.is_kept {
            true => Kept::Saved { slots, tokens, bytes },
            false => Kept::Lost(format!("{bytes} bytes are more than `router.keep-cache-size` ({})", store.limit())),
        };
        (kept, stored.dropped)
    }

    /// Forgets what is kept of a server, and gives the files to delete.
    pub(crate) fn forget(&self, server: &ServerId) -> Vec<PathBuf> {
        lock(&self.awaited).remove(server);
        lock(&self.store).forget(server)
    }

    /// Nothing is tried for such launches any more.
    pub(crate) fn switch_off(&self, launch: &KeptLaunch, because: &str) {
        lock(&self.store).switch_off(launch.fingerprint.clone(), because);
    }

    /// Deletes the files of a server whose process has ended, except those that are kept: one whose save was given up may have been
    /// written since.
    pub(crate) fn sweep(&self, server: &ServerId) -> impl FnOnce() + Send + 'static {
        let (folder, kept) = (self.folders.join(server.as_str()), lock(&self.store).kept(server));
        move || sweep(&folder, &kept)
    }

    /// Notes a request, so that its answer can be seen to continue an earlier one.
    pub fn follow(&self, tracked: &TrackedRequest, server: &ServerId, body: &[u8]) {
        let Some(text) = PromptText::of(body) else { return };
        let continues = lock(&self.awaited).get(server).is_some_and(|awaited| awaited.is_continued_by(body));
        let turns = self.turns.clone();
        tracked.at_end(move |finished: &FinishedRequest| {
            let FinishedRequest { server, incarnation, tokens, outcome, .. } = finished;
            let (Some(server), Some(incarnation), Some(tokens)) = (server, incarnation, tokens) else { return };
            if *outcome == RequestOutcome::Ok {
                let tokens = TurnTokens { read: tokens.input, cached: tokens.cached, generated: tokens.output };
                let turn = AnsweredTurn { text, tokens };
                let (server, incarnation) = (server.clone(), *incarnation);
                // Refused only when the component has ended.
                drop(turns.send(EndedTurn { server, incarnation, turn, continues }));
            }
        });
    }

    /// Takes a request that has ended; what it proves of what was restored.
    pub(crate) fn on_turn(&self, launch: &mut KeptLaunch, ended: &EndedTurn) -> Option<(SlotProof, u64)> {
        launch.turn = Some(ended.turn);
        let awaited = launch.awaited.filter(|_| ended.continues)?;
        let proof = judge(&awaited, ended.turn.tokens)?;
        launch.awaited = None;
        lock(&self.awaited).remove(&ended.server);
        Some((proof, ended.turn.tokens.cached))
    }
}

impl KeptLaunch {
    /// The number of slots; `None` of a server that sleeps, which a question about slots would wake.
    async fn awake_slots(&self) -> Result<Option<u32>, String> {
        let question = Question::get("/props", PROPS_LIMIT).with_key(self.key.as_deref()).with_limit(4 << 20);
        let reply =
            ask(&self.target, question).await.map_err(|error| format!("its properties are not known: {error}"))?;
        let props: Json = serde_json::from_slice(&reply.body).unwrap_or_default();
        if props.get("is_sleeping").and_then(Json::as_bool) == Some(true) {
            return Ok(None);
        }
        let slots = props.get("total_slots").and_then(Json::as_u64).and_then(|slots| u32::try_from(slots).ok());
        slots.map(Some).ok_or_else(|| "it does not say how many slots it has".to_owned())
    }

    /// The body of the answer to an action on a slot.
    async fn ask(&self, slot: u32, action: &str, file: &str, until: Instant) -> Result<Vec<u8>, SlotError> {
        let path = format!("/slots/{slot}?action={action}");
        let json = json!({ "filename": file }).to_string();
        let left = until.saturating_duration_since(Instant::now());
        let reply = ask(&self.target, Question::post(&path, &json, left).with_key(self.key.as_deref())).await?;
        if reply.status.is_success() { Ok(reply.body.to_vec()) } else { Err(SlotError::Status(reply.status.as_u16())) }
    }

    async fn restore(&self, slots: &[SavedSlot]) -> Result<(), String> {
        let bytes: u64 = slots.iter().map(|slot| slot.bytes).sum();
        let until = Instant::now() + RESTORE_LIMIT + Duration::from_secs(bytes / SLOWEST_DISK);
        for saved in slots {
            let body = self.ask(saved.slot, "restore", &saved.name(), until).await;
            let body = body.map_err(|error| format!("slot {} cannot be restored: {error}", saved.slot))?;
            let expected = RestoreAnswer { tokens: saved.tokens, bytes: saved.bytes };
            if RestoreAnswer::read(&body) != Some(expected) {
                return Err(format!("slot {} was not restored whole", saved.slot));
            }
        }
        Ok(())
    }
}

/// An action on a slot came to nothing.
#[derive(Debug, thiserror::Error)]
enum SlotError {
    #[error(transparent)]
    Asking(#[from] AskError),
    #[error("the server answers {0}")]
    Status(u16),
}

fn sweep(folder: &Path, kept: &[PathBuf]) {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    remove(&files.filter(|file| !kept.contains(file)).collect::<Vec<_>>());
}

fn count(slots: usize) -> u32 {
    u32::try_from(slots).unwrap_or(u32::MAX)
}
