//! One trial of a build, from the launch of its canary to the last step, decided by snapshots.
//!
//! Each decision looks at the whole state of the canary and of its server, so that a gap needs no code of its own. Invariants:
//! every trial ends with one report; a canary that was added is removed before; a replacement is kept or reverted.

use std::path::PathBuf;
use std::time::Duration;

use llama_warden_events::{
    BuildChange, BuildFigures, CanaryOutcome, CanaryReport, FailureReason, Incarnation, Refused, Seq, ServerId, Uptime,
};
use llama_warden_state::{FailureRecord, ServerRecord, Snapshot};

use crate::compare::option_differences;
use crate::measure::{Comparison, known_figures};

/// A request for a trial.
#[derive(Debug, Clone)]
pub(crate) struct TrialRequest {
    pub(crate) server: ServerId,
    /// What is known of the other build beforehand.
    pub(crate) new: BuildFigures,
    /// What the server runs.
    pub(crate) old: PathBuf,
    /// The seq of its `CanaryBegan`.
    pub(crate) id: Seq,
    pub(crate) replacement: Replacement,
}

/// Whether a build that proves itself replaces the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replacement {
    No,
    After {
        /// It has to be ready for this long.
        stable: Duration,
        /// Whether the restart policy launches the server again after a failure.
        is_restarted: bool,
    },
}

/// One step that the component performs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TrialAction {
    /// Send the change to the supervisor. A refusal goes to [`Trial::on_refused`].
    Change(BuildChange),
    /// Ask both builds. The answer goes to [`Trial::on_compared`].
    Compare,
    /// Publish the report: the trial is over.
    Complete(Box<CanaryReport>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Starting {
        was_added: bool,
    },
    Measuring,
    /// The canary is gone once the supervisor has accepted its removal and it is in no snapshot.
    Removing {
        is_accepted: bool,
    },
    /// A launch after this one counts.
    Switching {
        after: Incarnation,
    },
    Watching {
        after: Incarnation,
        until: Uptime,
    },
    RollingBack {
        after: Incarnation,
    },
    Over,
}

/// A trial under way.
#[derive(Debug)]
pub(crate) struct Trial {
    request: TrialRequest,
    stage: Stage,
    report: CanaryReport,
}

impl Trial {
    /// Begins a trial.
    pub(crate) fn begin(request: TrialRequest) -> (Self, Vec<TrialAction>) {
        let add = BuildChange::AddCanary { binary: request.new.binary.clone() };
        let report = CanaryReport {
            server: request.server.clone(),
            outcome: CanaryOutcome::Passed,
            old: None,
            new: request.new.clone(),
            options: Vec::new(),
            warnings: Vec::new(),
        };
        (Self { request, stage: Stage::Starting { was_added: false }, report }, vec![TrialAction::Change(add)])
    }

    pub(crate) const fn server(&self) -> &ServerId {
        &self.request.server
    }

    pub(crate) const fn id(&self) -> Seq {
        self.request.id
    }

    pub(crate) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// When [`Self::on_snapshot`] has something to do without a change.
    pub(crate) const fn next_deadline(&self) -> Option<Uptime> {
        match self.stage {
            Stage::Watching { until, .. } => Some(until),
            _ => None,
        }
    }

    /// Decides by the latest state.
    pub(crate) fn on_snapshot(&mut self, snapshot: &Snapshot, now: Uptime) -> Vec<TrialAction> {
        let canary = snapshot.servers.get(&self.request.server.canary()).map(AsRef::as_ref);
        let server = snapshot.servers.get(&self.request.server).map(AsRef::as_ref);
        match self.stage {
            Stage::Starting { was_added } => self.start(canary, server, was_added),
            Stage::Measuring => match canary {
                Some(canary) if canary.is_ready() => Vec::new(),
                Some(canary) => self.check_canary(canary, server),
                None => self.remove(gone()),
            },
            Stage::Removing { is_accepted } => {
                if let Some(failure) = canary.and_then(|canary| canary.failure.as_deref()) {
                    // A process that crashes while it is asked breaks off the answer first.
                    self.blame(failure);
                }
                if is_accepted && canary.is_none() { self.removed(server) } else { Vec::new() }
            }
            Stage::Switching { after } => match self.launch_after(server, after) {
                Launched::Failed(why) => self.roll_back(server, why),
                Launched::Ready => {
                    let Replacement::After { stable, .. } = self.request.replacement else { return self.complete() };
                    self.stage = Stage::Watching { after, until: Uptime::new(now.as_duration() + stable) };
                    Vec::new()
                }
                Launched::Pending => Vec::new(),
            },
            Stage::Watching { after, until } => match self.launch_after(server, after) {
                Launched::Failed(why) => self.roll_back(server, why),
                Launched::Ready if now >= until => {
                    self.report.outcome = CanaryOutcome::Switched;
                    let mut actions = vec![TrialAction::Change(BuildChange::Keep)];
                    actions.extend(self.complete());
                    actions
                }
                Launched::Pending if now >= until => {
                    // It was restarted, or is not ready for now: the time begins anew when it is.
                    self.stage = Stage::Switching { after };
                    Vec::new()
                }
                Launched::Ready | Launched::Pending => Vec::new(),
            },
            Stage::RollingBack { after } => self.rolled_back(server, after),
            Stage::Over => Vec::new(),
        }
    }

