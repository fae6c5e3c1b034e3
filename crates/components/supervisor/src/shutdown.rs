//! The end of the fleet, bounded in time.

use std::time::Duration;

use llama_warden_events::{Seq, Uptime};

/// Time kept at the end of a shutdown for KILL to be verified and the last events to be written.
const RESERVE: Duration = Duration::from_secs(3);

/// A shutdown under way.
#[derive(Debug)]
pub(crate) struct Shutdown {
    ids: Vec<Seq>,
    /// When KILL is sent to whatever is left.
    force_at: Option<Uptime>,
    deadline: Uptime,
    announced: bool,
}

impl Shutdown {
    pub(crate) fn begin(id: Seq, now: Uptime, limit: Duration) -> Self {
        let after = |wait: Duration| now + wait;
        Self {
            ids: vec![id],
            force_at: Some(after(limit.saturating_sub(RESERVE))),
            deadline: after(limit),
            announced: false,
        }
    }

    /// A repeated wish ends with the first.
    pub(crate) fn join(&mut self, id: Seq) {
        self.ids.push(id);
    }

    pub(crate) fn next_deadline(&self) -> Option<Uptime> {
        (!self.announced).then(|| self.force_at.unwrap_or(self.deadline))
    }

    /// Whether it is time for KILL; says so once.
    pub(crate) fn forces(&mut self, now: Uptime) -> bool {
        self.force_at.take_if(|at| *at <= now).is_some()
    }

    /// Whether the deadline has passed; says so once, and nothing is announced after it.
    pub(crate) fn gives_up(&mut self, now: Uptime) -> bool {
        let passed = !self.announced && self.deadline <= now;
        self.announced |= passed;
        passed
    }

    /// The fleet is down: the commands to answer, once.
    pub(crate) fn complete(&mut self) -> Option<Vec<Seq>> {
        if self.announced {
            return None;
        }
        self.announced = true;
        Some(std::mem::take(&mut self.ids))
    }
}
