//! The snapshot: the whole state of the daemon and its servers in one value.

use std::collections::BTreeMap;
use std::sync::Arc;

use llama_warden_events::{BootId, ExtensionEvent, ProfileCard, RouterCard, Seq, ServerId, Timestamp, Uptime};
use serde::Serialize;

use crate::ServerRecord;

/// The state after the event [`seq`](Self::seq). Cloning copies pointers, not records.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// The last event that was applied.
    pub seq: Seq,
    /// The run of the daemon.
    pub boot: BootId,
    /// The time of the last event.
    pub elapsed: Uptime,
    /// The state of the daemon itself.
    pub daemon: DaemonRecord,
    /// Every configured server.
    pub servers: BTreeMap<ServerId, Arc<ServerRecord>>,
    /// The number of events of each kind.
    pub events: BTreeMap<&'static str, u64>,
    /// Events that were stale or impossible.
    pub anomalies: u64,
    /// Events of components that llama-warden does not know.
    pub extensions: ExtensionCounts,
}

/// How many extension events came, by the component that published them and their kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ExtensionCounts(BTreeMap<String, BTreeMap<String, u64>>);

impl ExtensionCounts {
    /// Most components, and most kinds of one component, that are counted by name; further ones count as `other`. A component that
    /// invents kinds without end must fill neither the memory nor the metrics page.
    const KINDS: usize = 32;

    /// Counts an event.
    pub fn count(&mut self, event: &ExtensionEvent) {
        let kinds = bounded(&mut self.0, &event.source);
        *bounded(kinds, &event.kind) += 1;
    }

    /// Component, kind and count, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.0
            .iter()
            .flat_map(|(source, kinds)| kinds.iter().map(|(kind, count)| (source.as_str(), kind.as_str(), *count)))
    }
}

/// The entry of `key`, or of `other` once the map is full.
fn bounded<'a, V: Default>(map: &'a mut BTreeMap<String, V>, key: &str) -> &'a mut V {
    let key = if map.contains_key(key) || map.len() < ExtensionCounts::KINDS { key } else { "other" };
    map.entry(key.to_owned()).or_default()
}

impl Snapshot {
    /// The state before the first event.
    pub fn new(boot: BootId) -> Self {
        Self {
            seq: Seq::default(),
            boot,
            elapsed: Uptime::default(),
            daemon: DaemonRecord::default(),
            servers: BTreeMap::new(),
            events: BTreeMap::new(),
            anomalies: 0,
            extensions: ExtensionCounts::default(),
        }
    }

    /// Servers that are ready.
    pub fn ready_servers(&self) -> usize {
        self.servers.values().filter(|server| server.is_ready()).count()
    }

    /// Servers with a process.
    pub fn running_servers(&self) -> usize {
        self.servers.values().filter(|server| server.is_running()).count()
    }

    /// Enabled servers that are not ready, and not unloaded either.
    pub fn missing_servers(&self) -> impl Iterator<Item = (&ServerId, &ServerRecord)> {
        self.servers
            .iter()
            .map(|(id, server)| (id, server.as_ref()))
            .filter(|(_, server)| server.card.enabled && !server.is_ready() && !server.is_unloaded)
    }
}

/// The state of the daemon itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DaemonRecord {
    /// Its phase.
    pub phase: DaemonPhase,
    /// Its version.
    pub version: String,
    /// When it started, for people.
    pub started_at: Option<Timestamp>,
    /// The profile that is active.
    pub profile: Option<String>,
    /// The configured profiles.
    pub profiles: Arc<[ProfileCard]>,
    /// Whether every server and profile of the configuration that the daemon started with is known here.
    pub is_configured: bool,
    /// Why the latest changed configuration was refused; cleared by the next one that is accepted.
    pub configuration_refused: Option<String>,
    /// Where the router listens; `None` where it is off.
    pub router: Option<Box<RouterCard>>,
    /// The process that forks a shim for each program.
    pub guardian: Option<GuardianRecord>,
    /// Who asked it to stop.
    pub trigger: Option<String>,
    /// Whether it leaves every process to the next daemon.
    pub is_handing_over: bool,
    /// The component that failed, and its error.
    pub failed_component: Option<(String, String)>,
}

/// The guardian of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct GuardianRecord {
    /// Its process id.
    pub pid: u32,
    /// How often it was started again.
    pub restarts: u64,
}

/// The phase of the daemon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DaemonPhase {
    /// Components are starting.
    #[default]
    Starting,
    /// It accepts commands.
    Running,
    /// It stops every server.
    Stopping,
    /// No server runs any more.
    Stopped,
}
