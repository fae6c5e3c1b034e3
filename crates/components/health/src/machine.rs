//! The health of one ready server as a plain state machine: reports of checks and the time in, events out.
//!
//! Invariants:
//!
//! * One check runs at a time.
//! * `ReadyLost` and `ReadyRegained` alternate.
//! * A server fails at most once: never while it computes, never while it answers that it is not ready, and never before it
//!   has lost its readiness.

use std::sync::Arc;
use std::time::Duration;

use llama_warden_config::HealthSpec;
use llama_warden_events::{Event, FailureReason, Uptime};

use crate::check::{CheckOutcome, CheckReport, CheckRequest, Inference};
use crate::cpu::CpuReading;

/// Checks begin at this many times of an interval, which are the same for all servers: once the daemon has to wake up for one
/// check, several cost little more.
const STEPS_PER_INTERVAL: u32 = 10;

/// How soon a server that was asked for is checked again while it answers that it is not ready.
const ASKED_AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;

/// The state of the server according to the published events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthState {
    /// It answers as ready.
    Ready,
    /// `ReadyLost`: too many checks in a row failed.
    Lost,
    /// `ServerFailed`: nothing more is checked or published.
    Failed,
}

/// The machine of one server.
#[derive(Debug)]
pub struct HealthMachine {
    spec: Arc<HealthSpec>,
    state: HealthState,
    next_check: Uptime,
    /// The check under way.
    running: Option<RunningCheck>,
    /// Consecutive checks that failed in any way.
    failures: u32,
    /// Consecutive checks with neither an answer nor processor time used.
    no_progress: u32,
    /// Whether it said at the last check that it sleeps.
    is_sleeping: bool,
    /// The last `HealthProbed`, so that only changes are published: whether it was well, the failures, and whether it slept.
    published: Option<(bool, u32, bool)>,
    /// The processor time at the last check, if that failed.
    cpu: Option<CpuReading>,
    /// The result of the last request for a token; empty before the first.
    inference: Inference,
    next_inference: Uptime,
    /// The last request for a token hung: every check requests one until one is answered, or the server fails.
    is_suspect: bool,
    /// Since when somebody waits for a check that is well.
    asked: Option<Uptime>,
}

#[derive(Debug, Clone, Copy)]
struct RunningCheck {
    began: Uptime,
    asks_for_token: bool,
}

impl HealthMachine {
    /// A machine for a server that is ready, or has lost its readiness. The first check comes after `spread` (0 to 1) of an
    /// interval, so that servers which became ready together are not all checked at once.
    pub fn new(spec: impl Into<Arc<HealthSpec>>, state: HealthState, now: Uptime, spread: f64) -> Self {
        let spec = spec.into();
        Self {
            state,
            next_check: align(now + spec.interval.mul_f64(spread.clamp(0.0, 1.0)), spec.interval).max(now),
            next_inference: now + spec.inference.unwrap_or_default(),
            spec,
            running: None,
            failures: 0,
            no_progress: 0,
            is_sleeping: false,
            published: None,
            cpu: None,
            inference: Inference::default(),
            is_suspect: false,
            asked: None,
        }
    }

    /// Somebody has seen the server answer as if it were not ready: checks it now, and once it is well, says so.
    pub fn ask(&mut self, now: Uptime) {
        self.asked = Some(now);
        self.next_check = self.next_check.min(now);
    }

    /// Changes the settings. What is due sooner under the new ones comes sooner; nothing is put off.
    pub fn change_settings(&mut self, spec: impl Into<Arc<HealthSpec>>, now: Uptime) {
        let spec = spec.into();
        self.next_check = self.next_check.min(align(now + spec.interval, spec.interval));
        let inference = now + spec.inference.unwrap_or_default();
        self.next_inference =
            if self.spec.inference.is_some() { self.next_inference.min(inference) } else { inference };
        self.spec = spec;
    }

    /// When the next check is due; `None` while one is under way, and once the server has failed.
    pub fn next_deadline(&self) -> Option<Uptime> {
        (self.running.is_none() && self.state != HealthState::Failed).then_some(self.next_check)
    }

