//! Applies events of the latest launch to one server.
//!
//! The events of a launch come from three publishers (launcher, readiness or health, terminator), so that some of them
//! cross: a failure may follow the exit that it explains, and an exit may precede the end of the stop that caused it.

use std::time::Duration;

use llama_warden_backoff::Decision;
use llama_warden_config::RestartPolicy;
use llama_warden_events::{Event, FailureReason, StopReason, Uptime, Warning};
use llama_warden_state::{PhaseName, ServerRecord};

use super::{BackoffInput, Drain, Gate, LaunchState, ServerState, StartReason, StopRequest};
use crate::action::Actions;

impl ServerState {
    /// Makes a scheduled restart due once its time has come, and lets a stop go on whose requests have had theirs.
    pub(crate) fn on_deadline(&mut self, now: Uptime, actions: &mut Actions) {
        self.on_drain_deadline(now, actions);
        if self.restart_at.take_if(|at| *at <= now).is_some() {
            self.wanted = Some(self.launch.incarnation.next());
            self.start_reason = StartReason::RestartPolicy;
        }
    }

    /// The file that the latest launch failed for has changed: tries it again, if the server should still run.
    pub(crate) fn on_file_changed(&mut self) {
        if self.is_down() && self.wanted.is_some_and(|wanted| wanted <= self.launch.incarnation) {
            self.backoff.on_file_changed();
            self.wanted = Some(self.launch.incarnation.next());
            self.start_reason = StartReason::RestartPolicy;
        }
    }

    /// It has another port than the one that its latest launch failed for: tries it now, if its policy restarts it at all.
    pub(crate) fn on_moved(&mut self) {
        if self.is_down() && self.policy.restart.policy != RestartPolicy::Never {
            self.restart_at = None;
            self.on_file_changed();
        }
    }

    pub(crate) fn on_launch_began(&mut self, actions: &mut Actions) {
        if self.launch.state != LaunchState::Requested {
            return;
        }
        self.launch.state = LaunchState::Starting;
        if let Some(detail) = self.launch.warning.take() {
            self.publish(Event::ServerWarned { warning: Warning::MemoryShort, detail }, actions);
        }
        if let Some(stop) = self.launch.pending_stop.take() {
            self.request_stop(stop, actions);
        }
    }

    /// The launcher refused the launch, or memory did not suffice. No other component knows of the launch, so that the
    /// supervisor publishes its failure.
    pub(crate) fn on_launch_refused(&mut self, detail: String, input: BackoffInput, actions: &mut Actions) {
        if self.launch.state == LaunchState::Requested {
            let reason = FailureReason::Refused;
            self.publish(Event::ServerFailed { reason, detail: detail.clone(), lines: Vec::new() }, actions);
            self.launch.failure = Some((reason, detail));
            self.end_launch(input, actions);
        }
    }

    pub(crate) const fn on_spawned(&mut self) {
        self.launch.has_process = true;
    }

    /// It is ready; `load` is the time that it took, where that is known.
    pub(crate) fn on_ready(&mut self, load: Option<Duration>, now: Uptime, actions: &mut Actions) {
        // While it is stopping, readiness comes too late: the publisher had not seen the stop yet.
        if self.launch.state == LaunchState::Starting {
            self.launch.state = LaunchState::Ready;
            self.launch.was_ready = true;
            self.note_ready(load, now);
            self.backoff.on_ready(now);
            self.answer_commands(actions);
        }
    }

    /// Stops a launch that has failed, and answers the commands that wait for it with the reason.
    pub(crate) fn on_failed(&mut self, failure: (FailureReason, String), input: BackoffInput, actions: &mut Actions) {
        self.launch.failure = Some(failure);
        match self.launch.state {
            // The process is still there; the launch is over once it is stopped.
            LaunchState::Starting | LaunchState::Ready if self.launch.has_process => {
                let (reason, drain) = (StopReason::Failed, Drain::WithinGrace);
                self.request_stop(StopRequest { reason, grace: None, asked_at: input.now, drain }, actions);
                self.answer_commands(actions);
            }
            // The exit came first, as it does for a crash. Policy has waited for the reason and decides now.
            LaunchState::Down => self.end_launch(input, actions),
            // Without a process there is no exit to wait for: the failure ends the launch. During a stop,
            // `ServerStopped` does.
            _ if !self.launch.has_process && !self.launch.stop_began => self.end_launch(input, actions),
            _ => {}
        }
    }

