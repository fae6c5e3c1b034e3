//! One stop as a plain state machine.
//!
//! Invariants:
//!
//! * Each signal of the ladder is sent at most once and in order: a second TERM or INT makes a llama-server deadlock or abort.
//! * KILL is sent once, when the grace is over or when a request asks for it, and never earlier or later. No signal follows.
//! * The `pre-stop` command is requested at most once, before every signal, and never delays KILL.
//!
//! For example, a grace of 12 s and the ladder INT, TERM: without a command, INT is due at 0 s, TERM at 6 s and KILL at 12 s.
//! A command gets 4 s; if it ends at 2 s, INT is due at 2 s, TERM at 7 s and KILL at 12 s.

use std::time::Duration;

use llama_warden_events::{Event, FailureReason, Rung, Signal, StopReason, Uptime};

/// Time from KILL until a process that is still there is reported as unkillable. KILL of a llama-server with a 1.6 GB model
/// takes 50 ms (measured).
pub const KILL_VERIFICATION: Duration = Duration::from_secs(2);

/// How to stop a launch.
#[derive(Debug, Clone, PartialEq)]
pub struct StopPlan {
    /// The reason that the events of the stop carry.
    pub reason: StopReason,
    /// Time from the beginning of the stop to KILL; zero kills at once.
    pub grace: Duration,
    /// Signals before KILL, in their order.
    pub ladder: Vec<Signal>,
    /// Longest time for the `pre-stop` command; `None` if the server has none or was never ready.
    pub pre_stop: Option<Duration>,
}

/// One step that the machine wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum StopAction {
    /// Publish an event about the launch.
    Publish(Event),
    /// Ask the hooks component to run the `pre-stop` command. Its end goes to [`StopMachine::on_pre_stop_over`].
    RunPreStop {
        /// The reason of the stop, which the command gets.
        reason: StopReason,
        /// Longest time for the command.
        limit: Duration,
    },
    /// Ask the launcher to deliver a signal.
    Deliver(Rung),
}

/// A stop of one launch.
#[derive(Debug, Clone, PartialEq)]
pub struct StopMachine {
    reason: StopReason,
    began: Uptime,
    ladder: Vec<Signal>,
    /// Index of the next step: below `ladder.len()` a signal, at it KILL, and above it none.
    next: usize,
    /// When each signal of the ladder is due, and last KILL.
    due: Vec<Uptime>,
    /// Whether a request has brought KILL forward.
    is_shortened: bool,
    /// Whether the `pre-stop` command runs, and the first signal waits for it.
    awaits_pre_stop: bool,
    /// When a process that is still there after KILL is reported.
    verify_by: Option<Uptime>,
    reported_unkillable: bool,
}

impl StopMachine {
    /// Begins a stop. The first signal is due at once, or once the `pre-stop` command has ended or timed out.
    pub fn begin(plan: StopPlan, now: Uptime) -> (Self, Vec<StopAction>) {
        let pre_stop = plan.time_for_pre_stop();
        let StopPlan { reason, grace, ladder, .. } = plan;
        let ladder = if grace.is_zero() { Vec::new() } else { ladder };
        let first = now + pre_stop.unwrap_or_default();
        let mut stop = Self {
            reason,
            began: now,
            due: schedule(ladder.len(), first, now + grace),
            ladder,
            next: 0,
            is_shortened: false,
            awaits_pre_stop: pre_stop.is_some(),
            verify_by: None,
            reported_unkillable: false,
        };
        let mut actions = vec![StopAction::Publish(Event::StopBegan { reason, grace_seconds: grace.as_secs_f64() })];
        actions.extend(pre_stop.map(|limit| StopAction::RunPreStop { reason, limit }));
        stop.climb(now, &mut actions);
        (stop, actions)
    }

    /// Sends the first signal: the `pre-stop` command has ended, with success or without, or cannot be run.
    pub fn on_pre_stop_over(&mut self, now: Uptime) -> Vec<StopAction> {
        let mut actions = Vec::new();
        // The end of the command may arrive after its time was over: then the ladder is already climbed.
        if self.awaits_pre_stop {
            // The signals share the time that the command left; KILL stays where it is.
            self.due = schedule(self.ladder.len(), now, self.kill_at().unwrap_or(now));
            self.climb(now, &mut actions);
        }
        actions
    }

    /// Joins a repeated request to this stop. A shorter grace, counted from `now`, brings KILL forward; a longer one changes
    /// nothing.
    pub fn join(&mut self, grace: Option<Duration>, now: Uptime) -> Vec<StopAction> {
        let mut actions = Vec::new();
        if let Some(grace) = grace {
            let kill = now + grace;
            self.is_shortened |= self.kill_at().is_some_and(|due| kill < due);
            // While the command runs, it gets its share of the shorter grace too: cutting off each step at `kill` would
            // leave it all of the time, and the signals none.
            if self.awaits_pre_stop && self.kill_at().is_some_and(|due| kill < due) {
                let first = now + share(grace, self.ladder.len() + 1);
                let first = self.due.first().map_or(first, |due| first.min(*due));
                self.due = schedule(self.ladder.len(), first, kill);
            }
            for due in &mut self.due {
                *due = (*due).min(kill);
            }
            self.climb(now, &mut actions);
        }
        actions
    }

