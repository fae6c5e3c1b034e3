//! The restart policy: whether a failed server is launched again, and after which delay.
//!
//! Failures are consecutive until the server has been ready for `stable-after`. The bound of the delay doubles with each of
//! them, from `initial-delay` up to `max-delay`. The delay is drawn evenly between zero and the bound (full jitter), so that
//! servers which failed together do not load together again.

use std::time::Duration;

use llama_warden_config::{RestartPolicy, RestartSpec};
use llama_warden_events::{FailureReason, ProcessEnd, Uptime};

/// The decision after a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The policy does not apply to this failure: the server stays down, and nothing is published.
    Leave,
    /// Launch it again after `delay`. `attempt` counts from 1.
    Restart { attempt: u32, delay: Duration },
    /// Give up after so many consecutive failures, until a person starts it.
    Abandon { attempts: u32, because: String },
}

/// The consecutive failures of one server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    failures: u32,
    /// When the launch under way became ready.
    ready_since: Option<Uptime>,
}

impl Backoff {
    /// Continues with the failures of an earlier run of the daemon.
    pub(crate) const fn resumed(failures: u32) -> Self {
        Self { failures, ready_since: None }
    }

    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }

    pub(crate) fn on_ready(&mut self, now: Uptime) {
        self.ready_since = Some(now);
    }

    /// Counts a failure and decides about it. `end` is the exit of a process that ended by itself; `jitter` is a random
    /// number from 0 to 1.
    pub(crate) fn on_failure(
        &mut self,
        spec: &RestartSpec,
        reason: FailureReason,
        end: Option<ProcessEnd>,
        now: Uptime,
        jitter: f64,
    ) -> Decision {
        if self.ready_since.take().is_some_and(|since| now.since(since) >= spec.stable_after) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        // A process that was stopped for its failure has no `end` here, so that `on-failure` applies to it.
        let ended_well = end.is_some_and(ProcessEnd::is_success);
        let applies = match spec.policy {
            RestartPolicy::Never => false,
            RestartPolicy::OnFailure => !ended_well,
            RestartPolicy::Always => true,
        };
        let attempts = self.failures;
        if !applies {
            return Decision::Leave;
        }
        if reason.is_permanent() {
            let because = format!("{reason} does not go away by itself; fix it, then start the server");
            return Decision::Abandon { attempts, because };
        }
        if attempts > spec.max_attempts {
            let because = format!("{attempts} consecutive failures, restart.max-attempts is {}", spec.max_attempts);
            return Decision::Abandon { attempts, because };
        }
        Decision::Restart { attempt: attempts, delay: bound(spec, attempts).mul_f64(jitter.clamp(0.0, 1.0)) }
    }
}

/// The longest delay before an attempt, counted from 1.
fn bound(spec: &RestartSpec, attempt: u32) -> Duration {
    // More doublings would overflow the factor; `max-delay` is reached long before.
    let doublings = attempt.saturating_sub(1).min(31);
    spec.initial_delay.saturating_mul(1 << doublings).min(spec.max_delay)
}

#[cfg(test)]
mod tests {
    use llama_warden_events::Signal;

    use super::*;

    fn spec(policy: RestartPolicy) -> RestartSpec {
        RestartSpec {
            policy,
            max_attempts: 5,
            initial_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(6),
            stable_after: Duration::from_secs(60),
        }
    }

    fn at(seconds: u64) -> Uptime {
        Uptime::new(Duration::from_secs(seconds))
    }

    const CRASH: ProcessEnd = ProcessEnd::Exited { code: 1 };

