//! The state that the threads of a server share.

use std::{
    os::fd::OwnedFd,
    sync::{
        Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, AtomicU64},
    },
    time::{Duration, Instant},
};

use crate::{
    dump::Inherited,
    log::ServerLog,
    resumable::ResumableStreams,
    script::{Script, WireFault},
    settings::Settings,
};

/// The phase of the server, which only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ServerPhase {
    Loading,
    Ready,
    Stopping,
}

/// One server, shared by its threads.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) script: Script,
    pub(crate) settings: Settings,
    pub(crate) log: ServerLog,
    pub(crate) inherited: Inherited,
    pub(crate) resumable: ResumableStreams,
    /// The bound port and its socket.
    listening: OnceLock<(u16, OwnedFd)>,
    /// The tokens in the only slot that is used.
    pub(crate) slot_tokens: AtomicU64,
    progress: Mutex<ServerProgress>,
    changed: Condvar,
    /// Completions that were asked for.
    pub(crate) completions: AtomicU32,
}

#[derive(Debug)]
struct ServerProgress {
    phase: ServerPhase,
    loaded_at: Option<Instant>,
    streams: usize,
    /// Completions that have met their fault.
    faults: usize,
}

impl Server {
    /// The id of the model in responses: by the script, else the alias, else the path.
    pub(crate) fn model_id(&self) -> &str {
        self.script.model_id.as_deref().or(self.settings.alias.as_deref()).unwrap_or(&self.settings.model)
    }

    pub(crate) fn new(script: Script, settings: Settings, inherited: Inherited) -> Self {
        let log = ServerLog::open(settings.log.clone(), script.silent || script.replay.is_some());
        Self {
            script,
            settings,
            log,
            inherited,
            resumable: ResumableStreams::default(),
            listening: OnceLock::new(),
            slot_tokens: AtomicU64::new(0),
            progress: Mutex::new(ServerProgress {
                phase: ServerPhase::Loading,
                loaded_at: None,
                streams: 0,
                faults: 0,
            }),
            changed: Condvar::new(),
            completions: AtomicU32::new(0),
        }
    }

    /// Stores the bound socket.
    pub(crate) fn listens(&self, port: u16, socket: OwnedFd) {
        // A server binds once.
        let _ = self.listening.set((port, socket));
    }

    /// The bound port; before the bind, the configured one.
    pub(crate) fn port(&self) -> u16 {
        self.listening.get().map_or(self.settings.port, |(port, _)| *port)
    }

    /// The listening socket, once there is one.
    pub(crate) fn listener(&self) -> Option<&OwnedFd> {
        self.listening.get().map(|(_, socket)| socket)
    }

    pub(crate) fn phase(&self) -> ServerPhase {
        self.progress().phase
    }

    /// Moves forward to `phase`. Returns false if the server is in that phase or a later one.
    pub(crate) fn advance(&self, phase: ServerPhase) -> bool {
        let mut progress = self.progress();
        if progress.phase >= phase {
            return false;
        }
        progress.phase = phase;
        if phase == ServerPhase::Ready {
            progress.loaded_at = Some(Instant::now());
        }
        drop(progress);
        self.changed.notify_all();
        true
    }

    /// The time since the end of the load; zero before.
    pub(crate) fn since_loaded(&self) -> Duration {
        self.progress().loaded_at.map(|at| at.elapsed()).unwrap_or_default()
    }

    /// Waits for the end of the load.
    pub(crate) fn await_loaded(&self) {
        drop(self.changed.wait_while(self.progress(), |progress| progress.phase == ServerPhase::Loading));
    }

    /// The fault of the completion that has just come.
    pub(crate) fn next_fault(&self) -> Option<WireFault> {
        let mut progress = self.progress();
        progress.faults += 1;
        self.script.faults.get(progress.faults - 1).cloned()
    }

    /// Counts a stream to a client until the guard is dropped.
    pub(crate) fn open_stream(&self) -> StreamGuard<'_> {
        self.progress().streams += 1;
        StreamGuard(self)
    }

    pub(crate) fn is_streaming(&self) -> bool {
        self.progress().streams > 0
    }

    /// Waits for the end of all streams, for at most `limit`.
    pub(crate) fn await_streams(&self, limit: Option<Duration>) {
        let is_streaming = |progress: &mut ServerProgress| progress.streams > 0;
        match limit {
            Some(limit) => drop(self.changed.wait_timeout_while(self.progress(), limit, is_streaming)),
            None => drop(self.changed.wait_while(self.progress(), is_streaming)),
        }
    }

    fn progress(&self) -> MutexGuard<'_, ServerProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Uncounts its stream when it is dropped.
pub(crate) struct StreamGuard<'a>(&'a Server);

impl Drop for StreamGuard<'_> {
    fn drop(&mut self) {
        self.0.progress().streams -= 1;
        self.0.changed.notify_all();
    }
}
