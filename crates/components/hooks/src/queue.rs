//! The queue of commands: one runs at a time for each server, in the order in which they were added.

use std::collections::{BTreeMap, VecDeque};

use llama_warden_events::ServerId;

use crate::call::HookCall;

/// How many commands of one server may wait. A crash loop whose commands take longer than its back-off fills the queue; a
/// further command is refused, and its failure published.
const CAPACITY: usize = 8;

/// The commands that wait, by server.
#[derive(Debug, Default)]
pub(crate) struct HookQueue {
    /// A server has an entry, perhaps an empty one, while a command of it runs.
    waiting: BTreeMap<ServerId, VecDeque<HookCall>>,
}

/// Whether a command runs now, waits, or is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum QueueDecision {
    /// Run it.
    Now(HookCall),
    /// Nothing: it waits, and [`HookQueue::next`] returns it in its turn.
    Later,
    /// Too many commands of its server wait.
    Refused(HookCall),
}

impl HookQueue {
    pub(crate) fn add(&mut self, call: HookCall) -> QueueDecision {
        match self.waiting.get_mut(&call.server) {
            None => {
                self.waiting.insert(call.server.clone(), VecDeque::new());
                QueueDecision::Now(call)
            }
            Some(waiting) if waiting.len() < CAPACITY => {
                waiting.push_back(call);
                QueueDecision::Later
            }
            Some(_) => QueueDecision::Refused(call),
        }
    }

    /// Removes and returns the waiting commands that are obsolete. A running one is not in the queue.
    pub(crate) fn withdraw(&mut self, is_obsolete: impl Fn(&HookCall) -> bool) -> Vec<HookCall> {
        let mut obsolete = Vec::new();
        for waiting in self.waiting.values_mut() {
            for call in std::mem::take(waiting) {
                if is_obsolete(&call) { obsolete.push(call) } else { waiting.push_back(call) }
            }
        }
        obsolete
    }

    /// Returns the next command of a server whose command has ended, if one waits.
    pub(crate) fn next(&mut self, server: &ServerId) -> Option<HookCall> {
        let next = self.waiting.get_mut(server)?.pop_front();
        if next.is_none() {
            self.waiting.remove(server);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use llama_warden_events::{HookPoint, Incarnation};

    use super::*;

    fn call(server: &str, launch: u64) -> HookCall {
        HookCall {
            server: ServerId::new(server).expect("valid"),
            incarnation: Incarnation::new(launch),
            hook: HookPoint::PostExit,
            argv: vec!["x".into()],
            limit: Duration::from_secs(30),
            deadline: None,
            variables: BTreeMap::new(),
            secrets: Vec::new(),
            key_files: Vec::new(),
            cause: None,
        }
    }

    #[test]
    fn commands_of_one_server_run_one_by_one_and_those_of_others_do_not_wait() {
        let mut queue = HookQueue::default();
        assert_eq!(queue.add(call("a", 1)), QueueDecision::Now(call("a", 1)));
        assert_eq!(queue.add(call("a", 2)), QueueDecision::Later);
        assert_eq!(queue.add(call("b", 1)), QueueDecision::Now(call("b", 1)));
        let a = call("a", 1).server;
        assert_eq!(queue.next(&a), Some(call("a", 2)));
        assert_eq!(queue.next(&a), None);
        assert_eq!(queue.add(call("a", 3)), QueueDecision::Now(call("a", 3)));
    }

    #[test]
    fn a_withdrawn_command_does_not_run() {
        let mut queue = HookQueue::default();
        for launch in 1..=3 {
            queue.add(call("a", launch));
        }
        assert_eq!(
            queue.withdraw(|call| call.incarnation <= Incarnation::new(2)),
            [call("a", 2)],
            "the running command is not in the queue"
        );
        assert_eq!(queue.next(&call("a", 1).server), Some(call("a", 3)));
    }

    #[test]
    fn a_full_queue_refuses() {
        let mut queue = HookQueue::default();
        queue.add(call("a", 0));
        for launch in 1..=CAPACITY as u64 {
            assert_eq!(queue.add(call("a", launch)), QueueDecision::Later);
        }
        assert_eq!(queue.add(call("a", 99)), QueueDecision::Refused(call("a", 99)));
    }
}
