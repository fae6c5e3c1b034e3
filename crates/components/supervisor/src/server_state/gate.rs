//! The way of requests to a ready launch: it is closed before the launch is stopped.
//!
//! Invariants:
//!
//! * A ready launch is stopped while requests are in flight only by force, because it has failed, or once the time that its stop leaves
//!   them is over.
//! * A stop by hand does not take longer for it: the time that the requests take is part of the grace.
//! * A gate that nobody needs closed any more is opened again, unless a stop waits behind it.

use std::time::Duration;

use llama_warden_events::{Incarnation, RefusalReason, Refused, StopReason, Uptime};

use super::{LaunchState, ServerState, StopRequest};
use crate::action::{Actions, SupervisorAction};

/// What is left of the grace of a stop for the signals, where requests take the rest.
const LEFT_FOR_SIGNALS: Duration = Duration::from_secs(2);

/// A release that took no longer is not subtracted from the grace.
const AT_ONCE: Duration = Duration::from_millis(50);

/// How long a server that refused to be released counts as busy. Then it is asked again.
const BUSY_FOR: Duration = Duration::from_secs(1);

/// The gate of one launch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Gate {
    #[default]
    Open,
    /// The router was asked to close it if nothing is in flight, and has not answered.
    Asked,
    /// Closed, with requests in flight.
    Draining {
        /// When the stop that waits goes on anyway; `None` waits for the last request.
        until: Option<Uptime>,
    },
    /// Closed, with nothing in flight.
    Released,
}

/// Why a gate is closed without a stop so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Nobody has used the server for its `ttl`.
    Idle,
    /// Another server needs its room. It is one of those that are idle.
    EvictIdle,
    /// Another server needs its room, and has waited long enough for this one's requests to end.
    EvictBusy,
}

/// How much time a stop leaves to requests in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drain {
    /// All of its grace but what the signals need.
    WithinGrace,
    /// This long, and then the whole grace.
    Before(Duration),
}

impl StopRequest {
    /// When the first signal is sent at the latest.
    fn signals_at(&self, configured: Duration) -> Uptime {
        let drain = match self.drain {
            Drain::WithinGrace => self.grace.unwrap_or(configured).saturating_sub(LEFT_FOR_SIGNALS),
            Drain::Before(drain) => drain,
        };
        self.asked_at + drain
    }
}

impl ServerState {
    /// Whether it is ready, and nothing wants its end.
    pub(crate) fn is_settled(&self) -> bool {
        self.launch.state == LaunchState::Ready && self.launch.pending_stop.is_none() && self.launch.hold.is_none()
    }

    /// Whether it refused a moment ago to be released: until when that counts.
    pub(crate) const fn busy_until(&self) -> Option<Uptime> {
        self.launch.busy_until
    }

    /// Whether its gate is closed, or about to be, for another server alone.
    pub(crate) fn is_victim(&self) -> bool {
        let is_held = matches!(self.launch.hold, Some(Hold::EvictIdle | Hold::EvictBusy));
        is_held && self.launch.state == LaunchState::Ready && self.launch.pending_stop.is_none()
    }

    pub(crate) const fn hold(&self) -> Option<Hold> {
        self.launch.hold
    }

    /// Whether nothing is in flight and nothing can be sent.
    pub(crate) fn is_released(&self) -> bool {
        self.launch.state == LaunchState::Ready && self.launch.gate == Gate::Released
    }

    /// Begins to close the gate of a ready launch, for `hold`.
    pub(crate) fn close(&mut self, hold: Hold, actions: &mut Actions) {
        self.launch.hold = Some(hold);
        self.ask(actions);
    }

    /// Nobody needs its gate closed any more.
    pub(crate) fn reopen(&mut self, actions: &mut Actions) {
        self.launch.hold = None;
        let is_closed = matches!(self.launch.gate, Gate::Draining { .. } | Gate::Released);
        // While the router has not answered, its answer opens it.
        if self.launch.state == LaunchState::Ready && self.launch.pending_stop.is_none() && is_closed {
            self.launch.gate = Gate::Open;
            let (server, incarnation) = (self.server.clone(), self.launch.incarnation);
            actions.push(SupervisorAction::Reopen { server, incarnation });
        }
    }

    /// Stops a ready launch behind its gate. A stop that comes sooner than the one that waits replaces it.
    pub(super) fn stop_behind_gate(&mut self, stop: StopRequest, actions: &mut Actions) {
        let configured = self.policy.grace;
        let is_sooner = |pending: &StopRequest| {
            let end = |stop: &StopRequest| stop.signals_at(configured) + stop.grace.unwrap_or(configured);
            stop.signals_at(configured) < pending.signals_at(configured) || end(&stop) < end(pending)
        };
        if self.launch.pending_stop.as_ref().is_none_or(is_sooner) {
            self.launch.pending_stop = Some(stop);
        }
        match self.launch.gate {
            Gate::Open => self.ask(actions),
            Gate::Asked => {}
            Gate::Draining { .. } => self.drain(stop.asked_at, actions),
            Gate::Released => self.stop_now(stop.asked_at, actions),
        }
    }

