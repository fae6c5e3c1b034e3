//! The configuration of one server, and of all together, as far as the supervisor needs them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use llama_warden_config::{AdmissionPolicy, Fleet, MaxLoaded, RestartSpec, RouterSettings, ServerPattern, ServerSpec};
use llama_warden_events::ServerId;
use llama_warden_room::{RoomGroup, RoomRules};

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
        let (ttl, is_kept, evict_cost) = (spec.router.ttl, spec.router.is_kept, spec.router.evict_cost);
        Self { ttl, is_kept, evict_cost, ..Self::new(Arc::clone(&spec.restart), spec.stop.grace) }
    }
}

/// What requests may do, and how long others wait for them.
#[derive(Debug, Clone, PartialEq)]
pub struct RoutingPolicy {
    /// Whether a router listens: without one, nobody says which servers are used.
    pub is_on: bool,
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
            is_on: false,
            on_demand: true,
            evict_busy_after: Duration::from_secs(5),
            drain: Duration::from_secs(30),
            rules: RoomRules::default(),
        }
    }
}

impl RoutingPolicy {
    /// What `[router]` says about the servers of a fleet, where a router listens.
    pub fn of(router: &RouterSettings, memory: AdmissionPolicy, fleet: &Fleet) -> Self {
        let members = |patterns: &[ServerPattern]| -> BTreeSet<ServerId> {
            let is_meant = |server: &&ServerId| patterns.iter().any(|pattern| pattern.matches(server));
            fleet.iter().map(|spec| &spec.id).filter(is_meant).cloned().collect()
        };
        let groups = router.groups.values().map(|group| RoomGroup {
            members: members(&group.servers),
            at_most: group.at_most.map(|most| most.get() as usize),
            is_exclusive: group.is_exclusive,
            is_persistent: group.is_persistent,
        });
        let rules = RoomRules {
            max_loaded: match router.max_loaded {
                MaxLoaded::AtMost(most) => Some(most.get() as usize),
                // Nothing else keeps them from taking more memory than there is.
                MaxLoaded::Auto => (memory == AdmissionPolicy::Off).then_some(1),
                MaxLoaded::Unlimited => None,
            },
            groups: groups.collect(),
            combinations: router.combinations.iter().map(|set| members(set)).collect(),
        };
        let (on_demand, evict_busy_after, drain) = (router.on_demand, router.evict_busy_after, router.drain);
        Self { is_on: true, on_demand, evict_busy_after, drain, rules }
    }
}
