//! The verdict on one incarnation, as a pure machine: what was seen goes in with the time, what to do comes out.
//!
//! Invariants: at most one verdict before and one after ready; never ready without proof, which is an answer of our own
//! probe (or the ready line, where a build has no health path or the user trusts it) from a listener of our own; a line
//! alone makes it check_now, at most two probes at a time; a server that said "not ready" is never assumed to be ready.

use std::time::Duration;

use llama_warden_config::{Confirm, OnTimeout};
use llama_warden_events::{Event, FailureReason, ReadyVia, StreamName, Uptime, Warning};
use llama_warden_probe::Answer;

use crate::failure::ReadinessFailure;

mod confirm;
mod interface;
#[cfg(test)]
mod tests;

use confirm::{Confirmation, Proof};
pub(crate) use interface::{
    HintStrength, OutputSummary, Probeable, ReadinessAction, ReadinessHint, ReadinessInput, ReadinessPolicy,
};

/// Shortest and longest time between probes; in between it is a 128th of the time since the spawn, so that looking costs
/// a ready server 0.8 % of its start-up time at most.
const PROBE_INTERVAL: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(500));
/// How long probes come fast after a hint: lines were seen up to 22 ms before the first 200, on an idle machine.
const BURST: Duration = Duration::from_millis(500);
/// How long a server whose time is over may take from its ready line to an answer; lines and the first 200 were seen 22 ms
/// apart at most, on an idle machine.
const LINE_GRACE: Duration = Duration::from_secs(5);
/// A deadline that is heard this much too late was overslept: the daemon was stopped, or the machine slept.
const OVERSLEPT: Duration = Duration::from_secs(1);
/// Most probes on their way. The second one is for a hint while the first one hangs.
const MOST_PROBES: u8 = 2;
/// Most hints that are published of one incarnation.
const MOST_HINTS: u8 = 4;

#[derive(Debug)]
enum StartupPhase {
    Watching,
    Confirming(Confirmation),
    Ready,
    Over,
}

/// See the module. Once a server is ready, which it may be for months, nothing is kept of how it became so.
#[derive(Debug)]
pub(crate) enum ReadinessMachine {
    Starting(Box<Startup>),
    Ready,
    Over,
}

/// A server on its way to the first verdict.
#[derive(Debug)]
pub(crate) struct Startup {
    policy: ReadinessPolicy,
    spawned: Uptime,
    phase: StartupPhase,
    probes_in_flight: u8,
    /// A hint came while two probes were on their way.
    probe_queued: bool,
    next_probe: Uptime,
    burst_until: Uptime,
    last_sign_of_life: Uptime,
    last_answer: Option<Answer>,
    nearly_ready_hint: Option<StreamName>,
    ready_hint: Option<StreamName>,
    no_health_path: bool,
    not_ready_seen: bool,
    /// Progress was seen, and no ready line since: the load is said to go on.
    is_load_reported: bool,
    /// What was published of the progress: nothing, life without a measure, or whole percents.
    published_progress: Option<Option<u8>>,
    hints_published: u8,
    /// When policy decides; `None` while the server loads on after its time.
    cap: Option<Uptime>,
    /// It was published_progress that the server loads on after its time.
    past_cap_published: bool,
    round: u32,
}

impl ReadinessMachine {
    pub(crate) fn new(policy: ReadinessPolicy, spawned: Uptime) -> Self {
        Self::Starting(Box::new(Startup::new(policy, spawned)))
    }

    /// The server was ready before anybody watched it.
    pub(crate) fn note_ready(&mut self) {
        *self = Self::Ready;
    }

    /// Whether lines can still change anything but the evidence.
    pub(crate) const fn is_watching(&self) -> bool {
        matches!(self, Self::Starting(_))
    }

    /// Takes an input in.
    pub(crate) fn on(&mut self, input: ReadinessInput, now: Uptime) -> Vec<ReadinessAction> {
        let mut actions = Vec::new();
        match (&mut *self, input) {
            (Self::Over, _) => {}
            (_, ReadinessInput::StopBegan | ReadinessInput::FailedElsewhere) => *self = Self::Over,
            (Self::Ready, ReadinessInput::Exited { end, evidence }) => {
                *self = Self::Over;
                actions.push(ReadinessAction::Fail(ReadinessFailure::at_exit_after_ready(end, evidence)));
            }
            (Self::Ready, _) => {}
            (Self::Starting(startup), input) => {
                startup.on(input, now, &mut actions);
                match startup.phase {
                    StartupPhase::Watching | StartupPhase::Confirming(_) => {}
                    StartupPhase::Ready => *self = Self::Ready,
                    StartupPhase::Over => *self = Self::Over,
                }
            }
        }
        actions
    }

