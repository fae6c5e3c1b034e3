//! Decides whether one launch is ready, as a pure machine: inputs go in with the time, actions come out.
//!
//! Invariants:
//!
//! * At most one verdict before ready, and one after.
//! * Never ready without a proof and its confirmation. The proof is a 200 to our own probe; or the ready line, if the build
//!   has no health path or the user trusts the line; or the policy at the cap. The confirmation is that our own process
//!   listens on the port, and that the right model answers.
//! * A line alone only makes the machine probe, with at most two probes in flight.
//! * A server that answered 503 is never assumed to be ready.
//!
//! The **cap** is the end of `readiness.timeout`. A server that says that it still loads passes it with a warning. So does one
//! that may be downloading its model, of which most builds say nothing; it gets a new cap when it begins to load.

use std::time::Duration;

use llama_warden_config::{Confirm, OnTimeout};
use llama_warden_events::{Event, FailureReason, ReadyVia, StreamName, Uptime, Warning};
use llama_warden_probe::ProbeAnswer;

use crate::failure::ReadinessFailure;

mod confirm;
mod interface;
#[cfg(test)]
mod tests;

use confirm::{Confirmation, Proof};
pub use interface::{
    HintStrength, OutputSummary, Probeable, ReadinessAction, ReadinessHint, ReadinessInput, ReadinessPolicy,
};

/// Shortest and longest time between probes. In between it is a 128th of the time since the spawn, so that probing delays
/// the verdict by at most 0.8 % of the start-up time.
const PROBE_INTERVAL: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(500));
/// How long probes come in a burst, at the shortest interval, after a hint. Lines were seen up to 22 ms before the first 200
/// on an idle machine.
const BURST: Duration = Duration::from_millis(500);
/// How long a server that has passed the cap may take from its ready line to a 200. Lines and the first 200 were seen at most
/// 22 ms apart on an idle machine.
const LINE_GRACE: Duration = Duration::from_secs(5);
/// A deadline that comes this much too late was overslept: the daemon was stopped, or the machine was suspended.
const OVERSLEPT: Duration = Duration::from_secs(1);
/// Most probes in flight. The second one is for a hint that comes while the first one hangs.
const MOST_PROBES: u8 = 2;
/// Most hints that are published per launch.
const MOST_HINTS: u8 = 4;

/// The readiness of one launch. After ready, which may last for months, it keeps nothing of the start-up.
#[derive(Debug)]
pub enum ReadinessMachine {
    /// Without a verdict.
    Starting(Box<Startup>),
    /// Ready; only the end of the process gets a verdict.
    Ready,
    /// Nothing more is decided.
    Over,
}

/// A launch before its first verdict.
#[derive(Debug)]
pub struct Startup {
    policy: ReadinessPolicy,
    spawned: Uptime,
    phase: StartupPhase,
    /// The actions for the current input.
    actions: Vec<ReadinessAction>,
    probes_in_flight: u8,
    /// A hint came while [`MOST_PROBES`] were in flight: probe again when one comes back.
    probe_queued: bool,
    next_probe: Uptime,
    burst_until: Uptime,
    last_sign_of_life: Uptime,
    last_answer: Option<ProbeAnswer>,
    /// The stream of the first `nearly-ready` line.
    nearly_ready_hint: Option<StreamName>,
    /// The stream of the first `ready` line.
    ready_hint: Option<StreamName>,
    /// A probe was answered with 404: the build has no health path.
    no_health_path: bool,
    /// A probe was answered with 503 at least once.
    not_ready_seen: bool,
    /// The server may still be downloading its model: nothing was seen yet that comes only after that.
    is_fetching: bool,
    /// The latest of progress and ready lines was progress.
    is_load_reported: bool,
    /// The progress that was published last: `Some(None)` is progress without a percentage.
    published_progress: Option<Option<u8>>,
    hints_published: u8,
    /// When the policy decides; `None` after the server passed the cap.
    cap: Option<Uptime>,
    past_cap_published: bool,
    /// The round of confirmation. An answer to an earlier round is ignored.
    round: u32,
}

#[derive(Debug)]
enum StartupPhase {
    Watching,
    Confirming(Confirmation),
    Ready,
    Over,
}

impl ReadinessMachine {
    /// A launch whose process was spawned at `spawned`.
    pub fn new(policy: ReadinessPolicy, spawned: Uptime) -> Self {
        Self::Starting(Box::new(Startup::new(policy, spawned)))
    }

    /// Skips the start-up: the snapshot says that the server is ready already.
    pub fn note_ready(&mut self) {
        *self = Self::Ready;
    }

    /// Whether there is no verdict yet, so that lines matter for more than evidence.
    pub const fn is_starting(&self) -> bool {
        matches!(self, Self::Starting(_))
    }

