//! One stop as a plain state machine.
//!
//! Invariants: each signal of the ladder is sent at most once and in order; KILL is sent at the latest when the grace is
//! over and never before unless it was asked for; after KILL nothing else is sent.

use std::time::Duration;

use llama_warden_config::StopSpec;
use llama_warden_events::{Elapsed, Event, FailureReason, Rung, Signal, StopReason};

/// How long a killed process may take to be gone before it is reported as unkillable. KILL of a llama-server with a
/// 1.6 GB model takes 50 ms (measured).
pub const KILL_VERIFICATION: Duration = Duration::from_secs(2);

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Publish this about the stopped launch.
    Publish(Event),
    /// Have this signal delivered.
    Deliver(Rung),
}

/// A stop of one launch.
#[derive(Debug, Clone, PartialEq)]
pub struct Stop {
    reason: StopReason,
    began: Elapsed,
    ladder: Vec<Signal>,
    /// The next step; the one after the ladder is KILL, and beyond that there is none.
    next: usize,
    /// When each step of the ladder is due, and KILL last.
    due: Vec<Elapsed>,
    verify_by: Option<Elapsed>,
    reported_unkillable: bool,
}

impl Stop {
    /// Begins a stop; the first signal is due at once.
    pub fn begin(spec: &StopSpec, reason: StopReason, grace: Option<Duration>, now: Elapsed) -> (Self, Vec<Action>) {
        let grace = grace.unwrap_or(spec.grace);
        let ladder = if grace.is_zero() { Vec::new() } else { spec.ladder.clone() };
        let mut stop = Self {
            reason,
            began: now,
            due: Self::schedule(&ladder, now, grace),
            ladder,
            next: 0,
            verify_by: None,
            reported_unkillable: false,
        };
        let mut actions = vec![Action::Publish(Event::StopBegan { reason, grace_seconds: grace.as_secs_f64() })];
        stop.climb(now, &mut actions);
        (stop, actions)
    }

