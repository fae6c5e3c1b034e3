//! The settings of the daemon itself, every default filled in, and the machine it runs on.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use crate::address::TcpAddress;

/// `[daemon]`.
#[derive(Debug, Clone, PartialEq)]
pub struct DaemonSettings {
    /// The TCP address of HTTP; `None` = the unix socket alone.
    pub listen: Option<TcpAddress>,
    /// The state directory, absolute; `None` = the default of `llama_warden_config_source`.
    pub state_dir: Option<PathBuf>,
    /// The file with the bearer token, absolute.
    pub token_file: Option<PathBuf>,
    /// What happens to the servers when the daemon dies.
    pub on_daemon_death: OnDaemonDeath,
    /// Further names, without port, that a request on loopback may have in `Host`.
    pub hosts: Vec<String>,
    /// Which users of this machine are served on loopback without a token.
    pub local_users: LocalUsers,
    /// Whether `/` answers with the dashboard.
    pub dashboard: bool,
    /// Longest time from the request to end until the daemon is gone; above zero.
    pub shutdown_deadline: Duration,
}

/// Which users of this machine are served on loopback without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalUsers {
    /// The daemon's own, and root.
    Same,
    /// Every one.
    Any,
}

/// What happens to the servers when the daemon dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDaemonDeath {
    /// They die with it.
    Kill,
    /// They live on and the next daemon takes them over. Refused by validation until it is built.
    Adopt,
}

/// `[logs]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// Bytes kept per output stream.
    pub ring_bytes: usize,
    /// Bytes after which the event log is rotated; `None` = no event log.
    pub event_log_bytes: Option<u64>,
}

/// `[metrics]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricsSettings {
    /// Whether a scrape that does not say it asks ready servers for their own metrics.
    pub servers: bool,
}

/// `[start]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartSettings {
    /// How many servers may load at a time; `None` = all.
    pub max_concurrent: Option<NonZeroU32>,
    /// What happens when the estimated memory does not suffice.
    pub memory: AdmissionPolicy,
}

/// What happens when the estimated memory of a server does not suffice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdmissionPolicy {
    /// Nothing is estimated.
    Off,
    /// It is started, with a warning.
    Warn,
    /// It is not started.
    Enforce,
}

/// The machine that a configuration is resolved for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostEnvironment {
    /// CPUs that this process may use (affinity, cgroup); at least 1. Caps the built-in default of `threads`.
    pub cpus: usize,
}

impl HostEnvironment {
    /// This machine; one CPU if the number cannot be read.
    pub fn current() -> Self {
        Self { cpus: std::thread::available_parallelism().map_or(1, usize::from) }
    }
}