    pub(crate) const fn on_stop_began(&mut self) {
        self.launch.stop_began = true;
    }

    pub(crate) fn on_exited(&mut self, input: BackoffInput, actions: &mut Actions) {
        if self.launch.state == LaunchState::Down {
            return;
        }
        // During a stop, `ServerStopped` follows at once and ends the launch. Ending it here would answer the command
        // before the last events of its stop are published.
        if !self.launch.stop_began {
            self.end_launch(input, actions);
        }
    }

    pub(crate) fn on_stopped(&mut self, input: BackoffInput, actions: &mut Actions) {
        if self.launch.state != LaunchState::Down {
            self.end_launch(input, actions);
        }
    }

    /// Replaces missed events by the snapshot that contains them. `record` is about the latest launch.
    pub(crate) fn on_snapshot(&mut self, record: &ServerRecord, input: BackoffInput, actions: &mut Actions) {
        self.launch.has_process = record.is_running();
        if let Some(failure) = &record.failure {
            self.launch.failure = Some((failure.reason, failure.detail.clone()));
        }
        match record.phase.name() {
            // The launch was requested and has not begun.
            PhaseName::Idle => {}
            // Also where the end was seen before: the failure that explains it may be among what was missed.
            PhaseName::Exited | PhaseName::Failed | PhaseName::BackingOff => self.end_launch(input, actions),
            PhaseName::Stopping => self.launch.state = LaunchState::Stopping,
            PhaseName::Launching | PhaseName::Starting | PhaseName::Loading => self.on_launch_began(actions),
            // `on_ready` expects a launch that has begun; `on_launch_began` does nothing if that was seen.
            PhaseName::Ready | PhaseName::Unready => {
                self.on_launch_began(actions);
                let load = record.ready.and_then(|ready| ready.load_time());
                self.on_ready(load, input.now, actions);
                self.note_missed_use(record);
                self.ask_again(input.now, actions);
            }
        }
    }

    /// Ends the launch: answers the commands that waited for that, and lets the restart policy decide about a failure.
    fn end_launch(&mut self, input: BackoffInput, actions: &mut Actions) {
        self.launch.state = LaunchState::Down;
        (self.launch.pending_stop, self.launch.hold, self.launch.gate) = (None, None, Gate::Open);
        self.answer_commands(actions);
        // Policy decides once per failure, and only where this launch is what was asked for last: a server that should be
        // down stays down, and a later launch that is already requested makes a restart needless.
        let is_wanted = self.wanted.is_some_and(|wanted| wanted <= self.launch.incarnation);
        let Some((reason, _)) = &self.launch.failure else { return };
        if !is_wanted || self.launch.policy_applied {
            return;
        }
        self.launch.policy_applied = true;
        let reason = *reason;
        self.failed_at = Some(input.now);
        // Idle servers make room for the next launch, so that it need not wait for others to free memory.
        let jitter = if self.takes_memory_retry(reason) { 0.0 } else { input.jitter };
        match self.backoff.on_failure(&self.policy.restart, reason, input.now, jitter) {
            Decision::Leave => {}
            Decision::Restart { attempt, max_attempts, delay } => {
                self.restart_at = Some(input.now + delay);
                self.restart_is_announced = true;
                let delay_seconds = delay.as_secs_f64();
                self.publish(Event::RestartScheduled { attempt, max_attempts, delay_seconds }, actions);
            }
            Decision::Abandon { attempts, because } => {
                self.launch.abandoned = Some(because.clone());
                self.publish(Event::RestartAbandoned { attempts, because }, actions);
                self.watch_faulty_file(reason, actions);
            }
        }
    }
}
