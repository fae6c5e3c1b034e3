//! The difference of two fleets: which servers a change of profile or configuration keeps, restarts, stops and starts.

use std::collections::BTreeSet;
use std::sync::Arc;

use llama_warden_config::Fleet;
use llama_warden_events::{BuildChange, ProfileCard, Refused, ServerId, SwitchPlan};

use crate::machine::{DesiredServer, ServerGoal, SupervisorMachine};
use crate::policy::ServerPolicy;

/// A change of profile or configuration.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Activate a profile of the active configuration; `None` is every enabled server.
    Profile(Option<String>),
    /// Resolve a profile like `Profile`, without activating it.
    Preview(Option<String>),
    /// Read the configuration again, for the active profile.
    Reload(Caution),
    /// Give another port to a server whose port is taken by somebody else. Refused where the configuration names its port, or
    /// nobody listens there any more.
    Port(ServerId),
    /// Change the executable of a server, or try another one beside it.
    Build(ServerId, BuildChange),
}

/// Whether a reload refuses a configuration that looks half written.
#[derive(Debug, Clone, PartialEq)]
pub enum Caution {
    /// It does. What is in force, and what runs, is what it would disturb.
    Guarded(FleetActivity),
    /// It does not: somebody says that the configuration is meant as it is.
    Forced,
}

/// The fleet in force, and what its servers do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FleetActivity {
    /// The fleet in force.
    pub fleet: Fleet,
    /// Servers of which a launch is under way or due, and not about to be stopped.
    pub up: BTreeSet<ServerId>,
    /// Servers that stay down because a user stopped them.
    pub stopped_by_user: BTreeSet<ServerId>,
    /// Servers that a person or a request asked for, and that were not stopped since.
    pub asked_for: BTreeSet<ServerId>,
    /// Servers that run because requests asked for them.
    pub on_demand: BTreeSet<ServerId>,
    /// Servers that are down until somebody wants them.
    pub unloaded: BTreeSet<ServerId>,
}

impl FleetActivity {
    /// The fleet in force and what it does, as the next change meets it.
    pub fn of(machine: &SupervisorMachine, fleet: &Fleet) -> Self {
        Self {
            fleet: fleet.clone(),
            up: machine.up().cloned().collect(),
            stopped_by_user: machine.stopped_by_user().cloned().collect(),
            asked_for: machine.asked_for().cloned().collect(),
            on_demand: machine.on_demand().cloned().collect(),
            unloaded: machine.unloaded().cloned().collect(),
        }
    }
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

impl Caution {
    /// Why `next` is not trusted: it would stop every server that runs, and start none.
    ///
    /// So does a file that an editor has emptied and not filled yet, or that a full disk cut off. A configuration that
    /// replaces its servers by others is whole.
    pub fn doubt(&self, next: &Resolved) -> Option<String> {
        let Self::Guarded(activity) = self else { return None };
        let SwitchPlan { stop, start, restart, keep, .. } = difference(activity, next, SwitchKind::Reload).plan;
        let leaves_nothing = !stop.is_empty() && start.is_empty() && restart.is_empty() && keep.is_empty();
        let names: Vec<&str> = stop.iter().map(ServerId::as_str).collect();
        leaves_nothing.then(|| format!("it would stop every server that runs ({})", names.join(", ")))
    }
}

/// What a change may do to servers that it does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwitchKind {
    /// A person wants the servers of a profile, and no others, to run.
    Profile,
    /// The configuration changed, perhaps in another place: a server whose settings are what they were is left alone,
    /// and so is what a person stopped or started.
    Reload,
}

/// The difference between the active fleet and the next one.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// As `SwitchPlanned` carries it.
    pub plan: SwitchPlan,
    /// As [`SupervisorMachine::switch`](crate::SupervisorMachine::switch) takes it.
    pub servers: Vec<DesiredServer>,
}

