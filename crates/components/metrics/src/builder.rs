//! Builds a snapshot event by event, with fixed times, for tests.

use std::path::PathBuf;
use std::time::Duration;

use llama_warden_events::{
    BinaryIdentity, BootId, Envelope, Event, Incarnation, ReadyVia, ServerCard, ServerId, Timestamp, Uptime,
};
use llama_warden_state::Snapshot;

/// A snapshot in the making; each event comes a second after the one before.
pub(crate) struct SnapshotBuilder {
    pub(crate) snapshot: Snapshot,
}

impl Default for SnapshotBuilder {
    fn default() -> Self {
        Self { snapshot: Snapshot::new(BootId::from_random(1)) }
    }
}

impl SnapshotBuilder {
    pub(crate) fn id(server: &str) -> ServerId {
        ServerId::new(server).expect("valid id")
    }

    pub(crate) fn apply(&mut self, server: &str, incarnation: impl Into<Option<u64>>, event: Event) {
        let seq = self.snapshot.seq.next();
        let at = 1_790_000_000 + i64::try_from(seq.get()).expect("small");
        self.snapshot.apply(&Envelope {
            seq,
            boot: self.snapshot.boot,
            at: Timestamp::new(jiff::Timestamp::from_second(at).expect("in range")),
            elapsed: Uptime::new(Duration::from_secs(seq.get())),
            server: Some(Self::id(server)),
            incarnation: incarnation.into().map(Incarnation::new),
            cause: None,
            event,
        });
        assert_eq!(self.snapshot.anomalies, 0, "an event of the test does not fit");
    }

    pub(crate) fn configure(&mut self, server: &str) {
        let card = ServerCard {
            display_name: server.to_uppercase(),
            model: Some(PathBuf::from("/secret/place/qwen3.gguf")),
            port: 8001,
            host: "127.0.0.1".to_owned(),
            tier: Some("Q4_K_M".to_owned()),
            thinking: false,
            enabled: true,
        };
        self.apply(server, None, Event::ServerConfigured { card: card.into() });
    }

    /// Launches a process that does not exist: its number is above what Linux gives out.
    pub(crate) fn launch(&mut self, server: &str, incarnation: u64) {
        self.spawn(server, incarnation, 4_194_305, 1);
    }

    pub(crate) fn spawn(&mut self, server: &str, incarnation: u64, pid: u32, start_ticks: u64) {
        self.apply(server, incarnation, Event::LaunchBegan { binary: PathBuf::from("/bin/llama-server") });
        let identity = BinaryIdentity {
            binary: PathBuf::from("/bin/llama-server"),
            version: Some("b11669".into()),
            build: Some(11_669),
            options: [].into(),
        };
        self.apply(server, incarnation, Event::BinaryIdentified(identity.into()));
        self.apply(server, incarnation, Event::ServerSpawned { pid, start_ticks, argv: [].into(), port: 8001 });
    }

    pub(crate) fn become_ready(&mut self, server: &str, incarnation: u64) {
        let event = Event::ReadyReached { via: ReadyVia::Stderr, startup_seconds: 4.5 };
        self.apply(server, incarnation, event);
    }
}
