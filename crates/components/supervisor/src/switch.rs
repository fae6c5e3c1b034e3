//! What a change of profile or configuration does to each server: a plain difference of two fleets.

use std::sync::Arc;

use llama_warden_config::Fleet;
use llama_warden_events::{ProfileCard, Refused, ServerId, SwitchPlan};

use crate::machine::DesiredServer;

/// What is asked of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// What a profile says, in the configuration that is in force; `None` is every enabled server.
    Profile(Option<String>),
    /// The same, and it does not come into force.
    Preview(Option<String>),
    /// What the configuration says when it is read again, for the profile that is active.
    Reload,
}

/// Resolves a change. Runs on a thread that may block, and changes nothing when it refuses.
pub type FleetSource = Arc<dyn Fn(&Change) -> Result<Resolved, Refused> + Send + Sync>;

/// What a configuration says.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    /// Every configured server, those of the profile enabled.
    pub fleet: Fleet,
    /// The profile that it was resolved for.
    pub profile: Option<String>,
    /// Every configured profile.
    pub profiles: Vec<ProfileCard>,
}

/// The difference between the fleet in force and another one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Difference {
    pub(crate) plan: SwitchPlan,
    pub(crate) servers: Vec<DesiredServer>,
}

/// `is_up` says which servers run, or are on their way; `is_stopped_by_user` which of them stay down although they are enabled.
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
    let gone = current.iter().filter(|old| next.fleet.get(old.id.as_str()).is_none());
    plan.stop.extend(gone.map(|old| old.id.clone()).filter(is_up));
    plan.stop.sort();
    Difference { plan, servers }
}
