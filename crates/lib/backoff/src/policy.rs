//! The restart policy: whether a failed server is launched again, and after which delay.
//!
//! Failures are consecutive until the server has been ready for `stable-after`. The bound of the delay doubles with each of
//! them, from `initial-delay` up to `max-delay`. The delay is drawn evenly between zero and the bound (full jitter), so that
//! servers which failed together do not load together again.
//!
//! What is missing and may appear (the model, the executable, an address, memory) is no failure to count: the launch looks
//! for it again, for as long as the policy is not `never`. A port that is in use is a failure, which is not given up before
//! [`PORT_RELEASE`].

use std::time::Duration;

use llama_warden_config::{RestartPolicy, RestartSpec};
use llama_warden_events::{FailureReason, Uptime};

/// How long a launch is tried again at least while its port is in use. Linux keeps the port of a connection for a minute after the
/// server has closed it (`TIME_WAIT`), and builds of llama-server that bind with `SO_REUSEPORT`, those before 2025-08, do not get one where a
/// build that binds in another way has served before: after a change to an older build, and when such a change is undone.
const PORT_RELEASE: Duration = Duration::from_secs(90);

/// The file that is at fault where a launch fails until the file changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultyFile {
    /// The model.
    Model,
    /// The executable, or a library beside it.
    Executable,
}

impl FaultyFile {
    /// The file at fault for a failure, if it is one.
    pub const fn of(reason: FailureReason) -> Option<Self> {
        match reason {
            FailureReason::ModelInvalid => Some(Self::Model),
            FailureReason::BinaryBroken => Some(Self::Executable),
            _ => None,
        }
    }
}

/// The decision after a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The policy never restarts this server: it stays down, and nothing is published.
    Leave,
    /// Launch it again.
    Restart {
        /// Counts from 1.
        attempt: u32,
        /// The last attempt; `None` is without a limit.
        max_attempts: Option<u32>,
        /// How long after the failure.
        delay: Duration,
    },
    /// Give up, until a person starts it.
    Abandon {
        /// So many consecutive failures.
        attempts: u32,
        /// Why, in words.
        because: String,
    },
}

/// The consecutive failures of one server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
    /// Consecutive launches that found missing what they need. They cost nothing, so that `max-attempts` does not apply.
    looks: u32,
    /// When the first of the latest consecutive launches found its port in use.
    port_in_use_since: Option<Uptime>,
    /// When the launch under way became ready.
    ready_since: Option<Uptime>,
}

impl Backoff {
    /// Continues with the failures of an earlier run of the daemon.
    pub const fn resumed(failures: u32) -> Self {
        Self { failures, looks: 0, port_in_use_since: None, ready_since: None }
    }

    /// Consecutive failures.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// The file that the failures were about is another one now.
    pub const fn on_file_changed(&mut self) {
        *self = Self::resumed(0);
    }

    /// The launch became ready.
    pub fn on_ready(&mut self, now: Uptime) {
        self.ready_since = Some(now);
        (self.looks, self.port_in_use_since) = (0, None);
    }

