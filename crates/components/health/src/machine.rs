//! The judgement on one ready server, as a pure machine: findings go in with the time, events come out.
//!
//! Invariants: one look at a time; ready is lost and regained in turn; a server fails at most once, never while it
//! computes, never while it answers that it is not ready, and never before it has lost its readiness.

use std::sync::Arc;
use std::time::Duration;

use llama_warden_config::HealthSpec;
use llama_warden_events::{Event, FailureReason, Uptime};

use crate::cpu::CpuReading;
use crate::look::{Finding, Inference, Look, Observation};

/// Looks begin at so many moments of an interval, which are the same for all servers: a daemon that has to wake up for one look
/// does several at little more cost.
const MOMENTS: u32 = 10;

#[cfg(test)]
mod tests;

/// What the machine knows the server as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Ready,
    /// It was ready, and too many looks in a row failed.
    Lost,
    /// It has failed; nothing more is said of it.
    Failed,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Machine {
    terms: Arc<HealthSpec>,
    standing: Standing,
    next_look: Uptime,
    /// The look under way.
    looking: Option<Underway>,
    /// Looks in a row that failed in any way.
    failures: u32,
    /// Looks in a row in which nothing was answered or done, and nothing computed.
    standstills: u32,
    /// What was last published: whether it was well, and the failures.
    told: Option<(bool, u32)>,
    /// The processor time at the last look, if that failed.
    cpu: Option<Box<CpuReading>>,
    /// What the last question for a token brought, where one was asked.
    inference: Option<Box<Inference>>,
    next_inference: Uptime,
    /// A request hung at the last one: every look asks for a token until that is settled.
    is_suspect: bool,
}

#[derive(Debug, Clone, Copy)]
struct Underway {
    began: Uptime,
    asks_for_token: bool,
}

impl Machine {
    /// A machine for a server that is ready, or has lost it. Its first look comes after `spread` (0 to 1) of an interval, so
    /// that servers that became ready together are not looked at together.
    pub(crate) fn new(terms: impl Into<Arc<HealthSpec>>, standing: Standing, now: Uptime, spread: f64) -> Self {
        let terms = terms.into();
        Self {
            standing,
            next_look: moment(now + terms.interval.mul_f64(spread.clamp(0.0, 1.0)), terms.interval).max(now),
            next_inference: now + terms.inference.unwrap_or_default(),
            terms,
            looking: None,
            failures: 0,
            standstills: 0,
            told: None,
            cpu: None,
            inference: None,
            is_suspect: false,
        }
    }

    /// Takes up other terms. What is due sooner under them comes sooner.
    pub(crate) fn change_terms(&mut self, terms: impl Into<Arc<HealthSpec>>, now: Uptime) {
        let terms = terms.into();
        self.next_look = self.next_look.min(moment(now + terms.interval, terms.interval));
        let inference = now + terms.inference.unwrap_or_default();
        self.next_inference =
            if self.terms.inference.is_some() { self.next_inference.min(inference) } else { inference };
        self.terms = terms;
    }

    /// When a look is due; none while one is under way or when there is nothing left to see.
    pub(crate) fn next_deadline(&self) -> Option<Uptime> {
        (self.looking.is_none() && self.standing != Standing::Failed).then_some(self.next_look)
    }

    /// Begins the look that is due, if one is.
    pub(crate) fn begin_look(&mut self, now: Uptime) -> Option<Look> {
        if self.next_deadline().is_none_or(|due| now < due) {
            return None;
        }
        let asks_for_token = self.terms.inference.is_some() && (self.is_suspect || now >= self.next_inference);
        self.looking = Some(Underway { began: now, asks_for_token });
        let inference = asks_for_token.then(|| self.inference.as_deref().copied().unwrap_or_default());
        Some(Look { timeout: self.terms.timeout, cpu: self.cpu.as_deref().copied(), inference })
    }

    /// Takes in what the look brought.
    pub(crate) fn finish_look(&mut self, observation: Observation, now: Uptime) -> Vec<Event> {
        let Some(underway) = self.looking.take() else { return Vec::new() };
        self.next_look = moment(underway.began + self.terms.interval, self.terms.interval).max(now);
        if underway.asks_for_token && !matches!(observation.finding, Finding::Gone) {
            let cpu = observation.cpu.or(self.inference.as_ref().and_then(|before| before.cpu));
            self.inference = Some(Box::new(Inference { cpu, tokens: observation.tokens }));
            self.next_inference = now + self.terms.inference.unwrap_or_default();
        }
        let mut events = Vec::new();
        match observation.finding {
            Finding::Gone => {}
            Finding::Well => self.be_well(observation.latency, &mut events),
            Finding::Busy => {
                self.standstills = 0;
                self.cpu = observation.cpu.map(Box::new);
                self.tell(false, observation.latency, &mut events);
            }
            Finding::NotReady { detail } => {
                self.standstills = 0;
                self.cpu = None;
                self.count_failure(&detail, observation.latency, &mut events);
            }
            Finding::Silent { detail } => {
                self.cpu = observation.cpu.map(Box::new);
                self.stand_still(FailureReason::Unresponsive, &detail, observation.latency, &mut events);
            }
            Finding::Hung { detail } => {
                self.cpu = None;
                self.is_suspect = true;
                self.stand_still(FailureReason::Wedged, &detail, observation.latency, &mut events);
            }
        }
        events
    }

    fn be_well(&mut self, latency: Duration, events: &mut Vec<Event>) {
        self.failures = 0;
        self.standstills = 0;
        self.cpu = None;
        self.is_suspect = false;
        self.tell(true, latency, events);
        if self.standing == Standing::Lost {
            self.standing = Standing::Ready;
            events.push(Event::ReadyRegained);
        }
    }

    /// Readiness goes first and the server one look later, so that nobody sends it requests any more when it is ended, and a
    /// server that was only slow can still come back.
    fn stand_still(&mut self, reason: FailureReason, detail: &str, latency: Duration, events: &mut Vec<Event>) {
        let was_lost = self.standing == Standing::Lost;
        self.standstills = self.standstills.saturating_add(1);
        self.count_failure(detail, latency, events);
        if was_lost && self.standstills > self.terms.failures {
            self.standing = Standing::Failed;
            let detail = format!("{} looks in a row: {detail}", self.standstills);
            events.push(Event::ServerFailed { reason, detail, lines: Vec::new() });
        }
    }

    fn count_failure(&mut self, detail: &str, latency: Duration, events: &mut Vec<Event>) {
        self.failures = self.failures.saturating_add(1);
        self.tell(false, latency, events);
        if self.standing == Standing::Ready && self.failures >= self.terms.failures {
            self.standing = Standing::Lost;
            let detail = format!("{} looks in a row: {detail}", self.failures);
            events.push(Event::ReadyLost { detail });
        }
    }

    fn tell(&mut self, ok: bool, latency: Duration, events: &mut Vec<Event>) {
        let news = Some((ok, self.failures));
        if self.told != news {
            self.told = news;
            let latency_ms = latency.as_secs_f64() * 1e3;
            events.push(Event::HealthProbed { ok, latency_ms, failures: self.failures });
        }
    }
}

/// The moment next to `at`; the nearest, so that looks that begin a little late do not drift from one to the next.
fn moment(at: Uptime, interval: Duration) -> Uptime {
    let (at, step) = (at.as_duration().as_nanos(), (interval / MOMENTS).as_nanos().max(1));
    let nearest = (at + step / 2) / step * step;
    Uptime::new(u64::try_from(nearest).map_or(Duration::MAX, Duration::from_nanos))
}
