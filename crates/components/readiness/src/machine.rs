//! The verdict on one incarnation, as a pure machine: what was seen goes in with the time, what to do comes out.
//!
//! Invariants: at most one verdict before and one after ready; never ready without proof, which is an answer of our own
//! probe (or the ready line, where a build has no health path or the user trusts it) from a listener of our own; a line
//! alone makes it look, at most two probes at a time; a server that said "not ready" is never assumed to be ready.

use std::time::Duration;

use llama_warden_config::{Confirm, OnTimeout, ReadinessSpec};
use llama_warden_events::{Event, FailureReason, ListenerOwner, ProcessEnd, ReadyVia, StreamName, Uptime, Warning};

use crate::failure::{Evidence, Failure};
use crate::{Answer, Identity};

mod confirm;
#[cfg(test)]
mod tests;

use confirm::{Confirmation, Proof};

/// Shortest and longest time between probes; in between it is a 128th of the time since the spawn, so that looking costs
/// a ready server 0.8 % of its start-up time at most.
const PROBE_INTERVAL: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(500));
/// How long probes come fast after a hint: lines were seen up to 22 ms before the first 200, on an idle machine.
const EAGER: Duration = Duration::from_millis(500);
/// How long a server whose time is over may take from its ready line to an answer; lines and the first 200 were seen 22 ms
/// apart at most, on an idle machine.
const LINE_GRACE: Duration = Duration::from_secs(5);
/// A deadline that is heard this much too late was overslept: the daemon was stopped, or the machine slept.
const OVERSLEPT: Duration = Duration::from_secs(1);
/// Most probes on their way. The second one is for a hint while the first one hangs.
const MOST_PROBES: u8 = 2;
/// Most hints that are published of one incarnation.
const MOST_HINTS: u8 = 4;

/// What the verdict is decided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) timeout: Duration,
    pub(crate) on_timeout: OnTimeout,
    pub(crate) stall_timeout: Option<Duration>,
    pub(crate) confirm: Confirm,
    /// Whether the server can be asked at all.
    pub(crate) askable: Askable,
}

/// Whether a server can be asked whether it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Askable {
    Yes,
    /// Its pack or its TLS says that we cannot; its ready line is the proof.
    No,
}

impl Terms {
    pub(crate) const fn new(spec: &ReadinessSpec, askable: Askable) -> Self {
        Self {
            timeout: spec.timeout,
            on_timeout: spec.on_timeout,
            stall_timeout: spec.stall_timeout,
            confirm: spec.confirm,
            askable,
        }
    }
}

/// Everything that can wake the machine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Input {
    /// Lines were read.
    Sighted(Sighting),
    /// A probe came back.
    Answered(Answer),
    /// It is known who listens.
    ListenerIdentified(ListenerOwner),
    /// It is known which model answers, in that round of confirmation.
    IdentityChecked { round: u32, identity: Identity },
    /// Somebody asked the server to end: what follows is expected.
    StopBegan,
    /// Somebody else has published the failure of this incarnation.
    FailedElsewhere,
    /// The process ended.
    Exited { end: ProcessEnd, evidence: Option<Evidence> },
    /// A deadline has come.
    Deadline,
}

/// What the lines since the last sighting say.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sighting {
    pub(crate) hints: Vec<Hint>,
    /// The latest progress, with its percentage where there is one.
    pub(crate) progress: Option<Option<f64>>,
    /// When the last line came that is no echo of our own.
    pub(crate) last_line: Option<Uptime>,
}

/// A line that says that it is worth looking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hint {
    pub(crate) stream: StreamName,
    pub(crate) strength: HintStrength,
    pub(crate) line: String,
}

/// How much a hint says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HintStrength {
    NearlyReady,
    Ready,
}

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    Probe,
    IdentifyListener,
    CheckIdentity {
        round: u32,
    },
    Publish(Event),
    /// Publish the failure with the last lines.
    Fail(Failure),
}

#[derive(Debug)]
enum Stage {
    Watching,
    Confirming(Confirmation),
    Ready,
    Over,
}

/// See the module. Once a server is ready, which it may be for months, nothing is kept of how it became so.
#[derive(Debug)]
pub(crate) enum Machine {
    Starting(Box<Startup>),
    Ready,
    Over,
}

