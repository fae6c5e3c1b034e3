//! The configuration of one server, and of all together, as far as the supervisor needs them.

use std::sync::Arc;
use std::time::Duration;

use llama_warden_config::{RestartSpec, ServerSpec};

use crate::eviction::RoomRules;

/// How one server is restarted, stopped and evicted.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerPolicy {
    /// When it is launched again after a failure.
    pub restart: Arc<RestartSpec>,
    /// Time before KILL.
    pub grace: Duration,
    /// Idle time after which it is stopped; `None` is never.
    pub ttl: Option<Duration>,
    /// Whether it is never stopped for another server.
    pub is_kept: bool,
    /// A factor of what its eviction costs.
    pub evict_cost: f64,
}

impl ServerPolicy {
    /// The policy of a server that nobody routes requests to.
    pub const fn new(restart: Arc<RestartSpec>, grace: Duration) -> Self {
        Self { restart, grace, ttl: None, is_kept: false, evict_cost: 1.0 }
    }
}

impl From<&ServerSpec> for ServerPolicy {
    fn from(spec: &ServerSpec) -> Self {
        Self::new(Arc::clone(&spec.restart), spec.stop.grace)
    }
}

/// What requests may do, and how long others wait for them.
#[derive(Debug, Clone, PartialEq)]
pub struct RoutingPolicy {
    /// Whether a request may start a server.
    pub on_demand: bool,
    /// How long a busy server may keep the requests for another one waiting before it takes no more.
    pub evict_busy_after: Duration,
    /// Longest time for requests in flight before a switch, a reload, an unload or a shutdown goes on.
    pub drain: Duration,
    /// Which servers may run together.
    pub rules: RoomRules,
}

impl Default for RoutingPolicy {
    fn default() -> Self {
        Self {
            on_demand: true,
            evict_busy_after: Duration::from_secs(5),
            drain: Duration::from_secs(30),
            rules: RoomRules::default(),
        }
    }
}
