//! The shutdown of the fleet, bounded in time: a stop of every server, KILL near the deadline, and the end at it.

use std::time::Duration;

use llama_warden_events::{Seq, Uptime};

/// Time between the KILL of what is left and the deadline, for the exits to be verified and the last events written.
const RESERVE: Duration = Duration::from_secs(3);

/// A shutdown under way. Its end is announced once.
#[derive(Debug)]
pub(crate) struct Shutdown {
    /// The commands to answer.
    ids: Vec<Seq>,
    /// When KILL is sent to the servers that are left; `None` once it was.
    force_at: Option<Uptime>,
    deadline: Uptime,
    is_announced: bool,
}

impl Shutdown {
    pub(crate) fn begin(id: Seq, now: Uptime, limit: Duration) -> Self {
        let force_at = Some(now + limit.saturating_sub(RESERVE));
        Self { ids: vec![id], force_at, deadline: now + limit, is_announced: false }
    }

    /// Adds a repeated command, which is answered with the first. The deadline does not move.
    pub(crate) fn join(&mut self, id: Seq) {
        self.ids.push(id);
    }

    pub(crate) fn next_deadline(&self) -> Option<Uptime> {
        (!self.is_announced).then(|| self.force_at.unwrap_or(self.deadline))
    }

    /// Time until KILL.
    pub(crate) fn time_left(&self, now: Uptime) -> Duration {
        self.force_at.map_or(Duration::ZERO, |at| at.since(now))
    }

    /// Whether it is time for KILL; true once.
    pub(crate) fn take_force(&mut self, now: Uptime) -> bool {
        self.force_at.take_if(|at| *at <= now).is_some()
    }

    /// Whether the deadline has passed before every server was down; true once. Nothing is announced after it.
    pub(crate) fn take_expired(&mut self, now: Uptime) -> bool {
        let has_expired = !self.is_announced && self.deadline <= now;
        self.is_announced |= has_expired;
        has_expired
    }

    /// The commands to answer, now that every server is down. One that comes later is answered too.
    pub(crate) fn take_ids(&mut self) -> Vec<Seq> {
        std::mem::take(&mut self.ids)
    }

    /// Ends the shutdown, now that every server is down; true once.
    pub(crate) const fn take_end(&mut self) -> bool {
        !std::mem::replace(&mut self.is_announced, true)
    }
}