/// Compares the fleet in force with the next one.
pub fn difference(activity: &FleetActivity, next: &Resolved, kind: SwitchKind) -> Difference {
    let mut plan = SwitchPlan { profile: next.profile.clone(), ..SwitchPlan::default() };
    let mut servers = Vec::new();
    // A person had it stopped, or it comes back once somebody wants it.
    let stays_down = |id| activity.stopped_by_user.contains(id) || activity.unloaded.contains(id);
    for spec in next.fleet.iter() {
        let old = activity.fleet.get(spec.id.as_str());
        let is_up = activity.up.contains(&spec.id);
        let changed = old.is_some_and(|old| spec.needs_new_process(old));
        let goal = match kind {
            SwitchKind::Profile if spec.enabled => ServerGoal::Run,
            // It makes room where the servers of the profile need it.
            SwitchKind::Profile if is_up && activity.on_demand.contains(&spec.id) => ServerGoal::AsItIs,
            SwitchKind::Profile => ServerGoal::Down,
            SwitchKind::Reload if old == Some(spec) => ServerGoal::AsItIs,
            SwitchKind::Reload if spec.enabled && stays_down(&spec.id) => ServerGoal::AsItIs,
            SwitchKind::Reload if spec.enabled => ServerGoal::Run,
            SwitchKind::Reload if is_up && activity.asked_for.contains(&spec.id) => ServerGoal::Run,
            SwitchKind::Reload if old.is_none_or(|old| old.enabled) => ServerGoal::Down,
            // It is not enabled and was not: it runs only if somebody started it.
            SwitchKind::Reload if is_up => ServerGoal::Run,
            SwitchKind::Reload => ServerGoal::AsItIs,
        };
        let list = match (is_up, goal) {
            (true, ServerGoal::Run) if changed => Some(&mut plan.restart),
            (true, ServerGoal::Run | ServerGoal::AsItIs) => Some(&mut plan.keep),
            (true, ServerGoal::Down) => Some(&mut plan.stop),
            (false, ServerGoal::Run) => Some(&mut plan.start),
            (false, ServerGoal::Down | ServerGoal::AsItIs) => None,
        };
        if let Some(list) = list {
            list.push(spec.id.clone());
        }
        servers.push(DesiredServer { server: spec.id.clone(), policy: ServerPolicy::from(&**spec), goal, changed });
    }
    // A server that left the configuration and is down needs no stop.
    let gone = activity.fleet.iter().filter(|old| next.fleet.get(old.id.as_str()).is_none());
    plan.stop.extend(gone.map(|old| old.id.clone()).filter(|id| activity.up.contains(id)));
    plan.stop.sort();
    Difference { plan, servers }
}

#[cfg(test)]
mod tests {
    use llama_warden_component_kit as component_kit;

    use super::*;

    fn id(name: &str) -> ServerId {
        ServerId::new(name).expect("valid")
    }

    /// A fleet of servers, each with more lines of TOML.
    fn fleet(servers: &[(&str, &str)]) -> Fleet {
        let table = |(index, (id, keys)): (usize, &(&str, &str))| {
            format!("[[servers]]\nid = '{id}'\nmodel = '/m.gguf'\nport = {}\n{keys}\n", 8001 + index)
        };
        let text: String = servers.iter().enumerate().map(table).collect();
        component_kit::fleet(&text)
    }

    fn activity(servers: &[(&str, &str)], up: &[&str]) -> FleetActivity {
        let up = up.iter().copied().map(id).collect();
        FleetActivity { fleet: fleet(servers), up, ..FleetActivity::default() }
    }

    /// What a reload plans: stop, start, restart, keep.
    fn planned(activity: &FleetActivity, next: &[(&str, &str)]) -> [String; 4] {
        let next = Resolved { fleet: fleet(next), ..Resolved::default() };
        let SwitchPlan { stop, start, restart, keep, .. } = difference(activity, &next, SwitchKind::Reload).plan;
        [stop, start, restart, keep].map(|ids| ids.iter().map(ServerId::as_str).collect::<Vec<_>>().join(" "))
    }

    const ON: &str = "";
    const OFF: &str = "enabled = false";

    #[test]
    fn a_reload_touches_what_it_changes_and_nothing_else() {
        let ready = activity(&[("a", ON), ("b", ON)], &["a", "b"]);
        assert_eq!(planned(&ready, &[("a", ON), ("b", ON), ("c", ON)]), ["", "c", "", "a b"]);
        assert_eq!(planned(&ready, &[("a", ON), ("b", "args = ['-v']")]), ["", "", "b", "a"]);
        assert_eq!(planned(&ready, &[("a", ON), ("b", OFF)]), ["b", "", "", "a"]);
        assert_eq!(planned(&ready, &[("a", ON)]), ["b", "", "", "a"]);
        let failed = activity(&[("a", ON), ("b", ON)], &["a"]);
        assert_eq!(planned(&failed, &[("a", "tier = 'x'"), ("b", ON)]), ["", "", "", "a"], "given up, and unchanged");
        assert_eq!(planned(&failed, &[("a", ON), ("b", "tier = 'x'")]), ["", "b", "", "a"]);
    }