/// A server on its way to the first verdict.
#[derive(Debug)]
pub(crate) struct Startup {
    terms: Terms,
    spawned: Uptime,
    stage: Stage,
    in_flight: u8,
    /// A hint came while two probes were on their way.
    wanted: bool,
    next_probe: Uptime,
    eager_until: Uptime,
    last_life: Uptime,
    last_answer: Option<Answer>,
    nearly_line: Option<StreamName>,
    ready_line: Option<StreamName>,
    no_health_path: bool,
    not_ready_seen: bool,
    /// Progress was seen, and no ready line since: the load is said to go on.
    load_goes_on: bool,
    /// What was published of the progress: nothing, life without a measure, or whole percents.
    told: Option<Option<u8>>,
    hints_told: u8,
    /// When policy decides; `None` while the server loads on after its time.
    cap: Option<Uptime>,
    /// It was told that the server loads on after its time.
    past_cap_told: bool,
    round: u32,
}

impl Machine {
    pub(crate) fn new(terms: Terms, spawned: Uptime) -> Self {
        Self::Starting(Box::new(Startup::new(terms, spawned)))
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
    pub(crate) fn on(&mut self, input: Input, now: Uptime) -> Vec<Action> {
        let mut actions = Vec::new();
        match (&mut *self, input) {
            (Self::Over, _) => {}
            (_, Input::StopBegan | Input::FailedElsewhere) => *self = Self::Over,
            (Self::Ready, Input::Exited { end, evidence }) => {
                *self = Self::Over;
                actions.push(Action::Fail(Failure::at_exit_after_ready(end, evidence)));
            }
            (Self::Ready, _) => {}
            (Self::Starting(startup), input) => {
                startup.on(input, now, &mut actions);
                match startup.stage {
                    Stage::Watching | Stage::Confirming(_) => {}
                    Stage::Ready => *self = Self::Ready,
                    Stage::Over => *self = Self::Over,
                }
            }
        }
        actions
    }

    /// When `Input::Deadline` is due.
    pub(crate) fn next_deadline(&self) -> Option<Uptime> {
        match self {
            Self::Starting(startup) => startup.next_deadline(),
            Self::Ready | Self::Over => None,
        }
    }
}

impl Startup {
    fn new(terms: Terms, spawned: Uptime) -> Self {
        Self {
            terms,
            spawned,
            stage: Stage::Watching,
            in_flight: 0,
            wanted: false,
            next_probe: spawned,
            eager_until: spawned,
            last_life: spawned,
            last_answer: None,
            nearly_line: None,
            ready_line: None,
            no_health_path: false,
            not_ready_seen: false,
            load_goes_on: false,
            told: None,
            hints_told: 0,
            cap: Some(spawned + terms.timeout),
            past_cap_told: false,
            round: 0,
        }
    }

    fn on(&mut self, input: Input, now: Uptime, actions: &mut Vec<Action>) {
        match input {
            Input::StopBegan | Input::FailedElsewhere => self.stage = Stage::Over,
            Input::Exited { end, evidence } => self.fail(Failure::at_exit_before_ready(end, evidence), actions),
            Input::Sighted(sighting) => self.on_sighting(sighting, now, actions),
            Input::Answered(answer) => self.on_answer(answer, now, actions),
            Input::ListenerIdentified(owner) => self.on_listener(owner, now, actions),
            Input::IdentityChecked { round, identity } => self.on_identity(round, identity, now, actions),
            Input::Deadline => self.on_deadline(now, actions),
        }
    }

    fn next_deadline(&self) -> Option<Uptime> {
        let stage = match &self.stage {
            Stage::Watching => [self.next_look(), self.cap].into_iter().flatten().min(),
            Stage::Confirming(confirmation) => Some(confirmation.deadline()),
            Stage::Ready | Stage::Over => return None,
        };
        [stage, self.stall()].into_iter().flatten().min()
    }

    fn on_sighting(&mut self, sighting: Sighting, now: Uptime, actions: &mut Vec<Action>) {
        if let Some(at) = sighting.last_line {
            self.last_life = self.last_life.max(at);
        }
        if let Some(percent) = sighting.progress {
            self.load_goes_on = true;
            self.tell_progress(percent, actions);
        }
        for hint in sighting.hints {
            self.on_hint(hint, now, actions);
        }
    }

