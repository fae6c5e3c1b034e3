//! The judgement on one ready server, as a pure machine: findings go in with the time, events come out.
//!
//! Invariants: one look at a time; ready is lost and regained in turn; a server fails at most once, never while it
//! computes, never while it answers that it is not ready, and never before it has lost its readiness.

use std::time::Duration;

use llama_warden_config::{HealthSpec, Shared};
use llama_warden_events::{Event, FailureReason, Uptime};

use crate::check::{CheckOutcome, CheckReport, CheckRequest, Inference};
use crate::cpu::CpuReading;

/// Looks begin at so many moments of an interval, which are the same for all servers: a daemon that has to wake up for one look
/// does several at little more cost.
const STEPS_PER_INTERVAL: u32 = 10;

#[cfg(test)]
mod tests;

/// What the machine knows the server as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HealthState {
    Ready,
    /// It was ready, and too many looks in a row failed.
    Lost,
    /// It has failed; nothing more is said of it.
    Failed,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct HealthMachine {
    spec: Shared<HealthSpec>,
    state: HealthState,
    next_check: Uptime,
    /// The look under way.
    running: Option<RunningCheck>,
    /// Looks in a row that failed in any way.
    failures: u32,
    /// Looks in a row in which nothing was answered or done, and nothing computed.
    no_progress: u32,
    /// What was last published: whether it was well, and the failures.
    published: Option<(bool, u32)>,
    /// The processor time at the last look, if that failed.
    cpu: Option<Box<CpuReading>>,
    /// What the last question for a token brought, where one was asked.
    inference: Option<Box<Inference>>,
    next_inference: Uptime,
    /// A request hung at the last one: every look asks for a token until that is settled.
    is_suspect: bool,
}

#[derive(Debug, Clone, Copy)]
struct RunningCheck {
    began: Uptime,
    asks_for_token: bool,
}

impl HealthMachine {
    /// A machine for a server that is ready, or has lost it. Its first look comes after `spread` (0 to 1) of an interval, so
    /// that servers that became ready together are not looked at together.
    pub(crate) fn new(spec: impl Into<Shared<HealthSpec>>, state: HealthState, now: Uptime, spread: f64) -> Self {
        let spec = spec.into();
        Self {
            state,
            next_check: align(later(now, spec.interval.mul_f64(spread.clamp(0.0, 1.0))), spec.interval).max(now),
            next_inference: later(now, spec.inference.unwrap_or_default()),
            spec,
            running: None,
            failures: 0,
            no_progress: 0,
            published: None,
            cpu: None,
            inference: None,
            is_suspect: false,
        }
    }

    /// Takes up other terms. What is due sooner under them comes sooner.
    pub(crate) fn change_terms(&mut self, spec: impl Into<Shared<HealthSpec>>, now: Uptime) {
        let spec = spec.into();
        self.next_check = self.next_check.min(align(later(now, spec.interval), spec.interval));
        let inference = later(now, spec.inference.unwrap_or_default());
        self.next_inference =
            if self.spec.inference.is_some() { self.next_inference.min(inference) } else { inference };
        self.spec = spec;
    }

    /// When a look is due; none while one is under way or when there is nothing left to see.
    pub(crate) fn next_deadline(&self) -> Option<Uptime> {
        (self.running.is_none() && self.state != HealthState::Failed).then_some(self.next_check)
    }

    /// Begins the look that is due, if one is.
    pub(crate) fn begin_look(&mut self, now: Uptime) -> Option<CheckRequest> {
        if self.next_deadline().is_none_or(|due| now < due) {
            return None;
        }
        let asks_for_token = self.spec.inference.is_some() && (self.is_suspect || now >= self.next_inference);
        self.running = Some(RunningCheck { began: now, asks_for_token });
        let inference = asks_for_token.then(|| self.inference.as_deref().copied().unwrap_or_default());
        Some(CheckRequest { timeout: self.spec.timeout, cpu: self.cpu.as_deref().copied(), inference })
    }

