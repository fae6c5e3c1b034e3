//! Who waits at a gate, and whose turn it is: requests that a crash has lost, then the clients in turn, first come first served within one.

use std::collections::{BTreeMap, VecDeque};

use llama_warden_events::{Incarnation, Uptime};

use crate::passing::{Arrival, QueueClient, Ticket};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiter {
    pub(crate) ticket: Ticket,
    pub(crate) since: Uptime,
    pub(crate) arrival: Arrival,
}

/// The requests that wait for one server.
#[derive(Debug, Default)]
pub(crate) struct WaitQueue {
    /// Light requests take no slot, so none of them waits for a turn.
    light: VecDeque<Waiter>,
    /// Requests that were lost with a launch.
    replays: VecDeque<Waiter>,
    work: BTreeMap<QueueClient, VecDeque<Waiter>>,
    /// The clients that have requests in `work`, in the order of their turns.
    turns: VecDeque<QueueClient>,
}

impl WaitQueue {
    pub(crate) fn len(&self) -> usize {
        self.light.len() + self.replays.len() + self.work.values().map(VecDeque::len).sum::<usize>()
    }

    pub(crate) fn push(&mut self, waiter: Waiter) {
        let Arrival { works, lost_with, client, .. } = waiter.arrival;
        match (works, lost_with) {
            (false, _) => self.light.push_back(waiter),
            (true, Some(_)) => self.replays.push_back(waiter),
            (true, None) => {
                let queue = self.work.entry(client).or_default();
                if queue.is_empty() {
                    self.turns.push_back(client);
                }
                queue.push_back(waiter);
            }
        }
    }

    pub(crate) fn remove(&mut self, ticket: Ticket) {
        self.light.retain(|waiter| waiter.ticket != ticket);
        self.replays.retain(|waiter| waiter.ticket != ticket);
        self.work.values_mut().for_each(|queue| queue.retain(|waiter| waiter.ticket != ticket));
        self.work.retain(|_, queue| !queue.is_empty());
        self.turns.retain(|client| self.work.contains_key(client));
    }

    /// Takes everybody out.
    pub(crate) fn drain(&mut self) -> Vec<Ticket> {
        let Self { light, replays, work, .. } = std::mem::take(self);
        let mut waiters: Vec<Waiter> = light.into_iter().chain(replays).chain(work.into_values().flatten()).collect();
        waiters.sort_by_key(|waiter| waiter.ticket);
        waiters.iter().map(|waiter| waiter.ticket).collect()
    }

    /// Since when the one waits that has waited longest.
    pub(crate) fn oldest(&self) -> Option<Uptime> {
        // Each of them in the order of arrival: a request that a crash has lost waits anew, since it had its turn.
        let queues = [&self.light, &self.replays].into_iter().chain(self.work.values());
        queues.filter_map(VecDeque::front).map(|waiter| waiter.since).min()
    }

    pub(crate) fn pop_light(&mut self) -> Option<Waiter> {
        self.light.pop_front()
    }

    /// The next request that was lost with another launch than this.
    pub(crate) fn next_replay(&self, to: Incarnation) -> Option<Waiter> {
        self.replays.iter().find(|waiter| waiter.arrival.lost_with != Some(to)).copied()
    }

    /// The next request whose client's turn it is.
    pub(crate) fn next_work(&self) -> Option<Waiter> {
        self.work.get(self.turns.front()?)?.front().copied()
    }

    /// Takes out the one that `next_work` gave; its client's next turn comes after those of the others.
    pub(crate) fn pop_work(&mut self) {
        let Some(client) = self.turns.pop_front() else { return };
        let Some(queue) = self.work.get_mut(&client) else { return };
        queue.pop_front();
        if queue.is_empty() {
            self.work.remove(&client);
        } else {
            self.turns.push_back(client);
        }
    }
}