    fn on_hint(&mut self, hint: Hint, now: Uptime, actions: &mut Vec<Action>) {
        match hint.strength {
            HintStrength::NearlyReady => self.nearly_line = self.nearly_line.or(Some(hint.stream)),
            HintStrength::Ready => {
                self.ready_line = self.ready_line.or(Some(hint.stream));
                self.load_goes_on = false;
                // It said that it loads, which was why its time did not end; now it says that it is done.
                self.cap = self.cap.or(Some(now + LINE_GRACE));
            }
        }
        self.eager_until = now + EAGER;
        if self.hints_told < MOST_HINTS {
            self.hints_told += 1;
            actions.push(Action::Publish(Event::ReadyHinted { stream: hint.stream, line: hint.line }));
        }
        if !matches!(self.stage, Stage::Watching) {
            return;
        }
        if self.line_proof().is_some() {
            self.look(now, actions);
        } else if self.terms.askable == Askable::Yes {
            self.probe_or_remember(actions);
        }
    }

    fn on_answer(&mut self, answer: Answer, now: Uptime, actions: &mut Vec<Action>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.last_answer.replace(answer) != Some(answer) {
            self.last_life = now;
        }
        match answer {
            Answer::NotReady => {
                self.not_ready_seen = true;
                self.tell_progress(None, actions);
            }
            Answer::NotFound => self.no_health_path = true,
            _ => {}
        }
        match (&self.stage, answer) {
            (Stage::Watching, Answer::Ok) => return self.confirm(Proof::Probe, now, actions),
            // Looking at the cap, and the server does answer after all.
            (Stage::Confirming(confirmation), Answer::Ok) if confirmation.proof == Proof::Cap => {
                return self.confirm(Proof::Probe, now, actions);
            }
            (Stage::Confirming(confirmation), Answer::NotReady) if confirmation.proof == Proof::Cap => {
                return self.pass_cap(now, actions);
            }
            (Stage::Confirming(_), _) => return,
            _ => {}
        }
        self.next_probe = now + self.interval(now);
        if self.line_proof().is_some() && answer == Answer::NotFound {
            self.look(now, actions);
        } else if std::mem::take(&mut self.wanted) {
            self.probe_or_remember(actions);
        }
    }

    fn on_deadline(&mut self, now: Uptime, actions: &mut Vec<Action>) {
        if self.next_deadline().is_some_and(|due| now.since(due) >= OVERSLEPT) {
            self.excuse(now);
        }
        if self.stall().is_some_and(|stall| now >= stall) {
            let silent = now.since(self.last_life);
            let what = format!("no sign of life for {:.1} s ({})", silent.as_secs_f64(), self.last_heard());
            return self.fail(Failure::new(FailureReason::Stalled, what), actions);
        }
        if let Stage::Confirming(confirmation) = &mut self.stage {
            if now >= confirmation.deadline() {
                confirmation.give_up_waiting();
                self.settle(now, actions);
            }
            return;
        }
        if self.cap.is_some_and(|cap| now >= cap) {
            self.on_cap(now, actions);
        }
        if matches!(self.stage, Stage::Watching) && self.next_look().is_some_and(|look| now >= look) {
            self.look(now, actions);
        }
    }

    /// Nobody watched for a while, and what was said meanwhile is yet to be heard: no limit counts that time.
    fn excuse(&mut self, now: Uptime) {
        self.last_life = now;
        self.cap = self.cap.map(|cap| cap.max(now + LINE_GRACE));
    }

    /// Looks whether the server is ready, in the way that can prove it.
    fn look(&mut self, now: Uptime, actions: &mut Vec<Action>) {
        self.next_probe = now + self.interval(now);
        match self.line_proof() {
            Some(stream) => self.confirm(Proof::Line(stream), now, actions),
            None => self.probe_or_remember(actions),
        }
    }

    fn probe_or_remember(&mut self, actions: &mut Vec<Action>) {
        if self.in_flight < MOST_PROBES {
            self.in_flight += 1;
            actions.push(Action::Probe);
        } else {
            self.wanted = true;
        }
    }

