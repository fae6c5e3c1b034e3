//! The difference of two fleets: which servers a change of profile or configuration keeps, restarts, stops and starts.

use std::sync::Arc;

use llama_warden_config::Fleet;
use llama_warden_events::{ProfileCard, Refused, ServerId, SwitchPlan};

use crate::machine::DesiredServer;

/// A change of profile or configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Activate a profile of the active configuration; `None` is every enabled server.
    Profile(Option<String>),
    /// Resolve a profile like `Profile`, without activating it.
    Preview(Option<String>),
    /// Read the configuration again, for the active profile.
    Reload,
}

/// Resolves a change. Called on a thread that may block. When it refuses, nothing has changed.
pub type FleetSource = Arc<dyn Fn(&Change) -> Result<Resolved, Refused> + Send + Sync>;

/// A configuration, resolved for one profile.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    /// Every configured server; those of the profile are enabled.
    pub fleet: Fleet,
    /// The profile that it was resolved for; `None` is none.
    pub profile: Option<String>,
    /// Every configured profile.
    pub profiles: Vec<ProfileCard>,
}

/// The difference between the active fleet and the next one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Difference {
    /// As `SwitchPlanned` carries it.
    pub(crate) plan: SwitchPlan,
    /// As [`SupervisorMachine::switch`](crate::SupervisorMachine::switch) takes it.
    pub(crate) servers: Vec<DesiredServer>,
}

/// Compares the active fleet with the next one. `is_up` says whether a launch of a server is under way or due,
/// `is_stopped_by_user` whether an enabled server stays down because a person stopped it.
pub(crate) fn difference(
    current: &Fleet,
    next: &Resolved,
    is_up: impl Fn(&ServerId) -> bool,
    is_stopped_by_user: impl Fn(&ServerId) -> bool,
) -> Difference {
    let mut plan = SwitchPlan { profile: next.profile.clone(), ..SwitchPlan::default() };
    let mut servers = Vec::new();
    for spec in next.fleet.iter() {
        let changed = current.get(spec.id.as_str()).is_some_and(|old| spec.needs_new_process(old));
        let wanted = spec.enabled && !is_stopped_by_user(&spec.id);
        let list = match (is_up(&spec.id), wanted, changed) {
            (true, true, false) => Some(&mut plan.keep),
            (true, true, true) => Some(&mut plan.restart),
            (true, false, _) => Some(&mut plan.stop),
            (false, true, _) => Some(&mut plan.start),
            (false, false, _) => None,
        };
        if let Some(list) = list {
            list.push(spec.id.clone());
        }
        servers.push(DesiredServer { server: spec.id.clone(), restart: spec.restart.clone(), wanted, changed });
    }
    // A server that left the configuration and is down needs no stop.
    let gone = current.iter().filter(|old| next.fleet.get(old.id.as_str()).is_none());
    plan.stop.extend(gone.map(|old| old.id.clone()).filter(is_up));
    plan.stop.sort();
    Difference { plan, servers }
}
