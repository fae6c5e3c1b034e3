//! Which servers may run together, and which of them make room for another one. Pure: no time, no memory of what was.
//!
//! Invariants:
//!
//! * [`RoomRules::refuses`] is monotone: what is allowed beside some servers is allowed beside fewer.
//! * [`choose`] returns a set that is enough and of which no server can be left out.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::time::Duration;

use llama_warden_events::{EvictionCause, ServerId};

/// Up to so many candidates, the dearest set is compared with every other: 4096 sets at most.
const EXACT_UP_TO: usize = 12;

/// Which servers may run at a time. By default all of them. Canaries do not count, and are never refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoomRules {
    /// How many; `None` is no limit.
    pub max_loaded: Option<usize>,
    /// Servers that exclude others. A server is in one group at most.
    pub groups: Vec<RoomGroup>,
    /// Sets of servers that may run together; empty is any.
    pub combinations: Vec<BTreeSet<ServerId>>,
}

/// Servers of which some exclude others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoomGroup {
    /// Its members.
    pub members: BTreeSet<ServerId>,
    /// How many of them may run at a time; `None` is no limit.
    pub at_most: Option<usize>,
    /// Whether a launch of a member excludes every server outside the group.
    pub is_exclusive: bool,
    /// Whether servers outside the group never evict its members.
    pub is_persistent: bool,
}

/// A server that may be evicted.
#[derive(Debug, Clone, PartialEq)]
pub struct EvictionCandidate {
    /// The server.
    pub server: ServerId,
    /// What its eviction costs: the time to load it again, weighted.
    pub cost: f64,
    /// How long it has been idle.
    pub idle: Duration,
}

impl RoomRules {
    /// Why `target` may not be launched beside `running`, if it may not.
    pub fn refuses(&self, running: &BTreeSet<ServerId>, target: &ServerId) -> Option<EvictionCause> {
        if target.is_canary() {
            return None;
        }
        let others = || running.iter().filter(|server| *server != target && !server.is_canary());
        if self.max_loaded.is_some_and(|most| others().count() >= most) {
            return Some(EvictionCause::Count);
        }
        if let Some(group) = self.group(target) {
            let members = others().filter(|server| group.members.contains(*server)).count();
            let is_disturbed = || {
                others().any(|server| {
                    !group.members.contains(server) && !self.group(server).is_some_and(|group| group.is_persistent)
                })
            };
            if group.at_most.is_some_and(|most| members >= most) || (group.is_exclusive && is_disturbed()) {
                return Some(EvictionCause::Group);
            }
        }
        let fits = |set: &BTreeSet<ServerId>| set.contains(target) && others().all(|server| set.contains(server));
        if !self.combinations.is_empty() && others().next().is_some() && !self.combinations.iter().any(fits) {
            return Some(EvictionCause::Combination);
        }
        None
    }

    /// Whether `victim` may be stopped for `target`.
    pub fn may_evict(&self, victim: &ServerId, target: &ServerId) -> bool {
        let protects = |group: &RoomGroup| group.is_persistent && !group.members.contains(target);
        victim != target && !victim.is_canary() && !self.group(victim).is_some_and(protects)
    }

    /// The limit behind a refusal, for people.
    pub fn describe(&self, cause: EvictionCause) -> String {
        match (cause, self.max_loaded) {
            (EvictionCause::Count, Some(most)) => format!("router.max-loaded is {most}"),
            (EvictionCause::Count, None) => "as many servers run as may".to_owned(),
            (EvictionCause::Group, _) => "its group in router.groups leaves no room".to_owned(),
            (EvictionCause::Combination, _) => "router.combinations does not allow it beside what runs".to_owned(),
            (EvictionCause::Memory, _) => "memory is short".to_owned(),
        }
    }

    fn group(&self, server: &ServerId) -> Option<&RoomGroup> {
        self.groups.iter().find(|group| group.members.contains(server))
    }
}

/// The cheapest candidates whose end is enough; `None` where not even the end of all of them is. Of equal costs, those that have been
/// idle longest, then by name. `is_enough` is monotone, and is not asked about the empty set.
pub fn choose(
    mut candidates: Vec<EvictionCandidate>,
    mut is_enough: impl FnMut(&BTreeSet<ServerId>) -> bool,
) -> Option<BTreeSet<ServerId>> {
    candidates.sort_by(dearness);
    let all = ids(&candidates);
    if candidates.is_empty() || !is_enough(&all) {
        return None;
    }
    if candidates.len() <= EXACT_UP_TO { cheapest(&candidates, is_enough) } else { Some(pruned(candidates, is_enough)) }
}

/// Cheaper first; of equal ones the one that has been idle longest, then by name.
fn dearness(one: &EvictionCandidate, other: &EvictionCandidate) -> Ordering {
    one.cost.total_cmp(&other.cost).then(other.idle.cmp(&one.idle)).then_with(|| one.server.cmp(&other.server))
}

fn ids(candidates: &[EvictionCandidate]) -> BTreeSet<ServerId> {
    candidates.iter().map(|candidate| candidate.server.clone()).collect()
}

/// Compares every set. Sets that cost more than the best so far are not asked about.
fn cheapest(
    candidates: &[EvictionCandidate],
    mut is_enough: impl FnMut(&BTreeSet<ServerId>) -> bool,
) -> Option<BTreeSet<ServerId>> {
    let chosen = |mask: u32| candidates.iter().enumerate().filter(move |(bit, _)| mask & (1 << bit) != 0);
    let cost = |mask: u32| chosen(mask).map(|(_, candidate)| candidate.cost).sum::<f64>();
    let mut masks: Vec<u32> = (1..1 << candidates.len()).collect();
    // Of equal costs the smaller set, then the one with the candidates that come first.
    masks.sort_by(|one, other| {
        cost(*one).total_cmp(&cost(*other)).then(one.count_ones().cmp(&other.count_ones())).then(one.cmp(other))
    });
    let set = |mask: u32| chosen(mask).map(|(_, candidate)| candidate.server.clone()).collect::<BTreeSet<_>>();
    masks.into_iter().map(set).find(|set| is_enough(set))
}

/// Adds candidates from the cheapest on until they are enough, then leaves out those that are not needed, the dearest first.
fn pruned(
    candidates: Vec<EvictionCandidate>,
    mut is_enough: impl FnMut(&BTreeSet<ServerId>) -> bool,
) -> BTreeSet<ServerId> {
    let mut chosen = BTreeSet::new();
    let mut added = Vec::new();
    for candidate in candidates {
        chosen.insert(candidate.server.clone());
        added.push(candidate.server);
        if is_enough(&chosen) {
            break;
        }
    }
    for server in added.into_iter().rev() {
        if chosen.len() > 1 && chosen.remove(&server) && !is_enough(&chosen) {
            chosen.insert(server);
        }
    }
    chosen
}

#[cfg(test)]
mod tests;