    /// Takes in what the look brought.
    pub(crate) fn finish_look(&mut self, observation: CheckReport, now: Uptime) -> Vec<Event> {
        let Some(running) = self.running.take() else { return Vec::new() };
        self.next_check = align(later(running.began, self.spec.interval), self.spec.interval).max(now);
        if running.asks_for_token && !matches!(observation.outcome, CheckOutcome::Gone) {
            let cpu = observation.cpu.or(self.inference.as_ref().and_then(|before| before.cpu));
            self.inference = Some(Box::new(Inference { cpu, tokens: observation.tokens }));
            self.next_inference = later(now, self.spec.inference.unwrap_or_default());
        }
        let mut events = Vec::new();
        match observation.outcome {
            CheckOutcome::Gone => {}
            CheckOutcome::Well => self.on_well(observation.latency, &mut events),
            CheckOutcome::Busy => {
                self.no_progress = 0;
                self.cpu = observation.cpu.map(Box::new);
                self.publish_probe(false, observation.latency, &mut events);
            }
            CheckOutcome::NotReady { detail } => {
                self.no_progress = 0;
                self.cpu = None;
                self.count_failure(&detail, observation.latency, &mut events);
            }
            CheckOutcome::Silent { detail } => {
                self.cpu = observation.cpu.map(Box::new);
                self.on_no_progress(FailureReason::Unresponsive, &detail, observation.latency, &mut events);
            }
            CheckOutcome::Hung { detail } => {
                self.cpu = None;
                self.is_suspect = true;
                self.on_no_progress(FailureReason::Wedged, &detail, observation.latency, &mut events);
            }
        }
        events
    }

    fn on_well(&mut self, latency: Duration, events: &mut Vec<Event>) {
        self.failures = 0;
        self.no_progress = 0;
        self.cpu = None;
        self.is_suspect = false;
        self.publish_probe(true, latency, events);
        if self.state == HealthState::Lost {
            self.state = HealthState::Ready;
            events.push(Event::ReadyRegained);
        }
    }

    /// Readiness goes first and the server one look later, so that nobody sends it requests any more when it is ended, and a
    /// server that was only slow can still come back.
    fn on_no_progress(&mut self, reason: FailureReason, detail: &str, latency: Duration, events: &mut Vec<Event>) {
        let was_lost = self.state == HealthState::Lost;
        self.no_progress = self.no_progress.saturating_add(1);
        self.count_failure(detail, latency, events);
        if was_lost && self.no_progress > self.spec.failures {
            self.state = HealthState::Failed;
            let detail = format!("{} looks in a row: {detail}", self.no_progress);
            events.push(Event::ServerFailed { reason, detail, lines: Vec::new() });
        }
    }

    fn count_failure(&mut self, detail: &str, latency: Duration, events: &mut Vec<Event>) {
        self.failures = self.failures.saturating_add(1);
        self.publish_probe(false, latency, events);
        if self.state == HealthState::Ready && self.failures >= self.spec.failures {
            self.state = HealthState::Lost;
            let detail = format!("{} looks in a row: {detail}", self.failures);
            events.push(Event::ReadyLost { detail });
        }
    }

    fn publish_probe(&mut self, ok: bool, latency: Duration, events: &mut Vec<Event>) {
        let news = Some((ok, self.failures));
        if self.published != news {
            self.published = news;
            let latency_ms = latency.as_secs_f64() * 1e3;
            events.push(Event::HealthProbed { ok, latency_ms, failures: self.failures });
        }
    }
}

const fn later(at: Uptime, by: Duration) -> Uptime {
    Uptime::new(at.as_duration().saturating_add(by))
}

/// The align next to `at`; the nearest, so that looks that begin a little late do not drift from one to the next.
fn align(at: Uptime, interval: Duration) -> Uptime {
    let (at, step) = (at.as_duration().as_nanos(), (interval / STEPS_PER_INTERVAL).as_nanos().max(1));
    let nearest = (at + step / 2) / step * step;
    Uptime::new(u64::try_from(nearest).map_or(Duration::MAX, Duration::from_nanos))
}