    /// When `ReadinessInput::Deadline` is due.
    pub(crate) fn next_deadline(&self) -> Option<Uptime> {
        match self {
            Self::Starting(startup) => startup.next_deadline(),
            Self::Ready | Self::Over => None,
        }
    }
}

impl Startup {
    fn new(policy: ReadinessPolicy, spawned: Uptime) -> Self {
        Self {
            policy,
            spawned,
            phase: StartupPhase::Watching,
            probes_in_flight: 0,
            probe_queued: false,
            next_probe: spawned,
            burst_until: spawned,
            last_sign_of_life: spawned,
            last_answer: None,
            nearly_ready_hint: None,
            ready_hint: None,
            no_health_path: false,
            not_ready_seen: false,
            is_load_reported: false,
            published_progress: None,
            hints_published: 0,
            cap: Some(later(spawned, policy.timeout)),
            past_cap_published: false,
            round: 0,
        }
    }

    fn on(&mut self, input: ReadinessInput, now: Uptime, actions: &mut Vec<ReadinessAction>) {
        match input {
            ReadinessInput::StopBegan | ReadinessInput::FailedElsewhere => self.phase = StartupPhase::Over,
            ReadinessInput::Exited { end, evidence } => {
                self.fail(ReadinessFailure::at_exit_before_ready(end, evidence), actions)
            }
            ReadinessInput::Output(summary) => self.on_output(summary, now, actions),
            ReadinessInput::Answered(answer) => self.on_answer(answer, now, actions),
            ReadinessInput::ListenerIdentified(owner) => self.on_listener(owner, now, actions),
            ReadinessInput::IdentityChecked { round, identity } => self.on_identity(round, identity, now, actions),
            ReadinessInput::Deadline => self.on_deadline(now, actions),
        }
    }

    fn next_deadline(&self) -> Option<Uptime> {
        let phase = match &self.phase {
            StartupPhase::Watching => [self.next_check(), self.cap].into_iter().flatten().min(),
            StartupPhase::Confirming(confirmation) => Some(confirmation.deadline()),
            StartupPhase::Ready | StartupPhase::Over => return None,
        };
        [phase, self.stall_deadline()].into_iter().flatten().min()
    }

    fn on_output(&mut self, summary: OutputSummary, now: Uptime, actions: &mut Vec<ReadinessAction>) {
        if let Some(at) = summary.last_line {
            self.last_sign_of_life = self.last_sign_of_life.max(at);
        }
        if let Some(percent) = summary.progress {
            self.is_load_reported = true;
            self.publish_progress(percent, actions);
        }
        for hint in summary.hints {
            self.on_hint(hint, now, actions);
        }
    }

    fn on_hint(&mut self, hint: ReadinessHint, now: Uptime, actions: &mut Vec<ReadinessAction>) {
        match hint.strength {
            HintStrength::NearlyReady => self.nearly_ready_hint = self.nearly_ready_hint.or(Some(hint.stream)),
            HintStrength::Ready => {
                self.ready_hint = self.ready_hint.or(Some(hint.stream));
                self.is_load_reported = false;
                // It said that it loads, which was why its time did not end; now it says that it is done.
                self.cap = self.cap.or(Some(later(now, LINE_GRACE)));
            }
        }
        self.burst_until = later(now, BURST);
        if self.hints_published < MOST_HINTS {
            self.hints_published += 1;
            actions.push(ReadinessAction::Publish(Event::ReadyHinted { stream: hint.stream, line: hint.line }));
        }
        if !matches!(self.phase, StartupPhase::Watching) {
            return;
        }
        if self.hint_proof().is_some() {
            self.check_now(now, actions);
        } else if self.policy.probeable == Probeable::Yes {
            self.probe_or_queue(actions);
        }
    }

