//! The settings of the supervisor, and how the configuration gives them.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use llama_warden_component::Context;
use llama_warden_config::{Configuration, Fleet, MaxLoaded, RouterAddress, RouterSettings};
use llama_warden_events::{Incarnation, ProfileCard, ServerId, ServerTotals};
use llama_warden_memory::{Gpus, MemoryProbe};
use tokio::sync::watch;

use crate::machine::SupervisorLimits;
use crate::policy::RoutingPolicy;
use crate::switch::FleetSource;

/// Settings of the supervisor.
pub struct SupervisorSettings {
    /// The configured servers. The supervisor replaces them when a change is applied; other components hold receivers.
    pub fleet: watch::Sender<Fleet>,
    /// The configured profiles.
    pub profiles: Vec<ProfileCard>,
    /// Resolves changes of profile and configuration.
    pub source: FleetSource,
    /// Limits of number, time and memory.
    pub limits: SupervisorLimits,
    /// `[router]`, where a router listens: `limits.routing` follows it and the fleet in force.
    pub router: Option<RouterSettings>,
    /// Seed of the jitter of restarts.
    pub seed: u64,
    /// Estimates how much memory servers need, and reads how much is available.
    pub memory_probe: Arc<dyn MemoryProbe>,
    /// Servers of which an earlier daemon left a process, and the numbers of their launches.
    pub adopted: Vec<(ServerId, Incarnation)>,
    /// What earlier daemons have counted of servers.
    pub totals: BTreeMap<ServerId, ServerTotals>,
    /// The directory that keeps decisions across runs; `None` keeps none.
    pub state_dir: Option<PathBuf>,
}

impl fmt::Debug for SupervisorSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorSettings").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl SupervisorSettings {
    /// Those of `[start]` and `[router]`, without servers that an earlier daemon left.
    pub(crate) fn configured(
        context: &Context,
        fleet: watch::Sender<Fleet>,
        source: FleetSource,
        memory_probe: Arc<dyn MemoryProbe>,
    ) -> Self {
        let (configuration, start) = (context.config(), context.config().start());
        Self {
            fleet,
            profiles: configuration.profiles(),
            source,
            limits: SupervisorLimits {
                shutdown: configuration.daemon().shutdown_deadline,
                starts: start.max_concurrent.map(|most| most.get() as usize),
                memory: start.memory,
                routing: RoutingPolicy::default(),
            },
            router: router_settings(configuration, memory_probe.as_ref()),
            memory_probe,
            seed: fastrand::u64(..),
            adopted: Vec::new(),
            totals: BTreeMap::new(),
            state_dir: Some(context.state_dir().to_owned()),
        }
    }
}

/// `[router]`, where it listens. Where nothing measures the memory of a GPU, one server at a time is all that surely fits.
fn router_settings(configuration: &Configuration, memory_probe: &dyn MemoryProbe) -> Option<RouterSettings> {
    let router = configuration.router().clone();
    if router.listen == RouterAddress::Off {
        return None;
    }
    let is_unmeasured = || memory_probe.read(&[]).gpus == Gpus::Unmeasured;
    let max_loaded = match router.max_loaded {
        MaxLoaded::Auto if is_unmeasured() => MaxLoaded::AtMost(NonZeroU32::MIN),
        other => other,
    };
    Some(RouterSettings { max_loaded, ..router })
}