    /// The stream of the ready line, where that line is proof enough.
    fn line_proof(&self) -> Option<StreamName> {
        let trusted = self.terms.confirm == Confirm::None || self.terms.askable == Askable::No || self.no_health_path;
        self.ready_line.filter(|_| trusted)
    }

    /// When to look again by itself; not while a probe is on its way, since its answer comes first.
    fn next_look(&self) -> Option<Uptime> {
        let by_itself = self.terms.askable == Askable::Yes || self.line_proof().is_some();
        (by_itself && self.in_flight == 0).then_some(self.next_probe)
    }

    fn interval(&self, now: Uptime) -> Duration {
        let (shortest, longest) = PROBE_INTERVAL;
        if now < self.eager_until { shortest } else { (now.since(self.spawned) / 128).clamp(shortest, longest) }
    }

    fn stall(&self) -> Option<Uptime> {
        self.terms.stall_timeout.map(|timeout| self.last_life + timeout)
    }

    fn on_cap(&mut self, now: Uptime, actions: &mut Vec<Action>) {
        match self.terms.on_timeout {
            OnTimeout::Fail => self.fail_at_cap("", actions),
            OnTimeout::AssumeReady if self.is_loading() => self.pass_cap(now, actions),
            // It said that it is done and then fell silent; what said "not ready" is never assumed to be ready.
            OnTimeout::AssumeReady if self.not_ready_seen => self.fail_at_cap("", actions),
            OnTimeout::AssumeReady => self.confirm(Proof::Cap, now, actions),
        }
    }

    /// Whether the server says that it loads: 503 is its latest answer, or there was a 503 or progress and no ready line since.
    fn is_loading(&self) -> bool {
        let said_so = self.load_goes_on || (self.not_ready_seen && self.ready_line.is_none());
        said_so || self.last_answer == Some(Answer::NotReady)
    }

    /// The server loads on after its time; only the stall timeout bounds it now, until it says that it is done.
    fn pass_cap(&mut self, now: Uptime, actions: &mut Vec<Action>) {
        self.cap = None;
        self.stage = Stage::Watching;
        self.next_probe = now + self.interval(now);
        if std::mem::replace(&mut self.past_cap_told, true) {
            return;
        }
        let bound = match self.terms.stall_timeout {
            Some(timeout) => format!("it fails after {:.0} s without a sign of life", timeout.as_secs_f64()),
            None => "set `readiness.stall-timeout` to bound it".to_owned(),
        };
        let detail = format!("still loading after {:.0} s; {bound}", self.terms.timeout.as_secs_f64());
        actions.push(Action::Publish(Event::ServerWarned { warning: Warning::LoadingPastCap, detail }));
    }

    fn fail_at_cap(&mut self, why: &str, actions: &mut Vec<Action>) {
        let what = format!("not ready after {:.0} s ({}{why})", self.terms.timeout.as_secs_f64(), self.last_heard());
        self.fail(Failure::new(FailureReason::ReadyTimeout, what), actions);
    }

    fn last_heard(&self) -> &'static str {
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

    fn tell_progress(&mut self, percent: Option<f64>, actions: &mut Vec<Action>) {
        // The cast saturates, and matchers only let 0 to 100 through.
        let whole = percent.map(|percent| percent as u8);
        let news = match (self.told, whole) {
            (None, _) => true,
            (Some(told), Some(whole)) => told != Some(whole),
            (Some(_), None) => false,
        };
        if news {
            self.told = Some(whole);
            let ratio = percent.map(|percent| percent / 100.0);
            actions.push(Action::Publish(Event::LoadProgressed { ratio }));
        }
    }

    fn become_ready(&mut self, via: ReadyVia, now: Uptime, actions: &mut Vec<Action>) {
        self.stage = Stage::Ready;
        let startup_seconds = now.since(self.spawned).as_secs_f64();
        actions.push(Action::Publish(Event::ReadyReached { via, startup_seconds }));
    }

    fn fail(&mut self, failure: Failure, actions: &mut Vec<Action>) {
        self.stage = Stage::Over;
        actions.push(Action::Fail(failure));
    }
}
