//! How each event about a server changes its record.

use std::sync::Arc;
use std::time::Duration;

use llama_warden_events::{
    ArgumentList, CommandSummary, Envelope, Event, ExitOutcome, FailureReason, HookOutcome, HookPoint, Incarnation,
    LeftFailure, ProcessEnd, ReadyVia, Rung, Seq, Signal, StopReason, Uptime, Warning,
};

use crate::fold::Fit::{self, Anomalous, Fitted};
use crate::fold::may_be_late;
use crate::{
    FailureRecord, HealthRecord, Phase, PhaseChange, ProcessRecord, ReadyRecord, ServerRecord, SlotsRecord, SlotsState,
    StopRecord, UseRecord, WarningRecord,
};

impl ServerRecord {
    pub(super) fn apply(&mut self, envelope: &Envelope) -> Fit {
        if let Event::LaunchBegan { .. } = envelope.event {
            return self.launch(envelope);
        }
        if let Event::ServerFailed { reason: FailureReason::Refused, .. } = envelope.event {
            self.refuse(envelope.incarnation);
        }
        if let Some(incarnation) = envelope.incarnation.filter(|incarnation| *incarnation != self.incarnation) {
            let is_late = incarnation < self.incarnation && may_be_late(&envelope.event);
            return if is_late { Fitted } else { Anomalous };
        }
        match &envelope.event {
            Event::MemoryEstimated { estimate } => self.memory = Some(*estimate),
            Event::LaunchHeld { because } => self.held = Some(because.clone()),
            Event::LaunchReleased => self.held = None,
            Event::LaunchSkipped { .. } => self.is_unloaded = true,
            Event::UseBegan if self.process.is_some() => self.usage.is_active = true,
            Event::UseBegan => return self.late(),
            Event::UseEnded { last_used } => self.end_use(*last_used, envelope),
            Event::SlotsSaved { tokens, bytes, .. } => self.keep_slots(SlotsState::Saved, *tokens, *bytes, None),
            Event::SlotsRestored { tokens, .. } => self.keep_slots(SlotsState::Restored, *tokens, 0, None),
            Event::SlotsUsed { cached } => self.keep_slots(SlotsState::Used, *cached, 0, None),
            Event::SlotsLost { because, off } => {
                let state = if *off { SlotsState::Off } else { SlotsState::Lost };
                self.keep_slots(state, 0, 0, Some(because.clone()));
            }
            Event::BinaryIdentified(identity) => self.llama_version.clone_from(&identity.version),
            Event::DialectChosen { dialect, .. } => self.dialect = Some(dialect.clone()),
            Event::OptionsTranslated { notes } => self.notes = Arc::clone(notes),
            Event::DetectorChosen { detector, .. } => self.detector = Some(detector.clone()),
            Event::ServerAdopted { age_seconds, .. } => {
                self.adopted_age = Duration::try_from_secs_f64(*age_seconds).ok();
            }
            Event::ServerSpawned { pid, start_ticks, argv, port } => {
                self.argv = argv.clone();
                return self.spawn(*pid, *start_ticks, *port, envelope);
            }
            Event::LoadProgressed { ratio } => return self.progress(*ratio, envelope),
            Event::ReadyReached { via, startup_seconds } => return self.become_ready(*via, *startup_seconds, envelope),
            Event::HealthProbed { ok, latency_ms, failures, is_sleeping, .. } => {
                let (ok, latency_ms, failures, is_sleeping) = (*ok, *latency_ms, *failures, *is_sleeping);
                return self.probe(HealthRecord { at: envelope.at, ok, latency_ms, failures, is_sleeping });
            }
            Event::ReadyLost { .. } => return self.lose_ready(envelope),
            Event::ReadyRegained => return self.regain_ready(envelope),
            Event::ServerFailed { reason, detail, lines } => {
                return self.fail(self.failure_of(*reason, detail, lines, envelope), envelope);
            }
            Event::ServerWarned { warning, detail } => self.warn(*warning, detail.clone()),
            Event::HookCompleted { hook, outcome, .. } => self.complete_hook(*hook, outcome, envelope),
            Event::StopBegan { reason, grace_seconds } => return self.begin_stop(*reason, *grace_seconds, envelope),
            Event::StopEscalated { rung, .. } => return self.escalate(*rung),
            Event::SignalDelivered { signal, rung } => self.deliver(*signal, *rung),
            Event::ServerExited { end, .. } => return self.exit(*end, envelope),
            Event::ServerStopped { stop_seconds, .. } => return self.end_stop(*stop_seconds),
            Event::RestartScheduled { attempt, max_attempts, delay_seconds } => {
                let until = envelope.elapsed + Duration::try_from_secs_f64(*delay_seconds).unwrap_or_default();
                let (attempt, max_attempts) = (*attempt, *max_attempts);
                return self.back_off(Phase::BackingOff { attempt, max_attempts, until }, envelope);
            }
            Event::RestartCancelled => return self.cancel_restart(envelope),
            Event::RestartAbandoned { because, .. } => return self.abandon_restart(because),
            // What was counted in this run would be lost.
            Event::TotalsRestored { .. } if self.counters.launches > 0 => return Anomalous,
            Event::TotalsRestored { totals } => self.restore((**totals).clone()),
            Event::ServerLeftDown { failed } => return self.leave_down(failed.as_deref(), envelope),
            Event::CommandAccepted { command, .. } => self.accept(command, envelope.seq),
            Event::ListenerIdentified { .. }
            | Event::OutputLost { .. }
            | Event::ReadyHinted { .. }
            | Event::EvictionPlanned { .. }
            | Event::ServerReleased { .. }
            | Event::CanaryBegan { .. }
            | Event::CanaryCompleted { .. } => {}
            Event::CommandCompleted { .. } => {
                self.due_start.take_if(|accepted| envelope.cause == Some(*accepted));
            }
            Event::DaemonStarted { .. }
            | Event::DaemonStopping { .. }
            | Event::DaemonHandingOver { .. }
            | Event::DaemonStopped { .. }
            | Event::GuardianStarted { .. }
            | Event::ComponentFailed { .. }
            | Event::ServerConfigured { .. }
            | Event::ServerRemoved
            | Event::ProfilesConfigured { .. }
            | Event::SwitchPlanned { .. }
            | Event::ProfileActivated { .. }
            | Event::ConfigurationReloaded { .. }
            | Event::ConfigurationRefused { .. }
            | Event::LaunchBegan { .. }
            | Event::DialectsReloaded { .. }
            | Event::DetectorsReloaded { .. }
            | Event::Extension(_) => return Anomalous,
        }
        Fitted
    }