    /// Fault C40: a fast crash loop. How the process ended makes no difference.
    #[test]
    fn the_delay_doubles_up_to_its_bound_and_the_budget_ends_it() {
        let spec = spec(RestartPolicy::OnFailure);
        let mut backoff = Backoff::default();
        let ends =
            [CRASH, ProcessEnd::Exited { code: 139 }, ProcessEnd::Signaled { signal: Signal::ABRT, core_dumped: true }];
        let mut ends = ends.into_iter().cycle();
        let mut decide = |jitter| backoff.on_failure(&spec, FailureReason::Crashed, ends.next(), at(1), jitter);
        for (attempt, seconds) in [(1, 1), (2, 2), (3, 4), (4, 6), (5, 6)] {
            let delay = Duration::from_secs(seconds);
            assert_eq!(decide(1.0), Decision::Restart { attempt, delay });
        }
        let because = "6 consecutive failures, restart.max-attempts is 5".to_owned();
        assert_eq!(decide(1.0), Decision::Abandon { attempts: 6, because });
    }

    #[test]
    fn the_jitter_is_a_share_of_the_bound() {
        let spec = spec(RestartPolicy::OnFailure);
        let mut backoff = Backoff::resumed(2);
        let decision = backoff.on_failure(&spec, FailureReason::Crashed, Some(CRASH), at(1), 0.25);
        assert_eq!(decision, Decision::Restart { attempt: 3, delay: Duration::from_secs(1) });
    }

    #[test]
    fn a_stable_ready_clears_the_count_and_a_short_one_does_not() {
        let spec = spec(RestartPolicy::OnFailure);
        let mut backoff = Backoff::resumed(4);
        backoff.on_ready(at(10));
        backoff.on_failure(&spec, FailureReason::Crashed, Some(CRASH), at(69), 0.0);
        assert_eq!(backoff.failures(), 5);
        backoff.on_ready(at(100));
        backoff.on_failure(&spec, FailureReason::Crashed, Some(CRASH), at(160), 0.0);
        assert_eq!(backoff.failures(), 1);
    }

    /// Fault C40: a slow crash loop. A server that crashes 65 s after ready each time is restarted for ever with the first
    /// delay; one that crashes after 59 s is given up.
    #[test]
    fn a_crash_after_a_stable_ready_is_always_the_first_and_one_before_it_never_forgets() {
        let spec = spec(RestartPolicy::OnFailure);
        for (ready_for, given_up) in [(65, false), (59, true)] {
            let mut backoff = Backoff::default();
            let decisions: Vec<_> = (1..=100)
                .map(|round| {
                    backoff.on_ready(at(round * 100));
                    let crashed = at(round * 100 + ready_for);
                    backoff.on_failure(&spec, FailureReason::Crashed, Some(CRASH), crashed, 1.0)
                })
                .collect();
            let first = Decision::Restart { attempt: 1, delay: Duration::from_secs(1) };
            assert_eq!(decisions.iter().all(|decision| *decision == first), !given_up, "{ready_for} s");
            assert_eq!(matches!(decisions[5], Decision::Abandon { .. }), given_up, "{ready_for} s");
        }
    }

    #[test]
    fn policy_and_reason_decide_whether_a_server_is_restarted() {
        let well = Some(ProcessEnd::Exited { code: 0 });
        let cases = [
            (RestartPolicy::Never, FailureReason::Crashed, Some(CRASH), "leave"),
            (RestartPolicy::OnFailure, FailureReason::Crashed, well, "leave"),
            (RestartPolicy::Always, FailureReason::Crashed, well, "restart"),
            (RestartPolicy::OnFailure, FailureReason::PortInUse, None, "restart"),
            (RestartPolicy::Always, FailureReason::ModelNotFound, None, "abandon"),
            (RestartPolicy::OnFailure, FailureReason::BadArgument, Some(CRASH), "abandon"),
        ];
        for (policy, reason, end, expected) in cases {
            let decision = Backoff::default().on_failure(&spec(policy), reason, end, at(1), 0.5);
            let name = match decision {
                Decision::Leave => "leave",
                Decision::Restart { .. } => "restart",
                Decision::Abandon { .. } => "abandon",
            };
            assert_eq!(name, expected, "{policy:?} {reason}");
        }
    }
}
