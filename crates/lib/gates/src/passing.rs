//! What the router tells the gates about a request, and what they answer.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use llama_warden_events::{Incarnation, ServerId, Uptime};

/// A request, from its arrival at a gate to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub(crate) u64);

/// Whose turn a request takes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum QueueClient {
    /// Over a unix socket: the daemon's user or root.
    #[default]
    Local,
    /// By its address.
    Address(IpAddr),
    /// By the number of its key.
    Key(u64),
}

/// What a request is, for its gate.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// Whether it takes one of the slots and counts as use.
    pub works: bool,
    /// Requests at work at a time that the configuration sets.
    pub concurrency: Option<NonZeroU32>,
    /// Requests that may wait.
    pub queue: u32,
    /// Demands of a higher one come first.
    pub priority: i32,
    /// After which idle time the server is stopped; `None` is never.
    pub ttl: Option<Duration>,
    /// Whose turn it takes among those that wait.
    pub client: QueueClient,
    /// The launch with which it was lost before its answer began. It goes to a later one, alone until that one answers.
    pub lost_with: Option<Incarnation>,
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateAction {
    /// Let a waiting request go to this launch.
    Admit(Ticket, Incarnation),
    /// Tell the supervisor that requests wait.
    Want {
        /// Which server is wanted.
        server: ServerId,
        /// Since when the request waits that has waited longest.
        oldest: Uptime,
        /// The highest priority comes first.
        priority: i32,
    },
    /// Tell it that none do.
    Unwant(ServerId),
    /// Ask health for a look at a launch, and resume it once that is well.
    Look(ServerId, Incarnation),
    /// Publish `ServerReleased`.
    Released {
        /// The server whose gate is closed.
        server: ServerId,
        /// The launch that the gate led to.
        incarnation: Incarnation,
        /// How many requests are still in flight.
        left: u32,
    },
    /// Publish `UseBegan`.
    UseBegan(ServerId, Incarnation),
    /// Publish `UseEnded`.
    UseEnded(ServerId, Incarnation, Uptime),
    /// Look at the next deadline again. The shell adds it.
    Rearm,
}

/// What an admitted request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdmittedAs {
    /// Nothing that is scarce.
    Light,
    /// A slot.
    Work,
    /// A slot, and the only one for requests that a crash has lost.
    Replay,
}

impl Arrival {
    /// What the request takes at its gate.
    pub const fn admitted_as(&self) -> AdmittedAs {
        match (self.works, self.lost_with) {
            (false, _) => AdmittedAs::Light,
            (true, None) => AdmittedAs::Work,
            (true, Some(_)) => AdmittedAs::Replay,
        }
    }
}

/// The answer to an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrived {
    /// It goes to this launch at once.
    Admitted(Incarnation),
    /// It waits, and is admitted or dismissed later.
    Waits(Ticket),
    /// As many wait as may.
    QueueFull,
}