    /// Counts a failure and decides about it. `jitter` is a random number from 0 to 1.
    pub fn on_failure(&mut self, spec: &RestartSpec, reason: FailureReason, now: Uptime, jitter: f64) -> Decision {
        if self.ready_since.take().is_some_and(|since| now.since(since) >= spec.stable_after) {
            self.failures = 0;
        }
        let port_in_use_since = self.port_in_use_since.take().unwrap_or(now);
        self.port_in_use_since = (reason == FailureReason::PortInUse).then_some(port_in_use_since);
        let is_look = reason.awaited().is_some();
        if is_look {
            self.looks = self.looks.saturating_add(1);
        } else {
            self.looks = 0;
            self.failures = self.failures.saturating_add(1);
        }
        // A server that should run and was not stopped by us has failed, however well its process ended: `on-failure`
        // and `always` are the same.
        if spec.policy == RestartPolicy::Never {
            return Decision::Leave;
        }
        let delay = |attempt| bound(spec, attempt).mul_f64(jitter.clamp(0.0, 1.0));
        if is_look {
            let attempt = self.looks;
            return Decision::Restart { attempt, max_attempts: None, delay: delay(attempt) };
        }
        let attempts = self.failures;
        if reason.is_permanent() {
            let because = match FaultyFile::of(reason) {
                Some(_) => "it is started again once the file changes".to_owned(),
                None => format!("{reason} does not go away by itself; fix it, then start the server"),
            };
            return Decision::Abandon { attempts, because };
        }
        let may_be_released =
            spec.max_attempts > 0 && self.port_in_use_since.is_some_and(|since| now.since(since) < PORT_RELEASE);
        if attempts > spec.max_attempts && may_be_released {
            return Decision::Restart { attempt: attempts, max_attempts: None, delay: delay(attempts) };
        }
        if attempts > spec.max_attempts {
            let because = format!("{attempts} consecutive failures, restart.max-attempts is {}", spec.max_attempts);
            return Decision::Abandon { attempts, because };
        }
        Decision::Restart { attempt: attempts, max_attempts: Some(spec.max_attempts), delay: delay(attempts) }
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

    /// Fault C40: a fast crash loop.
    #[test]
    fn the_delay_doubles_up_to_its_bound_and_the_budget_ends_it() {
        let spec = spec(RestartPolicy::OnFailure);
        let mut backoff = Backoff::default();
        let mut decide = |jitter| backoff.on_failure(&spec, FailureReason::Crashed, at(1), jitter);
        for (attempt, seconds) in [(1, 1), (2, 2), (3, 4), (4, 6), (5, 6)] {
            let delay = Duration::from_secs(seconds);
            assert_eq!(decide(1.0), Decision::Restart { attempt, max_attempts: Some(5), delay });
        }
        let because = "6 consecutive failures, restart.max-attempts is 5".to_owned();
        assert_eq!(decide(1.0), Decision::Abandon { attempts: 6, because });
    }

    #[test]
    fn a_port_in_use_is_not_given_up_before_the_kernel_has_released_it() {
        let spec = spec(RestartPolicy::OnFailure);
        let mut backoff = Backoff::default();
        let mut decide = |reason, seconds| match backoff.on_failure(&spec, reason, at(seconds), 1.0) {
            Decision::Restart { attempt, max_attempts, .. } => Some((attempt, max_attempts)),
            _ => None,
        };
        for attempt in 1..=5 {
            assert_eq!(decide(FailureReason::PortInUse, 10), Some((attempt, Some(5))));
        }
        assert_eq!(decide(FailureReason::PortInUse, 11), Some((6, None)));
        assert_eq!(decide(FailureReason::PortInUse, 99), Some((7, None)));
        assert_eq!(decide(FailureReason::PortInUse, 100), None);
        assert_eq!(decide(FailureReason::Crashed, 101), None);
        assert_eq!(decide(FailureReason::PortInUse, 102), Some((10, None)), "the time begins anew");
    }

    #[test]
    fn the_jitter_is_a_share_of_the_bound() {
        let spec = spec(RestartPolicy::OnFailure);
        let mut backoff = Backoff::resumed(2);
        let decision = backoff.on_failure(&spec, FailureReason::Crashed, at(1), 0.25);
        assert_eq!(decision, Decision::Restart { attempt: 3, max_attempts: Some(5), delay: Duration::from_secs(1) });
    }

    #[test]
    fn a_stable_ready_clears_the_count_and_a_short_one_does_not() {
        let spec = spec(RestartPolicy::OnFailure);
        let mut backoff = Backoff::resumed(4);
        backoff.on_ready(at(10));
        backoff.on_failure(&spec, FailureReason::Crashed, at(69), 0.0);
        assert_eq!(backoff.failures(), 5);
        backoff.on_ready(at(100));
        backoff.on_failure(&spec, FailureReason::Crashed, at(160), 0.0);
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
                    backoff.on_failure(&spec, FailureReason::Crashed, crashed, 1.0)
                })
                .collect();
            let first = Decision::Restart { attempt: 1, max_attempts: Some(5), delay: Duration::from_secs(1) };
            assert_eq!(decisions.iter().all(|decision| *decision == first), !given_up, "{ready_for} s");
            assert_eq!(matches!(decisions[5], Decision::Abandon { .. }), given_up, "{ready_for} s");
        }
    }

    #[test]
    fn policy_and_reason_decide_whether_a_server_is_restarted() {
        let cases = [
            (RestartPolicy::Never, FailureReason::Crashed, "leave"),
            (RestartPolicy::Never, FailureReason::ModelNotFound, "leave"),
            (RestartPolicy::OnFailure, FailureReason::Ended, "restart"),
            (RestartPolicy::Always, FailureReason::Ended, "restart"),
            (RestartPolicy::OnFailure, FailureReason::PortInUse, "restart"),
            (RestartPolicy::OnFailure, FailureReason::ModelNotFound, "look"),
            (RestartPolicy::Always, FailureReason::BinaryNotFound, "look"),
            (RestartPolicy::OnFailure, FailureReason::AddressUnavailable, "look"),
            (RestartPolicy::OnFailure, FailureReason::BadArgument, "abandon"),
            (RestartPolicy::Always, FailureReason::BinaryBroken, "abandon"),
        ];
        for (policy, reason, expected) in cases {
            let name = match Backoff::default().on_failure(&spec(policy), reason, at(1), 0.5) {
                Decision::Leave => "leave",
                Decision::Restart { max_attempts: Some(_), .. } => "restart",
                Decision::Restart { max_attempts: None, .. } => "look",
                Decision::Abandon { .. } => "abandon",
            };
            assert_eq!(name, expected, "{policy:?} {reason}");
        }
    }

    #[test]
    fn what_is_missing_is_looked_at_for_ever_and_slowly_and_counts_as_no_failure() {
        let spec = spec(RestartPolicy::OnFailure);
        let mut backoff = Backoff::resumed(2);
        for (attempt, seconds) in (1..=100).zip([1, 2, 4].into_iter().chain(std::iter::repeat(6))) {
            let decision = backoff.on_failure(&spec, FailureReason::ModelNotFound, at(1), 1.0);
            let delay = Duration::from_secs(seconds);
            assert_eq!(decision, Decision::Restart { attempt, max_attempts: None, delay });
        }
        let decision = backoff.on_failure(&spec, FailureReason::Crashed, at(1), 1.0);
        let delay = Duration::from_secs(4);
        assert_eq!(decision, Decision::Restart { attempt: 3, max_attempts: Some(5), delay });
    }
}
