//! Applies commands and changes of the configuration to one server.
//!
//! `id` is the command to answer. It is `None` for the start of the daemon, a change of the configuration, and a shutdown,
//! which are answered for the whole fleet.

use llama_warden_backoff::Backoff;
use llama_warden_events::{CommandOutcome, Event, Incarnation, RefusalReason, Seq, StopReason};

use super::{Goal, LaunchState, PendingCommand, ServerState, StartReason, StopRequest};
use crate::action::{Actions, SupervisorAction};

impl ServerState {
    /// Requests that the server runs. Joins the launch under way, unless that one is ending.
    pub(crate) fn start(&mut self, id: Option<Seq>, actions: &mut Actions) {
        // A launch whose stop is pending or under way cannot be joined: it would satisfy the start and then stop.
        let is_joinable =
            matches!(self.launch.state, LaunchState::Requested | LaunchState::Starting | LaunchState::Ready)
                && self.launch.pending_stop.is_none();
        let target = if is_joinable { self.launch.incarnation } else { self.launch.incarnation.next() };
        self.reset_failures(id, actions);
        self.asked_for |= id.is_some();
        self.request_launch(target, id, actions);
    }

    /// Requests a later launch than the latest one, and stops that one.
    pub(crate) fn restart(&mut self, id: Option<Seq>, stop: StopRequest, actions: &mut Actions) {
        self.reset_failures(id, actions);
        self.asked_for |= id.is_some();
        // The stop first: it names the latest launch, and the launch that is requested next must not be stopped by it.
        self.request_stop(stop, actions);
        self.request_launch(self.launch.incarnation.next(), id, actions);
    }

    /// Requests that the server is down. Supersedes every start and restart that is not answered yet.
    pub(crate) fn stop(&mut self, id: Option<Seq>, stop: StopRequest, actions: &mut Actions) {
        let reason = stop.reason;
        self.note_stop(reason);
        // This alone cancels a launch that is due: `due_launch` compares with `wanted`.
        self.wanted = None;
        self.no_room = None;
        self.stopped_by_user |= reason == StopReason::Requested;
        self.cancel_restart(actions);
        for command in self.pending_commands.extract_if(.., |command| matches!(command.goal, Goal::Ready(_))) {
            let outcome = match id {
                Some(by) => CommandOutcome::Superseded { by },
                None => CommandOutcome::Refused { reason: RefusalReason::ShuttingDown },
            };
            actions.push(SupervisorAction::Complete { server: Some(self.server.clone()), id: command.id, outcome });
        }
        // The goal names the latest launch, so that a start which crosses this stop does not keep it from being answered.
        let goal = Goal::Down(self.launch.incarnation);
        self.pending_commands.extend(id.map(|id| PendingCommand { id, goal }));
        self.request_stop(stop, actions);
        self.answer_commands(actions);
    }

    fn request_launch(&mut self, target: Incarnation, id: Option<Seq>, actions: &mut Actions) {
        // The maximum: a start that follows a restart must not take the requested later launch back.
        self.wanted = self.wanted.max(Some(target));
        self.start_reason = StartReason::Requested;
        self.is_for_requests_alone = false;
        self.is_unloaded = false;
        self.stopped_by_user = false;
        self.pending_commands.extend(id.map(|id| PendingCommand { id, goal: Goal::Ready(target) }));
        self.answer_commands(actions);
    }

    /// Cancels a scheduled restart. A command also clears the count of failures: a person has decided to try again.
    fn reset_failures(&mut self, id: Option<Seq>, actions: &mut Actions) {
        if id.is_some() {
            self.backoff = Backoff::default();
        }
        self.cancel_restart(actions);
    }

    pub(super) fn cancel_restart(&mut self, actions: &mut Actions) {
        self.restart_at = None;
        if std::mem::take(&mut self.restart_is_announced) {
            self.publish(Event::RestartCancelled, actions);
        }
    }
}