    /// Takes an input and returns what has to be done, in order.
    pub fn on(&mut self, input: ReadinessInput, now: Uptime) -> Vec<ReadinessAction> {
        match (&mut *self, input) {
            (Self::Over, _) => Vec::new(),
            (_, ReadinessInput::StopBegan | ReadinessInput::FailedElsewhere) => {
                *self = Self::Over;
                Vec::new()
            }
            (Self::Ready, ReadinessInput::Exited { end, evidence }) => {
                *self = Self::Over;
                vec![ReadinessAction::Fail(ReadinessFailure::at_exit_after_ready(end, evidence))]
            }
            (Self::Ready, _) => Vec::new(),
            (Self::Starting(startup), input) => {
                startup.on(input, now);
                let actions = std::mem::take(&mut startup.actions);
                match startup.phase {
                    StartupPhase::Watching | StartupPhase::Confirming(_) => {}
                    StartupPhase::Ready => *self = Self::Ready,
                    StartupPhase::Over => *self = Self::Over,
                }
                actions
            }
        }
    }

    /// When `ReadinessInput::Deadline` is due.
    pub fn next_deadline(&self) -> Option<Uptime> {
        match self {
            Self::Starting(startup) => startup.next_deadline(),
            Self::Ready | Self::Over => None,
        }
    }
}

impl Startup {
    fn new(policy: ReadinessPolicy, spawned: Uptime) -> Self {
        let mut startup = Self {
            policy,
            spawned,
            phase: StartupPhase::Watching,
            actions: Vec::new(),
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
            is_fetching: policy.fetches_model,
            is_load_reported: false,
            published_progress: None,
            hints_published: 0,
            cap: Some(spawned + policy.timeout),
            past_cap_published: false,
            round: 0,
        };
        if policy.fetches_model {
            startup.publish_progress(None);
        }
        startup
    }

    fn on(&mut self, input: ReadinessInput, now: Uptime) {
        match input {
            ReadinessInput::StopBegan | ReadinessInput::FailedElsewhere => self.phase = StartupPhase::Over,
            ReadinessInput::Exited { end, evidence } => {
                self.fail(ReadinessFailure::at_exit_before_ready(end, evidence));
            }
            ReadinessInput::Output(summary) => self.on_output(summary, now),
            ReadinessInput::Answered(answer) => self.on_answer(answer, now),
            ReadinessInput::ListenerIdentified(owner) => self.on_listener(owner, now),
            ReadinessInput::IdentityChecked { round, identity } => self.on_identity(round, identity, now),
            ReadinessInput::Deadline => self.on_deadline(now),
        }
    }

    fn next_deadline(&self) -> Option<Uptime> {
        let of_phase = match &self.phase {
            StartupPhase::Watching => [self.next_check(), self.cap].into_iter().flatten().min(),
            StartupPhase::Confirming(confirmation) => Some(confirmation.deadline()),
            StartupPhase::Ready | StartupPhase::Over => return None,
        };
        [of_phase, self.stall_deadline()].into_iter().flatten().min()
    }

    fn on_output(&mut self, summary: OutputSummary, now: Uptime) {
        if let Some(at) = summary.last_line {
            // An answer to a probe may be a later sign of life than this line, which is read with a delay.
            self.last_sign_of_life = self.last_sign_of_life.max(at);
        }
        if summary.has_model {
            self.end_fetch(now);
        }
        if let Some(percent) = summary.progress {
            self.is_load_reported = true;
            self.publish_progress(percent);
        }
        for hint in summary.hints {
            self.on_hint(hint, now);
        }
    }

    fn on_hint(&mut self, hint: ReadinessHint, now: Uptime) {
        match hint.strength {
            HintStrength::NearlyReady => self.nearly_ready_hint = self.nearly_ready_hint.or(Some(hint.stream)),
            HintStrength::Ready => {
                self.end_fetch(now);
                self.ready_hint = self.ready_hint.or(Some(hint.stream));
                self.is_load_reported = false;
                // A loading server has no cap once it has passed it. This one says that it is done, so it gets one again.
                self.cap = self.cap.or(Some(now + LINE_GRACE));
            }
        }
        self.burst_until = now + BURST;
        if self.hints_published < MOST_HINTS {
            self.hints_published += 1;
            self.publish(Event::ReadyHinted { stream: hint.stream, line: hint.line });
        }
        if !matches!(self.phase, StartupPhase::Watching) {
            return;
        }
        if self.line_proof().is_some() {
            self.check(now);
        } else if self.policy.probeable == Probeable::Yes {
            self.probe_or_queue();
        }
    }