    fn on_answer(&mut self, answer: Answer, now: Uptime, actions: &mut Vec<ReadinessAction>) {
        self.probes_in_flight = self.probes_in_flight.saturating_sub(1);
        if self.last_answer.replace(answer) != Some(answer) {
            self.last_sign_of_life = now;
        }
        match answer {
            Answer::NotReady => {
                self.not_ready_seen = true;
                self.publish_progress(None, actions);
            }
            Answer::NotFound => self.no_health_path = true,
            _ => {}
        }
        match (&self.phase, answer) {
            (StartupPhase::Watching, Answer::Ok) => return self.confirm(Proof::Probe, now, actions),
            // Looking at the cap, and the server does answer after all.
            (StartupPhase::Confirming(confirmation), Answer::Ok) if confirmation.proof == Proof::Cap => {
                return self.confirm(Proof::Probe, now, actions);
            }
            (StartupPhase::Confirming(confirmation), Answer::NotReady) if confirmation.proof == Proof::Cap => {
                return self.pass_cap(now, actions);
            }
            (StartupPhase::Confirming(_), _) => return,
            _ => {}
        }
        self.next_probe = later(now, self.interval(now));
        if self.hint_proof().is_some() && answer == Answer::NotFound {
            self.check_now(now, actions);
        } else if std::mem::take(&mut self.probe_queued) {
            self.probe_or_queue(actions);
        }
    }

    fn on_deadline(&mut self, now: Uptime, actions: &mut Vec<ReadinessAction>) {
        if self.next_deadline().is_some_and(|due| now.since(due) >= OVERSLEPT) {
            self.restart_timers(now);
        }
        if self.stall_deadline().is_some_and(|stall_deadline| now >= stall_deadline) {
            let silent = now.since(self.last_sign_of_life);
            let what = format!("no sign of life for {:.1} s ({})", silent.as_secs_f64(), self.describe_last_answer());
            return self.fail(ReadinessFailure::new(FailureReason::Stalled, what), actions);
        }
        if let StartupPhase::Confirming(confirmation) = &mut self.phase {
            if now >= confirmation.deadline() {
                confirmation.expire();
                self.decide(now, actions);
            }
            return;
        }
        if self.cap.is_some_and(|cap| now >= cap) {
            self.on_cap(now, actions);
        }
        if matches!(self.phase, StartupPhase::Watching) && self.next_check().is_some_and(|check_now| now >= check_now) {
            self.check_now(now, actions);
        }
    }

    /// Nobody watched for a while, and what was said meanwhile is yet to be heard: no limit counts that time.
    fn restart_timers(&mut self, now: Uptime) {
        self.last_sign_of_life = now;
        self.cap = self.cap.map(|cap| cap.max(later(now, LINE_GRACE)));
    }

    /// Looks whether the server is ready, in the way that can prove it.
    fn check_now(&mut self, now: Uptime, actions: &mut Vec<ReadinessAction>) {
        self.next_probe = later(now, self.interval(now));
        match self.hint_proof() {
            Some(stream) => self.confirm(Proof::ReadyHint(stream), now, actions),
            None => self.probe_or_queue(actions),
        }
    }

    fn probe_or_queue(&mut self, actions: &mut Vec<ReadinessAction>) {
        if self.probes_in_flight < MOST_PROBES {
            self.probes_in_flight += 1;
            actions.push(ReadinessAction::Probe);
        } else {
            self.probe_queued = true;
        }
    }

    /// The stream of the ready line, where that line is proof enough.
    fn hint_proof(&self) -> Option<StreamName> {
        let trusted =
            self.policy.confirm == Confirm::None || self.policy.probeable == Probeable::No || self.no_health_path;
        self.ready_hint.filter(|_| trusted)
    }

    /// When to check_now again by itself; not while a probe is on its way, since its answer comes first.
    fn next_check(&self) -> Option<Uptime> {
        let by_itself = self.policy.probeable == Probeable::Yes || self.hint_proof().is_some();
        (by_itself && self.probes_in_flight == 0).then_some(self.next_probe)
    }

    fn interval(&self, now: Uptime) -> Duration {
        let (shortest, longest) = PROBE_INTERVAL;
        if now < self.burst_until { shortest } else { (now.since(self.spawned) / 128).clamp(shortest, longest) }
    }

