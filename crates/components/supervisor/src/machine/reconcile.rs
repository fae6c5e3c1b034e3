//! The consequences of an input, once the states of the servers have changed: servers are dropped, memory is released,
//! launches are sent within the limits, and commands about the whole fleet are answered.
//!
//! The order matters. Memory is released before launches are admitted, so that they can use it; commands are answered
//! last, so that a launch which was just sent still counts as under way.

use llama_warden_events::{CommandOutcome, Event, ServerId};
use llama_warden_memory::Reading;

use super::SupervisorMachine;
use crate::action::{Actions, SupervisorAction};
use crate::server_state::ServerState;

/// How many servers the restart policy launches at a time where `start.max-concurrent` sets no limit. Servers that failed
/// together would otherwise load together and compete for the memory and the disk of one machine.
pub const RESTARTS_AT_ONCE: usize = 2;

impl SupervisorMachine {
    /// `reading` is the memory of this moment, if the input was a reading.
    pub(super) fn reconcile(&mut self, reading: Option<&Reading>, actions: &mut Actions) {
        let servers = &self.servers;
        self.stopping_first.retain(|server| servers.get(server).is_some_and(|state| !state.is_down()));
        self.pursue_demands(actions);
        self.stop_idle(actions);
        self.advance_evictions(actions);
        self.drop_removed(actions);
        self.release_memory(actions);
        self.admit_launches(reading, actions);
        self.complete_switches(actions);
        self.complete_shutdown(actions);
    }

    /// Drops the servers that left the configuration and are down.
    fn drop_removed(&mut self, actions: &mut Actions) {
        let servers = &self.servers;
        let is_down = |server: &ServerId| servers.get(server).is_none_or(ServerState::is_down);
        let down: Vec<_> = self.removed.extract_if(.., |server| is_down(server)).collect();
        for server in down {
            if let Some(state) = self.servers.remove(&server) {
                self.dropped.insert(server.clone(), state.incarnation());
            }
            self.demands.remove(&server);
            self.admission.release(&server, self.now, actions);
            actions.push(SupervisorAction::publish_server(server, Event::ServerRemoved));
        }
    }

    /// Releases the memory of launches that are over, and cancels held launches that are no longer requested.
    fn release_memory(&mut self, actions: &mut Actions) {
        let is_over = |server: &ServerId, is_granted: bool| {
            let state = self.servers.get(server);
            state.is_none_or(|state| state.is_down() && (is_granted || state.due_launch().is_none()))
        };
        let over = self.admission.tracked().filter(|(server, is_granted)| is_over(server, *is_granted));
        let over: Vec<_> = over.map(|(server, _)| server.clone()).collect();
        for server in over {
            self.admission.release(&server, self.now, actions);
        }
    }

    /// Answers the switches once nothing stops for them, and every server is ready, down or failed.
    fn complete_switches(&mut self, actions: &mut Actions) {
        if self.stopping_first.is_empty() && self.servers.values().all(Self::has_arrived) {
            let outcome = CommandOutcome::Ready;
            let complete = |id| SupervisorAction::Complete { server: None, id, outcome: outcome.clone() };
            actions.extend(self.pending_switches.drain(..).map(complete));
        }
    }

    /// Answers the shutdown once every server is down.
    fn complete_shutdown(&mut self, actions: &mut Actions) {
        if !self.servers.values().all(ServerState::is_down) {
            return;
        }
        let Some(shutdown) = &mut self.shutdown else { return };
        let outcome = CommandOutcome::Stopped;
        let complete = |id| SupervisorAction::Complete { server: None, id, outcome: outcome.clone() };
        actions.extend(shutdown.take_ids().into_iter().map(complete));
        if shutdown.take_end() {
            actions.push(SupervisorAction::publish_daemon(Event::DaemonStopped { survivors: Vec::new() }));
        }
    }
}
