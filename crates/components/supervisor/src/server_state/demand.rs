//! What requests want of one server, how they use it, and how its load times weigh.

use std::time::Duration;

use llama_warden_events::{Event, FailureReason, Refused, StopReason, Uptime};
use llama_warden_state::ServerRecord;

use super::{LaunchState, ServerState, StartReason};
use crate::action::{Actions, SupervisorAction};

/// How long a server that was given up is not launched for requests. A permanent failure is not tried again by them at all.
const GIVEN_UP_FOR: Duration = Duration::from_secs(300);

/// How long a server stays at least once it is ready, so that the requests for which it was loaded come through.
const SHORTEST_STAY: Duration = Duration::from_secs(5);

/// Requests that waited before a server was ready keep it for no longer, so that others get their turn.
const LONGEST_STAY: Duration = Duration::from_secs(60);

/// Requests have the room for a server looked at again no sooner after there was none.
const ROOM_LOOK: Duration = Duration::from_secs(5);

/// The load times that are remembered.
const LOAD_TIMES: usize = 5;

/// How fast a model is assumed to load before it has done so: bytes in a second.
const ASSUMED_SPEED: u64 = 1_000_000_000;

/// One more launch after a launch for requests ended for want of memory, with every idle server out of its way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum MemoryRetry {
    #[default]
    Unused,
    /// The next launch is the one.
    Due,
    Used,
}

impl ServerState {
    /// Requests that wait for it since `oldest` want it: requests a launch where that is up to them. Unlike a person's start, it clears
    /// no count of failures.
    pub(crate) fn want(&mut self, now: Uptime, actions: &mut Actions) {
        // The exit of a launch comes before the failure that explains it, by which the restart policy decides first.
        let is_unexplained = self.wanted.is_some() && self.launch.failure.is_none();
        // A look for room costs nothing, so that a request need not wait for the restart policy to look.
        let brings_forward = self.no_room.is_some() && self.lacks_room(now).is_none();
        let is_on_its_way = self.is_up() || (self.restart_at.is_some() && !brings_forward) || is_unexplained;
        if is_on_its_way || self.stopped_by_user || self.is_given_up(now) || self.lacks_room(now).is_some() {
            return;
        }
        self.is_for_requests_alone |= self.restart_at.is_none();
        self.cancel_restart(actions);
        self.wanted = Some(self.launch.incarnation.next());
        self.start_reason = StartReason::Demand;
        self.asked_for = true;
    }

    /// No request waits for it any more: a launch that was not sent is not wanted, nor is another look for room.
    pub(crate) fn unwant(&mut self, actions: &mut Actions) {
        let is_due = self.due_launch() == Some(StartReason::Demand);
        let is_not_sent = is_due || (self.no_room.is_some() && self.is_down());
        if is_not_sent && self.is_for_requests_alone && self.pending_commands.is_empty() {
            self.wanted = None;
            self.asked_for = false;
            self.cancel_restart(actions);
        } else if is_due {
            self.start_reason = StartReason::RestartPolicy;
        }
    }

    /// Why there was no room for it a moment ago, whatever else would have been stopped.
    pub(crate) fn lacks_room(&self, now: Uptime) -> Option<&Refused> {
        let no_room = self.no_room.as_ref().filter(|no_room| no_room.is_for_requests)?;
        let is_left = self.is_down() && self.due_launch().is_none();
        (is_left && now.since(no_room.at) < ROOM_LOOK).then_some(&no_room.refused)
    }

    /// When requests have the room for it looked at again, where nothing else does.
    pub(crate) fn room_look_at(&self) -> Option<Uptime> {
        let is_left = self.is_down() && self.due_launch().is_none() && self.restart_at.is_none();
        self.no_room.as_ref().filter(|_| is_left && !self.stopped_by_user).map(|no_room| no_room.at + ROOM_LOOK)
    }

    /// Leaves out a launch for which nobody waits.
    pub(crate) fn skip(&mut self, because: String, actions: &mut Actions) {
        self.wanted = None;
        self.is_unloaded = true;
        self.cancel_restart(actions);
        // Without a number: there is no such launch.
        actions.push(SupervisorAction::publish_server(self.server.clone(), Event::LaunchSkipped { because }));
    }

    /// Whether requests do not launch it: its latest launch failed, and no restart is scheduled.
    pub(crate) fn is_given_up(&self, now: Uptime) -> bool {
        let Some((reason, _)) = &self.launch.failure else { return false };
        let is_over = self.is_down() && self.restart_at.is_none() && self.due_launch().is_none();
        let is_fresh = self.failed_at.is_some_and(|at| now.since(at) < GIVEN_UP_FOR);
        is_over && self.wanted.is_some() && self.no_room.is_none() && (reason.is_permanent() || is_fresh)
    }