    fn end_use(&mut self, last_used: Uptime, envelope: &Envelope) {
        let last_at = Some(envelope.at.before(envelope.elapsed.since(last_used)));
        self.usage = UseRecord { is_active: false, last_used: Some(last_used), last_at };
    }

    fn accept(&mut self, command: &CommandSummary, seq: Seq) {
        if let CommandSummary::Stop { .. } | CommandSummary::Start | CommandSummary::Restart { .. } = command {
            self.stop_is_latest = matches!(command, CommandSummary::Stop { .. });
            self.due_start = (!self.stop_is_latest).then_some(seq);
            (self.stopped_on_request, self.is_unloaded) = (self.stop_is_latest, false);
        }
    }

    fn progress(&mut self, ratio: Option<f64>, envelope: &Envelope) -> Fit {
        match self.phase {
            Phase::Starting => self.enter(Phase::Loading { progress: ratio }, envelope),
            Phase::Loading { .. } => self.phase = Phase::Loading { progress: ratio },
            _ => return self.late(),
        }
        Fitted
    }

    fn become_ready(&mut self, via: ReadyVia, startup_seconds: f64, envelope: &Envelope) -> Fit {
        if !matches!(self.phase, Phase::Starting | Phase::Loading { .. }) {
            return self.late();
        }
        self.ready = Some(ReadyRecord { via, startup_seconds });
        self.is_unloaded = false;
        self.counters.became_ready.count(via);
        if via != ReadyVia::Adopted {
            self.ready_seconds.observe(startup_seconds);
        }
        self.enter(Phase::Ready { via }, envelope);
        Fitted
    }

    fn probe(&mut self, health: HealthRecord) -> Fit {
        if self.ready.is_none() || self.process.is_none() {
            return self.late();
        }
        self.health = Some(health);
        Fitted
    }

    fn lose_ready(&mut self, envelope: &Envelope) -> Fit {
        let Phase::Ready { via } = self.phase else { return self.late() };
        self.enter(Phase::Unready { via }, envelope);
        Fitted
    }

    fn regain_ready(&mut self, envelope: &Envelope) -> Fit {
        let Phase::Unready { via } = self.phase else { return self.late() };
        self.enter(Phase::Ready { via }, envelope);
        Fitted
    }

    fn begin_stop(&mut self, reason: StopReason, grace_seconds: f64, envelope: &Envelope) -> Fit {
        if self.stop.is_some() {
            return Anomalous;
        }
        // The process ended by itself in the moment in which its stop began.
        if self.process.is_none() && !matches!(self.phase, Phase::Launching) {
            return self.late();
        }
        self.stop = Some(StopRecord { reason, began: envelope.elapsed, grace_seconds, forced: false });
        self.is_unloaded |= reason.unloads();
        // The launch may have begun after its stop was accepted.
        self.stopped_on_request |= reason == StopReason::Requested && self.stop_is_latest;
        self.enter(Phase::Stopping { reason, rung: None }, envelope);
        Fitted
    }

