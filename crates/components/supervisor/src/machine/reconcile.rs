//! The consequences of an input, once the states of the servers have changed: servers are dropped, memory is released,
//! launches are sent within the limits, and commands about the whole fleet are answered.
//!
//! The order matters. Memory is released before launches are admitted, so that they can use it; commands are answered
//! last, so that a launch which was just sent still counts as under way.

use llama_warden_events::{CommandOutcome, Event, ServerId};
use llama_warden_memory::Reading;

use super::SupervisorMachine;
use crate::action::{Actions, SupervisorAction};
use crate::admission::AdmissionDecision;
use crate::server_state::{ServerState, StartReason};

/// How many servers the restart policy launches at a time where `start.max-concurrent` sets no limit. Servers that failed
/// together would otherwise load together and compete for the memory and the disk of one machine.
pub const RESTARTS_AT_ONCE: usize = 2;

impl SupervisorMachine {
    /// `reading` is the memory of this moment, if the input was a reading.
    pub(super) fn reconcile(&mut self, reading: Option<&Reading>, actions: &mut Actions) {
        let servers = &self.servers;
        self.stopping_first.retain(|server| servers.get(server).is_some_and(|state| !state.is_down()));
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

    /// Launches what is due, in the order of the requests, as far as the limits and the memory allow.
    fn admit_launches(&mut self, reading: Option<&Reading>, actions: &mut Actions) {
        for (server, state) in &self.servers {
            if state.due_launch().is_some() && !self.queue.contains(server) {
                self.queue.push_back(server.clone());
            }
        }
        if !self.stopping_first.is_empty() || self.shutdown.is_some() {
            return;
        }
        let mut loading: Vec<StartReason> = self.servers.values().filter_map(ServerState::loading_for).collect();
        let starts = self.limits.starts.unwrap_or(usize::MAX);
        let restarts = self.limits.starts.unwrap_or(RESTARTS_AT_ONCE);
        let stages = self.servers.iter();
        let stages = stages.filter_map(|(server, state)| Some((server.clone(), state.reservation_stage()?))).collect();
        let mut pass = self.admission.begin_pass(reading, self.now, stages);
        // Those that must wait go back to the queue in their order; those whose launch is no longer due are dropped.
        for server in std::mem::take(&mut self.queue) {
            let Some(reason) = self.servers.get(&server).and_then(ServerState::due_launch) else { continue };
            // Requested launches count against `starts` alone, so that no storm of restarts keeps a person waiting.
            let restarting = loading.iter().filter(|reason| **reason == StartReason::RestartPolicy).count();
            let is_within_limits =
                loading.len() < starts && (reason == StartReason::Requested || restarting < restarts);
            if !is_within_limits {
                self.queue.push_back(server);
                continue;
            }
            match self.admission.decide(&server, &mut pass, actions) {
                AdmissionDecision::Granted { warning } => {
                    let Some(state) = self.servers.get_mut(&server) else { continue };
                    loading.push(reason);
                    actions.push(SupervisorAction::Launch { incarnation: state.launch(warning), server });
                }
                AdmissionDecision::Refused { detail } => {
                    let input = self.backoff_input(self.now);
                    if let Some(state) = self.servers.get_mut(&server) {
                        state.refuse(detail, input, actions);
                    }
                }
                AdmissionDecision::Waiting => self.queue.push_back(server),
            }
        }
        self.admission.end_pass(&pass, actions);
    }

    /// Answers the switches once nothing stops for them, and every server is ready, down or failed.
    fn complete_switches(&mut self, actions: &mut Actions) {
        let has_arrived = |state: &ServerState| state.loading_for().is_none() && state.due_launch().is_none();
        if self.stopping_first.is_empty() && self.servers.values().all(has_arrived) {
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