    /// Sends what is due at `now`, and reports a process that outlived KILL.
    pub fn on_deadline(&mut self, now: Uptime) -> Vec<StopAction> {
        let mut actions = Vec::new();
        self.climb(now, &mut actions);
        if self.verify_by.is_some_and(|verify_by| verify_by <= now) && !self.reported_unkillable {
            self.reported_unkillable = true;
            actions.push(StopAction::Publish(Event::ServerFailed {
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

    /// When [`Self::on_deadline`] has something to do; `None` is never.
    pub fn next_deadline(&self) -> Option<Uptime> {
        match self.due.get(self.next) {
            Some(due) => Some(*due),
            None => self.verify_by.filter(|_| !self.reported_unkillable),
        }
    }

    /// The last event of the stop, for a process that is gone.
    pub fn finish(&self, now: Uptime) -> Event {
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

    fn kill_at(&self) -> Option<Uptime> {
        self.due.last().copied()
    }

    /// Sends the highest step that is due. Steps that were missed (the daemon was stopped, the machine slept) are skipped: a
    /// burst of signals would leave the process no time to obey the first.
    fn climb(&mut self, now: Uptime, actions: &mut Vec<StopAction>) {
        let due = self.due.iter().enumerate().skip(self.next).take_while(|(_, due)| **due <= now).last();
        let Some((index, _)) = due else { return };
        let signal = self.ladder.get(index).copied().unwrap_or(Signal::KILL);
        let rung = Rung { index: u8::try_from(index).unwrap_or(u8::MAX), signal };
        // The first signal is part of `StopBegan`; only a further one, or KILL instead of it, is an escalation.
        if self.next > 0 || index > 0 {
            actions.push(StopAction::Publish(Event::StopEscalated { rung, early: self.is_shortened }));
        }
        self.next = index + 1;
        self.awaits_pre_stop = false;
        if signal == Signal::KILL {
            self.verify_by = Some(now + KILL_VERIFICATION);
        }
        actions.push(StopAction::Deliver(rung));
    }
}

impl StopPlan {
    /// Time for the `pre-stop` command: the share of one more rung, so that each signal keeps its own and KILL is not
    /// delayed. `None` for a server that has failed, since a command could not make it drain, and for a grace of zero.
    fn time_for_pre_stop(&self) -> Option<Duration> {
        let limit = self.pre_stop.filter(|_| self.reason != StopReason::Failed)?;
        Some(limit.min(share(self.grace, self.ladder.len() + 1))).filter(|limit| !limit.is_zero())
    }
}

/// When each of `rungs` signals is due, in equal shares of the time from `first` to `kill`, and last KILL.
fn schedule(rungs: usize, first: Uptime, kill: Uptime) -> Vec<Uptime> {
    let share = share(kill.since(first), rungs);
    let at = |rung: usize| first + share.saturating_mul(u32::try_from(rung).unwrap_or(u32::MAX));
    (0..rungs).map(at).chain([kill]).collect()
}

fn share(time: Duration, shares: usize) -> Duration {
    time / u32::try_from(shares.max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plan(grace: u64, ladder: &[Signal]) -> StopPlan {
        let (reason, grace) = (StopReason::Requested, Duration::from_secs(grace));
        StopPlan { reason, grace, ladder: ladder.to_vec(), pre_stop: None }
    }

    /// `plan` with a command that may take `limit` seconds.
    fn draining(limit: u64, plan: StopPlan) -> StopPlan {
        StopPlan { pre_stop: Some(Duration::from_secs(limit)), ..plan }
    }

    fn at(seconds: f64) -> Uptime {
        Uptime::new(Duration::from_secs_f64(seconds))
    }

    fn delivered(actions: &[StopAction]) -> Vec<Signal> {
        let signal = |action: &StopAction| match action {
            StopAction::Deliver(rung) => Some(rung.signal),
            StopAction::Publish(_) | StopAction::RunPreStop { .. } => None,
        };
        actions.iter().filter_map(signal).collect()
    }

    #[test]
    fn a_stop_sends_term_at_once_and_kill_at_the_grace() {
        let (mut stop, actions) = StopMachine::begin(plan(10, &[Signal::TERM]), at(5.0));
        assert_eq!(delivered(&actions), [Signal::TERM]);
        assert_eq!(stop.next_deadline(), Some(at(15.0)));
        assert_eq!(stop.on_deadline(at(14.9)), []);
        assert_eq!(delivered(&stop.on_deadline(at(15.0))), [Signal::KILL]);
        assert!(stop.is_forced());
    }

    #[test]
    fn each_signal_of_the_ladder_gets_its_share_of_the_grace() {
        let ladder = [Signal::INT, Signal::TERM];
        let (mut stop, actions) = StopMachine::begin(plan(10, &ladder), at(0.0));
        assert_eq!(delivered(&actions), [Signal::INT]);
        assert_eq!(delivered(&stop.on_deadline(at(5.0))), [Signal::TERM]);
        assert_eq!(delivered(&stop.on_deadline(at(10.0))), [Signal::KILL]);
    }

    #[test]
    fn a_zero_grace_kills_at_once() {
        let (stop, actions) = StopMachine::begin(plan(0, &[Signal::TERM]), at(0.0));
        assert_eq!(delivered(&actions), [Signal::KILL]);
        assert!(matches!(stop.finish(at(0.1)), Event::ServerStopped { forced: true, .. }));
    }

    #[test]
    fn a_repeated_stop_sends_no_second_term_and_a_forced_one_kills() {
        let (mut stop, _) = StopMachine::begin(plan(10, &[Signal::TERM]), at(0.0));
        assert_eq!(stop.join(None, at(1.0)), []);
        assert_eq!(stop.join(Some(Duration::from_secs(60)), at(1.0)), []);
        assert_eq!(stop.next_deadline(), Some(at(10.0)), "a longer grace does not put KILL off");
        assert_eq!(stop.join(Some(Duration::from_secs(2)), at(1.0)), []);
        assert_eq!(stop.next_deadline(), Some(at(3.0)), "a shorter one brings it forward");
        assert_eq!(delivered(&stop.join(Some(Duration::ZERO), at(2.0))), [Signal::KILL]);
        assert_eq!(stop.join(Some(Duration::ZERO), at(2.1)), [], "KILL is sent once");
    }

    #[test]
    fn an_escalation_says_whether_a_request_brought_it_forward() {
        let early = |actions: &[StopAction]| {
            actions.iter().find_map(|action| match action {
                StopAction::Publish(Event::StopEscalated { early, .. }) => Some(*early),
                _ => None,
            })
        };
        let (mut stop, _) = StopMachine::begin(plan(10, &[Signal::TERM]), at(0.0));
        assert_eq!(early(&stop.on_deadline(at(10.0))), Some(false));
        let (mut stop, _) = StopMachine::begin(plan(10, &[Signal::TERM]), at(0.0));
        stop.join(Some(Duration::from_secs(60)), at(0.5));
        assert_eq!(early(&stop.join(Some(Duration::ZERO), at(1.0))), Some(true));
    }

    /// Fault C36.
    #[test]
    fn what_outlives_kill_is_reported_once() {
        let (mut stop, _) = StopMachine::begin(plan(0, &[]), at(0.0));
        let reports = |actions: Vec<StopAction>| {
            actions.iter().filter(|action| matches!(action, StopAction::Publish(Event::ServerFailed { .. }))).count()
        };
        assert_eq!(reports(stop.on_deadline(at(1.9))), 0);
        assert_eq!(reports(stop.on_deadline(at(2.0))), 1);
        assert_eq!(reports(stop.on_deadline(at(9.0))), 0);
        assert_eq!(stop.next_deadline(), None);
    }

    /// Fault S11.
    #[test]
    fn an_overslept_ladder_is_not_sent_in_one_burst() {
        let ladder = [Signal::INT, Signal::TERM];
        let (mut stop, _) = StopMachine::begin(plan(10, &ladder), at(0.0));
        assert_eq!(delivered(&stop.on_deadline(at(3600.0))), [Signal::KILL]);
    }

    fn asked_to_run(actions: &[StopAction]) -> Option<Duration> {
        actions.iter().find_map(|action| match action {
            StopAction::RunPreStop { limit, .. } => Some(*limit),
            _ => None,
        })
    }

    #[test]
    fn the_command_gets_a_share_of_the_grace_and_the_signals_what_it_leaves() {
        let seconds = Duration::from_secs_f64;
        let (int, both) = ([Signal::INT], [Signal::INT, Signal::TERM]);
        let plan = |limit, grace, ladder: &[Signal]| draining(limit, plan(grace, ladder));
        // The time that the command gets; when it ends; when the signals are sent.
        let cases: [(StopPlan, f64, f64, &[f64]); 6] = [
            (plan(30, 10, &int), 5.0, 5.0, &[5.0, 10.0]),
            (plan(30, 10, &int), 5.0, 1.0, &[1.0, 10.0]),
            (plan(2, 10, &int), 2.0, 2.0, &[2.0, 10.0]),
            (plan(30, 12, &both), 4.0, 4.0, &[4.0, 8.0, 12.0]),
            (plan(30, 12, &both), 4.0, 2.0, &[2.0, 7.0, 12.0]),
            (plan(30, 10, &[]), 10.0, 3.0, &[10.0]),
        ];
        for (plan, time, ends, expected) in cases {
            let signals = [plan.ladder.as_slice(), &[Signal::KILL]].concat();
            let (mut stop, actions) = StopMachine::begin(plan.clone(), at(0.0));
            assert_eq!(asked_to_run(&actions), Some(seconds(time)), "{plan:?}");
            assert_eq!(delivered(&actions), [], "no signal comes before its end");
            let mut sent = if ends < time { delivered(&stop.on_pre_stop_over(at(ends))) } else { Vec::new() };
            let mut times = vec![ends; sent.len()];
            while !stop.is_forced() {
                let due = stop.next_deadline().expect("KILL is to come");
                let now = delivered(&stop.on_deadline(due));
                times.extend(now.iter().map(|_| due.as_duration().as_secs_f64()));
                sent.extend(now);
            }
            assert_eq!((times.as_slice(), sent), (expected, signals), "{plan:?} {ends}");
        }
    }

    #[test]
    fn the_command_is_not_run_for_what_has_failed_or_is_to_be_killed_at_once() {
        let term = [Signal::TERM];
        let wanted =
            |reason| asked_to_run(&StopMachine::begin(StopPlan { reason, ..draining(30, plan(10, &term)) }, at(0.0)).1);
        for reason in StopReason::ALL {
            assert_eq!(wanted(reason).is_some(), reason != StopReason::Failed, "{reason}");
        }
        let (_, actions) = StopMachine::begin(draining(30, plan(0, &term)), at(0.0));
        assert_eq!((asked_to_run(&actions), delivered(&actions)), (None, vec![Signal::KILL]));
    }

    #[test]
    fn a_command_that_ends_late_or_twice_sends_nothing_again() {
        let (mut stop, _) = StopMachine::begin(draining(30, plan(10, &[Signal::TERM])), at(0.0));
        assert_eq!(delivered(&stop.on_deadline(at(5.0))), [Signal::TERM], "its time is over");
        assert_eq!(stop.on_pre_stop_over(at(5.1)), []);
        assert_eq!(stop.next_deadline(), Some(at(10.0)));
        let (mut stop, _) = StopMachine::begin(plan(10, &[Signal::TERM]), at(0.0));
        assert_eq!(stop.on_pre_stop_over(at(1.0)), [], "there was none");
    }

    #[test]
    fn a_stop_that_joins_while_the_command_runs_shortens_it_or_kills() {
        let begin = || StopMachine::begin(draining(30, plan(20, &[Signal::TERM])), at(0.0)).0;
        let mut stop = begin();
        assert_eq!(stop.join(None, at(1.0)), []);
        assert_eq!(stop.join(Some(Duration::from_secs(60)), at(1.0)), []);
        assert_eq!(stop.next_deadline(), Some(at(10.0)), "a longer grace changes nothing");
        assert_eq!(stop.join(Some(Duration::from_secs(4)), at(1.0)), []);
        assert_eq!(delivered(&stop.on_deadline(at(3.0))), [Signal::TERM], "both have their share of the shorter grace");
        assert_eq!(delivered(&stop.on_deadline(at(5.0))), [Signal::KILL]);
        let mut stop = begin();
        assert_eq!(delivered(&stop.join(Some(Duration::ZERO), at(1.0))), [Signal::KILL]);
        assert_eq!(stop.on_pre_stop_over(at(1.1)), []);
        assert_eq!(stop.next_deadline(), Some(at(3.0)), "only the verification of KILL is left");
    }

    proptest! {
        #[test]
        fn no_signal_is_ever_sent_twice_and_kill_comes_by_the_grace(
            grace in 0_u64..20,
            pre_stop in prop::option::of(1_u64..30),
            steps in prop::collection::vec((0.0_f64..3.0, prop::option::of(0_u64..9)), 1..30),
        ) {
            let ladder = [Signal::INT, Signal::TERM];
            let plan = StopPlan { pre_stop: pre_stop.map(Duration::from_secs), ..plan(grace, &ladder) };
            let (mut stop, actions) = StopMachine::begin(plan, at(0.0));
            let mut sent = delivered(&actions);
            let mut now = 0.0;
            for (wait, step) in steps {
                now += wait;
                let actions = match step {
                    Some(0) => stop.on_pre_stop_over(at(now)),
                    Some(grace) => stop.join(Some(Duration::from_secs(grace - 1)), at(now)),
                    None => stop.on_deadline(at(now)),
                };
                prop_assert_eq!(asked_to_run(&actions), None);
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