    /// The reason of its latest launch's failure, in words.
    pub(crate) fn failure_text(&self) -> String {
        self.launch.failure.as_ref().map(|(reason, detail)| format!("{reason}: {detail}")).unwrap_or_default()
    }

    /// Whether somebody waits for its launch at the command line or the API.
    pub(crate) const fn is_awaited(&self) -> bool {
        !self.pending_commands.is_empty()
    }

    /// Whether a person or a request asked for it, and no stop came since.
    pub(crate) const fn is_asked_for(&self) -> bool {
        self.asked_for
    }

    pub(crate) const fn is_on_demand(&self) -> bool {
        self.asked_for && matches!(self.start_reason, StartReason::Demand)
    }

    pub(crate) const fn is_unloaded(&self) -> bool {
        self.is_unloaded
    }

    /// Requests began to use it, or ended.
    pub(crate) fn on_use(&mut self, last_used: Option<Uptime>) {
        self.is_in_use = last_used.is_none();
        self.idle_since = self.idle_since.max(last_used.unwrap_or_default());
    }

    /// A launch took this long to become ready.
    pub(crate) fn note_load(&mut self, time: Duration) {
        self.load_times.truncate(LOAD_TIMES - 1);
        self.load_times.insert(0, time);
    }

    pub(super) fn note_ready(&mut self, load: Option<Duration>, now: Uptime) {
        if let Some(load) = load {
            self.note_load(load);
        }
        (self.ready_at, self.idle_since, self.is_in_use) = (now, now, false);
        self.memory_retry = MemoryRetry::Unused;
    }

    pub(super) fn note_missed_use(&mut self, record: &ServerRecord) {
        self.is_in_use = record.usage.is_active;
        self.idle_since = self.idle_since.max(record.usage.last_used.unwrap_or_default());
    }

    /// Since when it has been idle; `None` while it is in use.
    pub(crate) fn idle_since(&self) -> Option<Uptime> {
        (self.launch.state == LaunchState::Ready && !self.is_in_use).then_some(self.idle_since)
    }

    /// When it is stopped because nobody uses it; `None` is never.
    pub(crate) fn idle_stop_at(&self) -> Option<Uptime> {
        let ttl = self.policy.ttl.filter(|_| self.is_settled())?;
        Some(self.idle_since()? + ttl)
    }

    /// Until when it is not evicted. `waits_since` is the wait of its oldest request.
    pub(crate) fn stays_until(&self, waits_since: Option<Uptime>) -> Uptime {
        let load = self.load_times.first().copied().unwrap_or_default();
        let least = self.ready_at + load.clamp(SHORTEST_STAY, LONGEST_STAY);
        match waits_since {
            Some(since) if since <= self.ready_at => self.patience_ends(since),
            _ => least,
        }
    }

    /// Until when requests of which the oldest waits since then, longer than those for another server, keep it.
    pub(crate) fn patience_ends(&self, since: Uptime) -> Uptime {
        self.ready_at.max(since) + LONGEST_STAY
    }

    /// What its eviction costs: its load time, less the longer it is idle. `weights` is the size of its model in bytes.
    pub(crate) fn eviction_cost(&self, weights: u64, now: Uptime) -> f64 {
        let mut times = self.load_times.clone();
        times.sort_unstable();
        let median = times.get(times.len() / 2).copied();
        let load = median.unwrap_or_else(|| Duration::from_secs_f64(weights as f64 / ASSUMED_SPEED as f64));
        let idle_minutes = self.idle_since().map_or(0.0, |since| now.since(since).as_secs_f64() / 60.0);
        self.policy.evict_cost * load.as_secs_f64() / (1.0 + idle_minutes)
    }

    pub(crate) const fn memory_retry(&self) -> MemoryRetry {
        self.memory_retry
    }

    pub(crate) const fn use_memory_retry(&mut self) {
        self.memory_retry = MemoryRetry::Used;
    }

    /// Whether its launch is tried once more at once, since every idle server can make room for it: it ran out of memory, and requests
    /// wanted it.
    pub(super) fn takes_memory_retry(&mut self, reason: FailureReason) -> bool {
        let takes = reason == FailureReason::OutOfMemory
            && self.start_reason == StartReason::Demand
            && !self.launch.was_ready
            && self.memory_retry == MemoryRetry::Unused;
        if takes {
            self.memory_retry = MemoryRetry::Due;
        }
        takes
    }

    /// Whether a stop for this reason leaves it to requests to start it again.
    pub(super) const fn note_stop(&mut self, reason: StopReason) {
        self.is_unloaded = reason.unloads() && !self.stopped_by_user;
        self.asked_for = false;
    }
}