    fn escalate(&mut self, rung: Rung) -> Fit {
        match &mut self.phase {
            Phase::Stopping { rung: current, .. } => *current = Some(rung),
            // The process ended in the moment in which the next rung was due.
            _ => return self.late(),
        }
        Fitted
    }

    fn end_stop(&mut self, stop_seconds: f64) -> Fit {
        if self.stop.is_none() || self.process.is_some() {
            return self.late();
        }
        self.stop_seconds.observe(stop_seconds);
        Fitted
    }

    fn deliver(&mut self, signal: Signal, rung: Rung) {
        self.counters.signals.count(signal);
        if let Phase::Stopping { rung: current, .. } = &mut self.phase {
            *current = Some(rung);
        }
        if let (Signal::KILL, Some(stop)) = (signal, &mut self.stop) {
            stop.forced = true;
        }
    }

    fn back_off(&mut self, backing_off: Phase, envelope: &Envelope) -> Fit {
        if !self.phase.name().is_settled_down() {
            return Anomalous;
        }
        self.enter(backing_off, envelope);
        Fitted
    }

    fn cancel_restart(&mut self, envelope: &Envelope) -> Fit {
        let Phase::BackingOff { .. } = self.phase else { return Anomalous };
        self.enter(self.phase_at_rest(), envelope);
        Fitted
    }

    fn abandon_restart(&mut self, because: &str) -> Fit {
        if !self.phase.name().is_settled_down() {
            return Anomalous;
        }
        self.counters.restarts_abandoned.count(self.failure_reason());
        self.restart_abandoned = Some(because.to_owned());
        Fitted
    }

    /// The reason of the failure after which a restart is scheduled or abandoned.
    fn failure_reason(&self) -> FailureReason {
        self.failure.as_ref().map_or(FailureReason::Unknown, |failure| failure.reason)
    }

    fn failure_of(&self, reason: FailureReason, detail: &str, lines: &[String], envelope: &Envelope) -> FailureRecord {
        let (detail, lines) = (detail.to_owned(), lines.to_vec());
        FailureRecord { reason, detail, at: envelope.at, incarnation: self.incarnation, lines }
    }

    /// A refused launch has no `LaunchBegan`: its failure is its only event.
    fn refuse(&mut self, incarnation: Option<Incarnation>) {
        let is_at_rest = self.phase.name().is_settled_down() || matches!(self.phase, Phase::BackingOff { .. });
        if let Some(incarnation) = incarnation.filter(|incarnation| is_at_rest && *incarnation > self.incarnation) {
            self.begin(incarnation);
        }
    }

    /// An event from a publisher that had not seen the stop or the end yet: ignored. In any other phase it is a duplicate, and an
    /// anomaly.
    const fn late(&self) -> Fit {
        match self.phase {
            Phase::Stopping { .. } | Phase::Exited { .. } | Phase::Failed { .. } | Phase::BackingOff { .. } => Fitted,
            _ => Anomalous,
        }
    }

    fn launch(&mut self, envelope: &Envelope) -> Fit {
        let Some(incarnation) = envelope.incarnation.filter(|incarnation| *incarnation > self.incarnation) else {
            return Anomalous;
        };
        if self.process.is_some() {
            return Anomalous;
        }
        let restarted_after = matches!(self.phase, Phase::BackingOff { .. }).then(|| self.failure_reason());
        self.begin(incarnation);
        self.restarted_after = restarted_after;
        self.stopped_on_request = false;
        self.due_start = None;
        self.counters.launches += 1;
        self.enter(Phase::Launching, envelope);
        Fitted
    }

    /// Clears what belongs to the former launch.
    fn begin(&mut self, incarnation: Incarnation) {
        self.incarnation = incarnation;
        self.adopted_age = None;
        self.restarted_after = None;
        self.ready = None;
        self.health = None;
        self.restart_abandoned = None;
        self.stop = None;
        self.failure = None;
        self.hooks.clear();
        self.warnings.clear();
        self.notes = Arc::default();
        self.argv = ArgumentList::default();
        self.detector = None;
        self.dialect = None;
    }