    /// Begins the check that is due, if one is.
    pub fn begin_check(&mut self, now: Uptime) -> Option<CheckRequest> {
        if self.next_deadline().is_none_or(|due| now < due) {
            return None;
        }
        let asks_for_token = self.spec.inference.is_some() && (self.is_suspect || now >= self.next_inference);
        self.running = Some(RunningCheck { began: now, asks_for_token });
        let inference = asks_for_token.then_some(self.inference);
        Some(CheckRequest { timeout: self.spec.timeout, cpu: self.cpu, inference })
    }

    /// Ends the check under way and returns what to publish.
    pub fn finish_check(&mut self, report: CheckReport, now: Uptime) -> Vec<Event> {
        let Some(running) = self.running.take() else { return Vec::new() };
        // An interval after the last begin, not the last end: slow answers do not make the checks rarer. Checks that were
        // missed meanwhile are not made up for.
        self.next_check = align(running.began + self.spec.interval, self.spec.interval).max(now);
        let CheckReport { outcome, latency, cpu, tokens, is_sleeping } = report;
        self.is_sleeping = outcome == CheckOutcome::Well && is_sleeping.unwrap_or(self.is_sleeping);
        if running.asks_for_token && outcome != CheckOutcome::Gone {
            self.inference = Inference { cpu: cpu.or(self.inference.cpu), tokens };
            self.next_inference = now + self.spec.inference.unwrap_or_default();
        }
        // A check that had begun before says nothing about what was seen then. One that is not ready never fails the server, so that it
        // may be checked more often.
        if self.asked.is_some_and(|asked| running.began < asked) {
            self.next_check = now;
        } else if self.asked.is_some() && matches!(outcome, CheckOutcome::NotReady { .. }) {
            self.next_check = self.next_check.min(now + ASKED_AGAIN);
        } else if outcome == CheckOutcome::Well && self.asked.take().is_some() {
            self.published = None;
        }
        let mut events = Vec::new();
        match outcome {
            CheckOutcome::Gone => {}
            CheckOutcome::Well => self.on_well(latency, &mut events),
            // Not an answer, so that the probe is not ok; but no failure either.
            CheckOutcome::Busy => {
                self.no_progress = 0;
                self.cpu = cpu;
                self.publish_probe(false, latency, &mut events);
            }
            CheckOutcome::NotReady { detail } => {
                self.no_progress = 0;
                self.cpu = None;
                self.count_failure(&detail, latency, &mut events);
            }
            CheckOutcome::Silent { detail } => {
                self.cpu = cpu;
                self.on_no_progress(FailureReason::Unresponsive, &detail, latency, &mut events);
            }
            CheckOutcome::Hung { detail } => {
                self.cpu = None;
                self.is_suspect = true;
                self.on_no_progress(FailureReason::Wedged, &detail, latency, &mut events);
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

    /// Readiness is lost first, and the server fails at the next such check: by then clients have stopped sending requests,
    /// and a server that was only slow had another chance.
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
        let probe = Some((ok, self.failures, self.is_sleeping));
        if self.published != probe {
            self.published = probe;
            // Divided, not multiplied: of the two, only this gives the nearest number, which prints as 0.478.
            let microseconds = latency.as_micros() as f64;
            let (latency_seconds, latency_ms) = (microseconds / 1e6, microseconds / 1e3);
            let (failures, is_sleeping) = (self.failures, self.is_sleeping);
            events.push(Event::HealthProbed { ok, latency_seconds, latency_ms, failures, is_sleeping });
        }
    }
}

/// Rounds `at` to a step of the interval. To the nearest, not up: checks that begin a little late would drift from one step
/// to the next.
fn align(at: Uptime, interval: Duration) -> Uptime {
    let (at, step) = (at.as_duration().as_nanos(), (interval / STEPS_PER_INTERVAL).as_nanos().max(1));
    let nearest = (at + step / 2) / step * step;
    Uptime::new(u64::try_from(nearest).map_or(Duration::MAX, Duration::from_nanos))
}