    fn on_answer(&mut self, answer: ProbeAnswer, now: Uptime) {
        self.probes_in_flight = self.probes_in_flight.saturating_sub(1);
        // A new answer is a sign of life. The same one again is not: a hung server may answer 503 for ever.
        if self.last_answer.replace(answer) != Some(answer) {
            self.last_sign_of_life = now;
        }
        match answer {
            ProbeAnswer::NotReady => {
                self.not_ready_seen = true;
                self.publish_progress(None);
            }
            ProbeAnswer::NotFound => self.no_health_path = true,
            _ => {}
        }
        match (&self.phase, answer) {
            (StartupPhase::Watching, ProbeAnswer::Ok) => return self.confirm(Proof::Probe, now),
            // The policy at the cap was about to decide, and the server answers after all.
            (StartupPhase::Confirming(confirmation), ProbeAnswer::Ok) if confirmation.proof == Proof::Cap => {
                return self.confirm(Proof::Probe, now);
            }
            (StartupPhase::Confirming(confirmation), ProbeAnswer::NotReady) if confirmation.proof == Proof::Cap => {
                return self.pass_cap(now);
            }
            (StartupPhase::Confirming(_), _) => return,
            _ => {}
        }
        self.next_probe = now + self.interval(now);
        // The ready line came first, and only this 404 makes it a proof.
        if self.line_proof().is_some() && answer == ProbeAnswer::NotFound {
            self.check(now);
        } else if std::mem::take(&mut self.probe_queued) {
            self.probe_or_queue();
        }
    }

    fn on_deadline(&mut self, now: Uptime) {
        if self.next_deadline().is_some_and(|due| now.since(due) >= OVERSLEPT) {
            self.restart_limits(now);
        }
        if self.stall_deadline().is_some_and(|deadline| now >= deadline) {
            let silent = now.since(self.last_sign_of_life);
            let what = format!("no sign of life for {:.1} s ({})", silent.as_secs_f64(), self.describe_last_answer());
            return self.fail(ReadinessFailure::new(FailureReason::Stalled, what));
        }
        if let StartupPhase::Confirming(confirmation) = &mut self.phase {
            if now >= confirmation.deadline() {
                confirmation.expire();
                self.decide(now);
            }
            return;
        }
        if self.cap.is_some_and(|cap| now >= cap) {
            self.on_cap(now);
        }
        if matches!(self.phase, StartupPhase::Watching) && self.next_check().is_some_and(|due| now >= due) {
            self.check(now);
        }
    }

    /// Discounts the time for which the daemon did not run: the server's lines and answers of that time are still unread.
    fn restart_limits(&mut self, now: Uptime) {
        self.last_sign_of_life = now;
        self.cap = self.cap.map(|cap| cap.max(now + LINE_GRACE));
    }

    /// Checks whether the server is ready, in the way that can prove it.
    fn check(&mut self, now: Uptime) {
        self.next_probe = now + self.interval(now);
        match self.line_proof() {
            Some(stream) => self.confirm(Proof::ReadyLine(stream), now),
            None => self.probe_or_queue(),
        }
    }

    fn probe_or_queue(&mut self) {
        if self.probes_in_flight < MOST_PROBES {
            self.probes_in_flight += 1;
            self.actions.push(ReadinessAction::Probe);
        } else {
            self.probe_queued = true;
        }
    }

    /// The stream of the ready line, if that line is a proof for this launch.
    fn line_proof(&self) -> Option<StreamName> {
        let ReadinessPolicy { confirm, probeable, .. } = self.policy;
        self.ready_hint.filter(|_| confirm == Confirm::None || probeable == Probeable::No || self.no_health_path)
    }

    /// When to check without a hint. Not while a probe is in flight: its answer comes first.
    fn next_check(&self) -> Option<Uptime> {
        let can_prove = self.policy.probeable == Probeable::Yes || self.line_proof().is_some();
        (can_prove && self.probes_in_flight == 0).then_some(self.next_probe)
    }

    fn interval(&self, now: Uptime) -> Duration {
        let (shortest, longest) = PROBE_INTERVAL;
        if now < self.burst_until { shortest } else { (now.since(self.spawned) / 128).clamp(shortest, longest) }
    }

    /// Not during a download, of which most builds say nothing.
    fn stall_deadline(&self) -> Option<Uptime> {
        self.policy.stall_timeout.filter(|_| !self.is_fetching).map(|timeout| self.last_sign_of_life + timeout)
    }

    /// The server has its model: from now on its time counts.
    fn end_fetch(&mut self, now: Uptime) {
        if std::mem::take(&mut self.is_fetching) {
            self.cap = Some(now + self.policy.timeout);
            self.last_sign_of_life = now;
        }
    }