    /// The supervisor has accepted a change.
    pub(crate) fn on_accepted(&mut self, change: &BuildChange, snapshot: &Snapshot, now: Uptime) -> Vec<TrialAction> {
        if let (BuildChange::RemoveCanary, Stage::Removing { .. }) = (change, self.stage) {
            self.stage = Stage::Removing { is_accepted: true };
        }
        self.on_snapshot(snapshot, now)
    }

    /// The supervisor has refused a change: nothing that was not there before is left to undo.
    pub(crate) fn on_refused(&mut self, refused: &Refused) -> Vec<TrialAction> {
        match self.stage {
            Stage::Over => Vec::new(),
            Stage::Starting { .. } | Stage::Measuring | Stage::Removing { .. } => {
                self.report.outcome = failed(FailureReason::Refused, refused.to_string());
                self.complete()
            }
            Stage::Switching { .. } | Stage::Watching { .. } | Stage::RollingBack { .. } => {
                self.report.outcome = CanaryOutcome::RolledBack { detail: refused.to_string() };
                self.complete()
            }
        }
    }

    /// Takes the answer to [`TrialAction::Compare`].
    pub(crate) fn on_compared(&mut self, comparison: Comparison) -> Vec<TrialAction> {
        if self.stage != Stage::Measuring {
            return Vec::new();
        }
        let problem = comparison.problem();
        let Comparison { old, new, options, warnings } = comparison;
        self.report = CanaryReport { old, new, options, warnings, ..self.report.clone() };
        self.remove(problem.map_or(CanaryOutcome::Passed, |(reason, detail)| failed(reason, detail)))
    }