    #[test]
    fn what_a_person_started_or_stopped_stays_so_through_a_reload() {
        let by_hand = activity(&[("a", ON), ("b", OFF)], &["a", "b"]);
        assert_eq!(planned(&by_hand, &[("a", ON), ("b", OFF)]), ["", "", "", "a b"]);
        assert_eq!(planned(&by_hand, &[("a", ON), ("b", "enabled = false\nargs = ['-v']")]), ["", "", "b", "a"]);
        assert_eq!(planned(&by_hand, &[("a", ON), ("b", ON)]), ["", "", "", "a b"]);
        assert_eq!(planned(&by_hand, &[("a", ON)]), ["b", "", "", "a"]);
        let stopped = FleetActivity { stopped_by_user: [id("a")].into(), ..activity(&[("a", ON), ("b", ON)], &["b"]) };
        assert_eq!(planned(&stopped, &[("a", "args = ['-v']"), ("b", ON)]), ["", "", "", "b"]);
    }

    #[test]
    fn what_somebody_asked_for_outlives_a_reload_that_disables_it() {
        let started = activity(&[("a", ON), ("b", ON)], &["a", "b"]);
        let asked = FleetActivity { asked_for: [id("b")].into(), ..started.clone() };
        assert_eq!(planned(&started, &[("a", ON), ("b", OFF)]), ["b", "", "", "a"]);
        assert_eq!(planned(&asked, &[("a", ON), ("b", OFF)]), ["", "", "", "a b"]);
        assert_eq!(planned(&asked, &[("a", ON), ("b", "enabled = false\nargs = ['-v']")]), ["", "", "b", "a"]);
        assert_eq!(planned(&asked, &[("a", ON)]), ["b", "", "", "a"], "it is not configured any more");
    }

    #[test]
    fn a_reload_brings_up_no_unloaded_server_whatever_it_changes() {
        let unloaded = FleetActivity { unloaded: [id("a")].into(), ..activity(&[("a", ON), ("b", ON)], &["b"]) };
        assert_eq!(planned(&unloaded, &[("a", "args = ['-v']"), ("b", ON)]), ["", "", "", "b"]);
    }

    #[test]
    fn a_profile_leaves_alone_what_requests_started() {
        let on_demand = activity(&[("a", ON), ("b", OFF), ("c", OFF)], &["b", "c"]);
        let on_demand = FleetActivity { on_demand: [id("b")].into(), ..on_demand };
        let next = Resolved { fleet: on_demand.fleet.clone(), ..Resolved::default() };
        let plan = difference(&on_demand, &next, SwitchKind::Profile).plan;
        assert_eq!((plan.stop, plan.start, plan.keep), (vec![id("c")], vec![id("a")], vec![id("b")]));
    }

    #[test]
    fn a_profile_brings_the_fleet_to_its_servers_whoever_started_them() {
        let by_hand = activity(&[("a", ON), ("b", OFF)], &["b"]);
        let next = Resolved { fleet: by_hand.fleet.clone(), ..Resolved::default() };
        let plan = difference(&by_hand, &next, SwitchKind::Profile).plan;
        assert_eq!((plan.stop, plan.start), (vec![id("b")], vec![id("a")]));
    }

    #[test]
    fn a_configuration_that_leaves_no_server_is_doubted_unless_it_is_forced() {
        let ready = activity(&[("a", ON), ("b", ON)], &["a", "b"]);
        let doubt = |activity: &FleetActivity, next: &[(&str, &str)]| {
            Caution::Guarded(activity.clone()).doubt(&Resolved { fleet: fleet(next), ..Resolved::default() })
        };
        assert_eq!(doubt(&ready, &[]), Some("it would stop every server that runs (a, b)".to_owned()));
        assert!(doubt(&ready, &[("a", OFF), ("b", OFF)]).is_some());
        assert_eq!(doubt(&ready, &[("a", ON)]), None);
        assert_eq!(doubt(&ready, &[("c", ON)]), None, "others take their place");
        assert_eq!(doubt(&activity(&[("a", ON)], &[]), &[]), None, "nothing runs that could be disturbed");
        assert_eq!(Caution::Forced.doubt(&Resolved::default()), None);
    }
}