    /// Takes the router's answer to `ReleaseServer`.
    pub(crate) fn on_release_answered(
        &mut self,
        (incarnation, drain): (Incarnation, Duration),
        answer: Result<(), &Refused>,
        now: Uptime,
        actions: &mut Actions,
    ) {
        if incarnation != self.launch.incarnation || self.launch.state != LaunchState::Ready {
            return;
        }
        let is_in_use = answer.is_err_and(|refused| {
            matches!(refused.reason, RefusalReason::InUse | RefusalReason::QueueFull | RefusalReason::Expired)
        });
        match self.launch.gate {
            Gate::Asked if drain.is_zero() && !is_in_use => self.launch.gate = Gate::Released,
            Gate::Asked if drain.is_zero() => match (self.launch.pending_stop, self.launch.hold) {
                (Some(_), _) | (None, Some(Hold::EvictBusy)) => self.drain(now, actions),
                (None, Some(Hold::Idle | Hold::EvictIdle) | None) => {
                    (self.launch.gate, self.launch.hold) = (Gate::Open, None);
                    self.launch.busy_until = Some(now + BUSY_FOR);
                    self.idle_since = self.idle_since.max(now);
                    return;
                }
            },
            // A router that is gone has nothing in flight.
            Gate::Draining { .. } if !drain.is_zero() && answer.is_err() && !is_in_use => {
                self.launch.gate = Gate::Released
            }
            _ => return,
        }
        self.go_on(now, actions);
    }

    /// `ServerReleased` was published.
    pub(crate) fn on_released(&mut self, now: Uptime, actions: &mut Actions) {
        if self.launch.state == LaunchState::Ready && matches!(self.launch.gate, Gate::Draining { .. }) {
            self.launch.gate = Gate::Released;
            self.go_on(now, actions);
        }
    }

    /// Asks again about requests in flight: the answer may be among missed events.
    pub(super) fn ask_again(&mut self, now: Uptime, actions: &mut Actions) {
        if self.launch.state == LaunchState::Ready && matches!(self.launch.gate, Gate::Draining { .. }) {
            self.drain(now, actions);
        }
    }

    /// When a stop goes on although requests are in flight.
    pub(super) fn drained_at(&self) -> Option<Uptime> {
        match self.launch.gate {
            Gate::Draining { until } if self.launch.state == LaunchState::Ready => until,
            _ => None,
        }
    }

    /// Lets a stop go on whose requests have had their time.
    pub(super) fn on_drain_deadline(&mut self, now: Uptime, actions: &mut Actions) {
        if self.drained_at().is_some_and(|until| until <= now) && self.launch.pending_stop.is_some() {
            self.stop_now(now, actions);
        }
    }

    fn ask(&mut self, actions: &mut Actions) {
        if self.launch.gate == Gate::Open {
            self.launch.gate = Gate::Asked;
            self.release(Duration::ZERO, actions);
        }
    }

    /// Closes the gate for good, and leaves the requests in flight the time of the stop that waits.
    fn drain(&mut self, now: Uptime, actions: &mut Actions) {
        let until = self.launch.pending_stop.as_ref().map(|stop| stop.signals_at(self.policy.grace));
        match until {
            Some(until) if until <= now => self.stop_now(now, actions),
            _ => {
                self.launch.gate = Gate::Draining { until };
                self.release(until.map_or(Duration::MAX, |until| until.since(now)), actions);
            }
        }
    }

    fn release(&self, drain: Duration, actions: &mut Actions) {
        let (server, incarnation) = (self.server.clone(), self.launch.incarnation);
        actions.push(SupervisorAction::Release { server, incarnation, drain });
    }

    /// Goes on behind a gate whose state has changed.
    fn go_on(&mut self, now: Uptime, actions: &mut Actions) {
        if self.launch.gate != Gate::Released {
            return;
        }
        if self.launch.pending_stop.is_some() {
            self.stop_now(now, actions);
        } else if self.launch.hold.is_none() {
            self.reopen(actions);
        }
    }

    /// Sends the stop that waited for the gate, with what is left of its grace.
    fn stop_now(&mut self, now: Uptime, actions: &mut Actions) {
        let Some(mut stop) = self.launch.pending_stop.take() else { return };
        let waited = now.since(stop.asked_at);
        if stop.drain == Drain::WithinGrace && waited > AT_ONCE {
            let grace = stop.grace.unwrap_or(self.policy.grace);
            stop.grace = Some(grace.saturating_sub(waited).max(grace.min(LEFT_FOR_SIGNALS)));
        }
        self.terminate(stop, actions);
    }

    /// Whether requests in flight are left alone by a stop for this reason: a failed server has none worth waiting for.
    pub(super) fn is_released_first(stop: &StopRequest) -> bool {
        stop.reason != StopReason::Failed && stop.grace != Some(Duration::ZERO)
    }
}