    /// Ends the trial. A replacement that has begun goes on: half of one is no state to leave a server in.
    pub(crate) fn cancel(&mut self) -> Vec<TrialAction> {
        match self.stage {
            Stage::Starting { .. } | Stage::Measuring => self.remove(CanaryOutcome::Cancelled),
            Stage::Removing { .. } => {
                if self.report.outcome == CanaryOutcome::Passed {
                    self.report.outcome = CanaryOutcome::Cancelled;
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn start(
        &mut self,
        canary: Option<&ServerRecord>,
        server: Option<&ServerRecord>,
        was_added: bool,
    ) -> Vec<TrialAction> {
        match canary {
            None if was_added => self.remove(gone()),
            None => Vec::new(),
            Some(canary) if canary.is_ready() => {
                self.stage = Stage::Measuring;
                vec![TrialAction::Compare]
            }
            Some(canary) => {
                self.stage = Stage::Starting { was_added: true };
                self.check_canary(canary, server)
            }
        }
    }

    /// Ends the trial if the canary cannot become ready, or is ready no more.
    fn check_canary(&mut self, canary: &ServerRecord, server: Option<&ServerRecord>) -> Vec<TrialAction> {
        if let Some(failure) = &canary.failure {
            // What is known without asking: an option that is refused or dropped may be why it failed.
            let old = server.filter(|server| server.is_ready());
            self.report.new = known_figures(canary, &self.request.new.binary);
            self.report.old = old.map(|old| known_figures(old, &self.request.old));
            if canary.dialect.is_some() {
                self.report.options = option_differences(old.map(|old| &*old.notes), &canary.notes);
            }
            let FailureRecord { reason, detail, lines, .. } = FailureRecord::clone(failure);
            return self.remove(CanaryOutcome::Failed { reason, detail, lines });
        }
        if canary.stopped_on_request || canary.stop.is_some() {
            return self.remove(failed(FailureReason::Unknown, "the canary was stopped by another command".to_owned()));
        }
        if let Some(because) = &canary.held {
            // To wait here would be to wait for an unknown time.
            let detail = format!("there is no memory for both builds now: {because}; try again when it is free");
            return self.remove(failed(FailureReason::Refused, detail));
        }
        Vec::new()
    }

    fn remove(&mut self, outcome: CanaryOutcome) -> Vec<TrialAction> {
        self.report.outcome = outcome;
        self.stage = Stage::Removing { is_accepted: false };
        vec![TrialAction::Change(BuildChange::RemoveCanary)]
    }

    /// The canary is gone: ends the trial, or begins the replacement.
    fn removed(&mut self, server: Option<&ServerRecord>) -> Vec<TrialAction> {
        match (self.request.replacement, server, &self.report.outcome) {
            (Replacement::After { .. }, Some(server), CanaryOutcome::Passed) => {
                self.stage = Stage::Switching { after: server.incarnation };
                vec![TrialAction::Change(BuildChange::Try { binary: self.request.new.binary.clone() })]
            }
            _ => self.complete(),
        }
    }

    fn roll_back(&mut self, server: Option<&ServerRecord>, why: String) -> Vec<TrialAction> {
        self.report.outcome = CanaryOutcome::RolledBack { detail: why };
        self.stage = Stage::RollingBack { after: server.map(|server| server.incarnation).unwrap_or_default() };
        vec![TrialAction::Change(BuildChange::Revert)]
    }

    fn rolled_back(&mut self, server: Option<&ServerRecord>, after: Incarnation) -> Vec<TrialAction> {
        let how = match self.launch_after(server, after) {
            Launched::Ready => "the old build is ready again".to_owned(),
            Launched::Failed(why) => format!("with the old build again: {why}"),
            Launched::Pending => return Vec::new(),
        };
        if let CanaryOutcome::RolledBack { detail } = &mut self.report.outcome {
            *detail = format!("{detail}; {how}");
        }
        self.complete()
    }

    /// What became of the launches after another one.
    fn launch_after(&self, server: Option<&ServerRecord>, after: Incarnation) -> Launched {
        let Some(server) = server else { return Launched::Failed("the server is no longer configured".to_owned()) };
        if server.stopped_on_request {
            return Launched::Failed("the server was stopped by a command".to_owned());
        }
        // Connections that the old build has closed keep the port busy for up to a minute where the new one binds it in
        // another way, as builds since 2025-08 do. That says nothing against the new build.
        let is_tried_again = matches!(self.request.replacement, Replacement::After { is_restarted: true, .. })
            && server.restart_abandoned.is_none();
        if let Some(failure) = server.last_failure.as_deref().filter(|failure| failure.incarnation > after)
            && (failure.reason != FailureReason::PortInUse || !is_tried_again)
        {
            return Launched::Failed(format!("{}: {}", failure.reason, failure.detail));
        }
        if server.incarnation > after && server.is_ready() { Launched::Ready } else { Launched::Pending }
    }

    fn complete(&mut self) -> Vec<TrialAction> {
        self.stage = Stage::Over;
        vec![TrialAction::Complete(self.report.clone().into())]
    }

    fn blame(&mut self, failure: &FailureRecord) {
        if let CanaryOutcome::Failed { reason: FailureReason::Wedged, .. } = self.report.outcome {
            let FailureRecord { reason, detail, lines, .. } = failure.clone();
            self.report.outcome = CanaryOutcome::Failed { reason, detail, lines };
        }
    }
}

/// What became of the launch after another one.
enum Launched {
    Pending,
    Ready,
    Failed(String),
}

fn gone() -> CanaryOutcome {
    failed(
        FailureReason::Unknown,
        "a change of the configuration removed the server, and the canary with it".to_owned(),
    )
}

const fn failed(reason: FailureReason, detail: String) -> CanaryOutcome {
    CanaryOutcome::Failed { reason, detail, lines: Vec::new() }
}

#[cfg(test)]
mod tests;