    fn stall_deadline(&self) -> Option<Uptime> {
        self.policy.stall_timeout.map(|timeout| later(self.last_sign_of_life, timeout))
    }

    fn on_cap(&mut self, now: Uptime, actions: &mut Vec<ReadinessAction>) {
        match self.policy.on_timeout {
            OnTimeout::Fail => self.fail_at_cap("", actions),
            OnTimeout::AssumeReady if self.is_loading() => self.pass_cap(now, actions),
            // It said that it is done and then fell silent; what said "not ready" is never assumed to be ready.
            OnTimeout::AssumeReady if self.not_ready_seen => self.fail_at_cap("", actions),
            OnTimeout::AssumeReady => self.confirm(Proof::Cap, now, actions),
        }
    }

    /// Whether the server says that it loads: 503 is its latest answer, or there was a 503 or progress and no ready line since.
    fn is_loading(&self) -> bool {
        let said_so = self.is_load_reported || (self.not_ready_seen && self.ready_hint.is_none());
        said_so || self.last_answer == Some(Answer::NotReady)
    }

    /// The server loads on after its time; only the stall_deadline timeout bounds it now, until it says that it is done.
    fn pass_cap(&mut self, now: Uptime, actions: &mut Vec<ReadinessAction>) {
        self.cap = None;
        self.phase = StartupPhase::Watching;
        self.next_probe = later(now, self.interval(now));
        if std::mem::replace(&mut self.past_cap_published, true) {
            return;
        }
        let bound = match self.policy.stall_timeout {
            Some(timeout) => format!("it fails after {:.0} s without a sign of life", timeout.as_secs_f64()),
            None => "set `readiness.stall-timeout` to bound it".to_owned(),
        };
        let detail = format!("still loading after {:.0} s; {bound}", self.policy.timeout.as_secs_f64());
        actions.push(ReadinessAction::Publish(Event::ServerWarned { warning: Warning::LoadingPastCap, detail }));
    }

    fn fail_at_cap(&mut self, why: &str, actions: &mut Vec<ReadinessAction>) {
        let what = format!(
            "not ready after {:.0} s ({}{why})",
            self.policy.timeout.as_secs_f64(),
            self.describe_last_answer()
        );
        self.fail(ReadinessFailure::new(FailureReason::ReadyTimeout, what), actions);
    }

    fn describe_last_answer(&self) -> &'static str {
        match self.last_answer {
            None => "it was not asked",
            Some(Answer::Refused) => "it does not listen",
            Some(Answer::NotReady) => "it says that it is not ready",
            Some(Answer::NotFound) => "it has no health path, and no ready line came",
            Some(Answer::NoAnswer) => "it listens and does not answer",
            Some(Answer::Garbage) => "it answers with something that is no HTTP",
            Some(Answer::Ok | Answer::Other(_)) => "it answers, but not as expected",
        }
    }

    fn publish_progress(&mut self, percent: Option<f64>, actions: &mut Vec<ReadinessAction>) {
        // The cast saturates, and matchers only let 0 to 100 through.
        let whole = percent.map(|percent| percent as u8);
        let news = match (self.published_progress, whole) {
            (None, _) => true,
            (Some(published_progress), Some(whole)) => published_progress != Some(whole),
            (Some(_), None) => false,
        };
        if news {
            self.published_progress = Some(whole);
            let ratio = percent.map(|percent| percent / 100.0);
            actions.push(ReadinessAction::Publish(Event::LoadProgressed { ratio }));
        }
    }

    fn become_ready(&mut self, via: ReadyVia, now: Uptime, actions: &mut Vec<ReadinessAction>) {
        self.phase = StartupPhase::Ready;
        let startup_seconds = now.since(self.spawned).as_secs_f64();
        actions.push(ReadinessAction::Publish(Event::ReadyReached { via, startup_seconds }));
    }

    fn fail(&mut self, failure: ReadinessFailure, actions: &mut Vec<ReadinessAction>) {
        self.phase = StartupPhase::Over;
        actions.push(ReadinessAction::Fail(failure));
    }
}

const fn later(at: Uptime, by: Duration) -> Uptime {
    Uptime::new(at.as_duration().saturating_add(by))
}