    fn spawn(&mut self, pid: u32, start_ticks: u64, port: u16, envelope: &Envelope) -> Fit {
        let age = self.adopted_age.take().unwrap_or_default();
        let (spawned_at, spawned) = (envelope.at.before(age), envelope.elapsed);
        let process = ProcessRecord { pid, start_ticks, port, spawned_at, spawned, age };
        match (self.phase, &self.process) {
            (Phase::Launching, None) => {
                self.process = Some(process);
                self.enter(Phase::Starting, envelope);
            }
            // The stop came while the launch was being prepared: the process exists now and still has to be ended.
            (Phase::Stopping { .. }, None) => self.process = Some(process),
            _ => return Anomalous,
        }
        if let Some(reason) = self.restarted_after.take() {
            self.counters.restarts.count(reason);
        }
        Fitted
    }

    fn fail(&mut self, mut failure: FailureRecord, envelope: &Envelope) -> Fit {
        if self.incarnation == Incarnation::default() {
            return Anomalous;
        }
        if let Some(first) = &self.failure {
            // A server that failed is stopped, and its process may outlive KILL: then that is what a person has to deal with.
            if failure.reason != FailureReason::Unkillable || first.reason == FailureReason::Unkillable {
                // A check may fail in the moment in which the process ends.
                return self.late();
            }
            failure.detail = format!("{}; it was stopped because it had failed: {}", failure.detail, first.detail);
            failure.lines.clone_from(&first.lines);
        }
        let failure = Arc::new(failure);
        let reason = failure.reason;
        self.counters.failures.count(reason);
        self.is_unloaded = false;
        self.failure = Some(failure.clone());
        self.last_failure = Some(failure);
        // A running process is stopped next, and that stop sets the phase.
        if self.process.is_none() {
            self.enter(Phase::Failed { reason }, envelope);
        }
        Fitted
    }

    /// What an earlier daemon has counted is not counted again.
    fn leave_down(&mut self, failed: Option<&LeftFailure>, envelope: &Envelope) -> Fit {
        if self.phase != Phase::Idle {
            return Anomalous;
        }
        let Some(LeftFailure { reason, detail, abandoned }) = failed else {
            self.stopped_on_request = true;
            return Fitted;
        };
        let failure = Arc::new(self.failure_of(*reason, detail, &[], envelope));
        self.failure = Some(failure.clone());
        self.last_failure = Some(failure);
        self.restart_abandoned.clone_from(abandoned);
        self.enter(Phase::Failed { reason: *reason }, envelope);
        Fitted
    }

    fn keep_slots(&mut self, state: SlotsState, tokens: u64, bytes: u64, because: Option<String>) {
        self.slots = Some(Arc::new(SlotsRecord { state, tokens, bytes, because }));
    }

    fn complete_hook(&mut self, hook: HookPoint, outcome: &HookOutcome, envelope: &Envelope) {
        if envelope.incarnation.is_some() {
            self.hooks.insert(hook, outcome.clone());
        }
        match outcome {
            HookOutcome::Succeeded | HookOutcome::CalledOff => {}
            HookOutcome::Failed { detail, .. } => self.warn(Warning::HookFailed, format!("{hook}: {detail}")),
        }
    }

    fn warn(&mut self, warning: Warning, detail: String) {
        if self.warnings.len() < Self::WARNINGS {
            self.warnings.push(WarningRecord { warning, detail });
        }
    }

    fn exit(&mut self, end: ProcessEnd, envelope: &Envelope) -> Fit {
        if self.process.is_none() && !matches!(self.phase, Phase::Launching | Phase::Stopping { .. }) {
            return Anomalous;
        }
        let outcome = match (&self.stop, &self.ready, end) {
            (Some(StopRecord { forced: true, .. }), _, _) => ExitOutcome::Killed,
            (Some(_), _, _) => ExitOutcome::Stopped,
            (None, Some(_), end) if end.is_success() => ExitOutcome::Ended,
            (None, Some(_), _) => ExitOutcome::Crashed,
            (None, None, _) => ExitOutcome::Failed,
        };
        self.counters.exits.count(outcome);
        self.process = None;
        self.health = None;
        self.usage.is_active = false;
        self.last_end = Some(end);
        self.enter(self.phase_at_rest(), envelope);
        Fitted
    }

    /// The phase of a server whose launch is over and that waits for no restart.
    fn phase_at_rest(&self) -> Phase {
        match (&self.failure, self.last_end) {
            (Some(failure), _) => Phase::Failed { reason: failure.reason },
            (None, Some(end)) => Phase::Exited { end },
            (None, None) => Phase::Idle,
        }
    }

    fn enter(&mut self, phase: Phase, envelope: &Envelope) {
        self.phase = phase;
        self.phase_since = envelope.elapsed;
        let change = PhaseChange { phase: phase.name(), at: envelope.at, incarnation: self.incarnation };
        let forgotten = (self.history.len() + 1).saturating_sub(Self::HISTORY);
        self.history = self.history[forgotten..].iter().copied().chain([change]).collect();
    }
}