    fn on_cap(&mut self, now: Uptime) {
        match self.policy.on_timeout {
            _ if self.is_fetching => self.pass_cap(now),
            // Perhaps it listens on another address: who knows may tell the user.
            _ if self.last_answer == Some(ProbeAnswer::Refused) => self.confirm(Proof::Cap, now),
            OnTimeout::Fail => self.fail_at_cap(""),
            OnTimeout::AssumeReady if self.is_loading() => self.pass_cap(now),
            // It answered 503, then said that it is done, and then fell silent.
            OnTimeout::AssumeReady if self.not_ready_seen => self.fail_at_cap(""),
            OnTimeout::AssumeReady => self.confirm(Proof::Cap, now),
        }
    }

    /// Whether a silent server is assumed to be ready at the cap.
    pub(super) fn may_assume_ready(&self) -> bool {
        self.policy.on_timeout == OnTimeout::AssumeReady && !self.is_loading() && !self.not_ready_seen
    }

    /// Decides about a server that refused the last connection at the cap, and of which nobody else's process is known.
    pub(super) fn on_cap_without_listener(&mut self, why: &str, now: Uptime) {
        if self.policy.on_timeout == OnTimeout::AssumeReady && self.is_loading() {
            self.pass_cap(now);
        } else {
            self.fail_at_cap(why);
        }
    }

    /// Whether the server says that it loads: its latest answer is 503, or a 503 or progress came and no ready line since.
    fn is_loading(&self) -> bool {
        self.is_load_reported
            || (self.not_ready_seen && self.ready_hint.is_none())
            || self.last_answer == Some(ProbeAnswer::NotReady)
    }

    /// Lets a loading server pass the cap, with one warning. Until its ready line, only the stall timeout bounds it.
    fn pass_cap(&mut self, now: Uptime) {
        self.cap = None;
        self.watch(now);
        if std::mem::replace(&mut self.past_cap_published, true) {
            return;
        }
        let bound = match self.policy.stall_timeout {
            Some(timeout) => format!("it fails after {:.0} s without a sign of life", timeout.as_secs_f64()),
            None => "set `readiness.stall-timeout` to bound it".to_owned(),
        };
        let seconds = self.policy.timeout.as_secs_f64();
        let detail = if self.is_fetching {
            format!("it may still be downloading its model after {seconds:.0} s; that has no limit")
        } else {
            format!("still loading after {seconds:.0} s; {bound}")
        };
        self.warn(Warning::LoadingPastCap, detail);
    }

    fn fail_at_cap(&mut self, why: &str) {
        let (seconds, answer) = (self.policy.timeout.as_secs_f64(), self.describe_last_answer());
        let what = format!("not ready after {seconds:.0} s ({answer}{why})");
        self.fail(ReadinessFailure::new(FailureReason::ReadyTimeout, what));
    }

    fn describe_last_answer(&self) -> &'static str {
        match self.last_answer {
            None => "it was not asked",
            Some(ProbeAnswer::Refused) => "it does not listen",
            Some(ProbeAnswer::NotReady) => "it says that it is not ready",
            Some(ProbeAnswer::NotFound) => "it has no health path, and no ready line came",
            Some(ProbeAnswer::NoAnswer) => "it listens and does not answer",
            Some(ProbeAnswer::Garbage) => "it answers with something that is no HTTP",
            Some(ProbeAnswer::Ok | ProbeAnswer::Other(_)) => "it answers, but not as expected",
        }
    }

    /// Publishes progress, once per whole percent. Progress without a percentage is published only as the first.
    fn publish_progress(&mut self, percent: Option<f64>) {
        // The cast saturates, and matchers only let 0 to 100 through.
        let whole = percent.map(|percent| percent as u8);
        if self.published_progress.is_none_or(|published| whole.is_some() && whole != published) {
            self.published_progress = Some(whole);
            self.publish(Event::LoadProgressed { ratio: percent.map(|percent| percent / 100.0) });
        }
    }

    /// Goes on watching after a confirmation that proved nothing.
    fn watch(&mut self, now: Uptime) {
        self.phase = StartupPhase::Watching;
        self.next_probe = now + self.interval(now);
    }

    fn become_ready(&mut self, via: ReadyVia, now: Uptime) {
        self.phase = StartupPhase::Ready;
        let via = if self.policy.was_ready && via != ReadyVia::Timeout { ReadyVia::Adopted } else { via };
        self.publish(Event::ReadyReached { via, startup_seconds: now.since(self.spawned).as_secs_f64() });
    }

    fn fail(&mut self, failure: ReadinessFailure) {
        self.phase = StartupPhase::Over;
        self.actions.push(ReadinessAction::Fail(failure));
    }

    fn publish(&mut self, event: Event) {
        self.actions.push(ReadinessAction::Publish(event));
    }

    fn warn(&mut self, warning: Warning, detail: impl Into<String>) {
        self.publish(Event::ServerWarned { warning, detail: detail.into() });
    }
}