    /// A repeated request joins: it can bring KILL forward, never put it off.
    pub fn join(&mut self, grace: Option<Duration>, now: Elapsed) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Some(grace) = grace {
            let kill = Elapsed::new(now.as_duration().saturating_add(grace));
            for due in &mut self.due {
                *due = (*due).min(kill);
            }
            if grace.is_zero() {
                self.next = self.next.max(self.ladder.len());
            }
            self.climb(now, &mut actions);
        }
        actions
    }

    /// What is due at `now`.
    pub fn on_deadline(&mut self, now: Elapsed) -> Vec<Action> {
        let mut actions = Vec::new();
        self.climb(now, &mut actions);
        if self.verify_by.is_some_and(|verify_by| verify_by <= now) && !self.reported_unkillable {
            self.reported_unkillable = true;
            actions.push(Action::Publish(Event::ServerFailed {
                reason: FailureReason::Unkillable,
                detail: format!(
                    "still there {} s after KILL: the kernel holds it, often in a driver; its slot stays taken until it is gone",
                    KILL_VERIFICATION.as_secs()
                ),
                lines: Vec::new(),
            }));
        }
        actions
    }

    /// When [`Self::on_deadline`] has something to do.
    pub fn next_deadline(&self) -> Option<Elapsed> {
        match self.due.get(self.next) {
            Some(due) => Some(*due),
            None => self.verify_by.filter(|_| !self.reported_unkillable),
        }
    }

    /// The process is gone: the last fact of the stop.
    pub fn finish(&self, now: Elapsed) -> Event {
        Event::ServerStopped {
            reason: self.reason,
            forced: self.is_forced(),
            stop_seconds: now.since(self.began).as_secs_f64(),
        }
    }

    /// Whether KILL was sent.
    pub const fn is_forced(&self) -> bool {
        self.next > self.ladder.len()
    }

    fn schedule(ladder: &[Signal], now: Elapsed, grace: Duration) -> Vec<Elapsed> {
        let rungs = u32::try_from(ladder.len().max(1)).unwrap_or(u32::MAX);
        let share = grace / rungs;
        let at = |rung: usize| {
            let wait = share.saturating_mul(u32::try_from(rung).unwrap_or(u32::MAX));
            Elapsed::new(now.as_duration().saturating_add(wait))
        };
        let mut due: Vec<_> = (0..ladder.len()).map(at).collect();
        due.push(Elapsed::new(now.as_duration().saturating_add(grace)));
        due
    }

    /// Climbs to the highest step that is due. Steps that were overslept (the daemon was stopped, the machine slept) are
    /// skipped rather than sent in one burst.
    fn climb(&mut self, now: Elapsed, actions: &mut Vec<Action>) {
        let due = self.due.iter().enumerate().skip(self.next).take_while(|(_, due)| **due <= now).last();
        let Some((index, _)) = due else { return };
        let signal = self.ladder.get(index).copied().unwrap_or(Signal::KILL);
        let rung = Rung { index: u8::try_from(index).unwrap_or(u8::MAX), signal };
        if self.next > 0 || index > 0 {
            actions.push(Action::Publish(Event::StopEscalated { rung }));
        }
        self.next = index + 1;
        if signal == Signal::KILL {
            self.verify_by = Some(Elapsed::new(now.as_duration().saturating_add(KILL_VERIFICATION)));
        }
        actions.push(Action::Deliver(rung));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec(grace: u64, ladder: &[Signal]) -> StopSpec {
        StopSpec { grace: Duration::from_secs(grace), ladder: ladder.to_vec() }
    }

    fn at(seconds: f64) -> Elapsed {
        Elapsed::new(Duration::from_secs_f64(seconds))
    }

    fn delivered(actions: &[Action]) -> Vec<Signal> {
        let signal = |action: &Action| match action {
            Action::Deliver(rung) => Some(rung.signal),
            Action::Publish(_) => None,
        };
        actions.iter().filter_map(signal).collect()
    }

    #[test]
    fn a_stop_sends_term_at_once_and_kill_at_the_grace() {
        let (mut stop, actions) = Stop::begin(&spec(10, &[Signal::TERM]), StopReason::Requested, None, at(5.0));
        assert_eq!(delivered(&actions), [Signal::TERM]);
        assert_eq!(stop.next_deadline(), Some(at(15.0)));
        assert_eq!(stop.on_deadline(at(14.9)), []);
        assert_eq!(delivered(&stop.on_deadline(at(15.0))), [Signal::KILL]);
        assert!(stop.is_forced());
    }

    #[test]
    fn each_signal_of_the_ladder_gets_its_share_of_the_grace() {
        let ladder = [Signal::INT, Signal::TERM];
        let (mut stop, actions) = Stop::begin(&spec(10, &ladder), StopReason::Requested, None, at(0.0));
        assert_eq!(delivered(&actions), [Signal::INT]);
        assert_eq!(delivered(&stop.on_deadline(at(5.0))), [Signal::TERM]);
        assert_eq!(delivered(&stop.on_deadline(at(10.0))), [Signal::KILL]);
    }

    #[test]
    fn a_zero_grace_kills_at_once() {
        let (stop, actions) =
            Stop::begin(&spec(10, &[Signal::TERM]), StopReason::Failed, Some(Duration::ZERO), at(0.0));
        assert_eq!(delivered(&actions), [Signal::KILL]);
        assert!(matches!(stop.finish(at(0.1)), Event::ServerStopped { forced: true, .. }));
    }

    #[test]
    fn a_repeated_stop_sends_no_second_term_and_a_forced_one_kills() {
        let (mut stop, _) = Stop::begin(&spec(10, &[Signal::TERM]), StopReason::Requested, None, at(0.0));
        assert_eq!(stop.join(None, at(1.0)), []);
        assert_eq!(stop.join(Some(Duration::from_secs(60)), at(1.0)), []);
        assert_eq!(stop.next_deadline(), Some(at(10.0)), "a longer grace does not put KILL off");
        assert_eq!(stop.join(Some(Duration::from_secs(2)), at(1.0)), []);
        assert_eq!(stop.next_deadline(), Some(at(3.0)), "a shorter one brings it forward");
        assert_eq!(delivered(&stop.join(Some(Duration::ZERO), at(2.0))), [Signal::KILL]);
        assert_eq!(stop.join(Some(Duration::ZERO), at(2.1)), [], "KILL is sent once");
    }

    /// C36.
    #[test]
    fn what_outlives_kill_is_reported_once() {
        let (mut stop, _) = Stop::begin(&spec(1, &[]), StopReason::Requested, Some(Duration::ZERO), at(0.0));
        let reports = |actions: Vec<Action>| {
            actions.iter().filter(|action| matches!(action, Action::Publish(Event::ServerFailed { .. }))).count()
        };
        assert_eq!(reports(stop.on_deadline(at(1.9))), 0);
        assert_eq!(reports(stop.on_deadline(at(2.0))), 1);
        assert_eq!(reports(stop.on_deadline(at(9.0))), 0);
        assert_eq!(stop.next_deadline(), None);
    }

    #[test]
    fn an_overslept_ladder_is_not_sent_in_one_burst() {
        let ladder = [Signal::INT, Signal::TERM];
        let (mut stop, _) = Stop::begin(&spec(10, &ladder), StopReason::Requested, None, at(0.0));
        assert_eq!(delivered(&stop.on_deadline(at(3600.0))), [Signal::KILL]);
    }

    proptest! {
        #[test]
        fn no_signal_is_ever_sent_twice_and_kill_comes_by_the_grace(
            grace in 0_u64..20,
            steps in prop::collection::vec((0.0_f64..3.0, prop::option::of(0_u64..8)), 1..30),
        ) {
            let ladder = [Signal::INT, Signal::TERM];
            let (mut stop, actions) = Stop::begin(&spec(grace, &ladder), StopReason::Requested, None, at(0.0));
            let mut sent = delivered(&actions);
            let mut now = 0.0;
            for (wait, join) in steps {
                now += wait;
                let actions = match join {
                    Some(grace) => stop.join(Some(Duration::from_secs(grace)), at(now)),
                    None => stop.on_deadline(at(now)),
                };
                sent.extend(delivered(&actions));
            }
            sent.extend(delivered(&stop.on_deadline(at(now.max(grace as f64)))));
            let mut unique = sent.clone();
            unique.dedup();
            prop_assert_eq!(&unique, &sent);
            prop_assert_eq!(sent.last(), Some(&Signal::KILL));
            prop_assert_eq!(sent.iter().filter(|signal| **signal == Signal::KILL).count(), 1);
        }
    }
}
