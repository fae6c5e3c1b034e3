//! The promises of the lifecycle, each with the way in which it can be broken.
//!
//! "Seen with" is the change of the product that broke the promise when it was tried.

use std::fmt;

use llama_warden_events::{Incarnation, Refused, Seq, ServerId, Signal, StopReason};

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq)]
pub enum BrokenPromise {
    /// A server has two live launches. Not seen: the launcher of the simulation refuses the second, which breaks the next promise first.
    TwoLaunches(ServerId, Incarnation, Incarnation),
    /// The launcher had to refuse a launch: the supervisor asked for one while another was live, or for an old one. Seen with
    /// `due_launch` of the supervisor that is due while a stop is under way.
    LaunchRefused(ServerId, Incarnation, Refused),
    /// A process got one signal of its ladder twice. Seen with a `climb` of the terminator that stays on the rung of TERM.
    SecondSignal(ServerId, Incarnation, Signal),
    /// A command was completed, and it was before, or it was never accepted. Seen with `answer_commands` that keeps what it answered.
    CompletedTwice(Seq),
    /// Commands were not answered although everything came to rest. Seen with stops that are never answered.
    Unanswered(Vec<Seq>),
    /// A request got no reply, or more than one.
    Replies(u64, u32),
    /// A server is ready without having answered, or after readiness found it dead. Seen with `confirm` that confirms nothing, and with
    /// a refused connection during the confirmation that counts as an unknown model.
    FalseReady(ServerId, Incarnation),
    /// The end of a launch was published, and something of it is left. Seen with `ServerStopped` behind `StopBegan`.
    LeftBehind(ServerId, Incarnation),
    /// The daemon said that it has stopped, and these servers have a process. Seen with `complete_shutdown` that does not wait.
    LeftAtTheEnd(Vec<ServerId>),
    /// Something was launched after the shutdown began. Seen with `admit_launches` and `refusal` that ignore it.
    LaunchedInShutdown(ServerId),
    /// The daemon announced its end twice.
    StoppedTwice,
    /// The log of the events does not lead to the snapshot. Seen with numbers that JSON did not read back exactly.
    Replay,
    /// Events were impossible in the state that they met. Seen with a fold to which a late `StopEscalated` is impossible.
    Anomalies(u64, String),
    /// A server is not what the last command wants: what is wanted, and its phase. Seen with `stop` that leaves `wanted`.
    Intent(ServerId, String),
    /// A restart by policy came before its time, after giving up, or more often than the policy allows; or the delay is too long. Seen
    /// with half the delay, and with a policy without `max-attempts`.
    Backoff(ServerId, String),
    /// More servers load at a time than `start.max-concurrent` allows. Seen with `admit_launches` without that limit.
    TooManyStarts(usize),
    /// A machine asks again and again for the same moment, or the fleet never comes to rest.
    NoRest(String),
    /// A stop cut requests that are in flight although it may not, or not yet. Seen with victims of an eviction that are stopped once the
    /// first was released.
    Cut(ServerId, Incarnation, StopReason),
    /// More processes run than `router.max-loaded` allows. Seen with rules that do not count servers that are being stopped.
    TooManyLoaded(usize),
    /// A request waits although everything came to rest. Seen with a supervisor that forgets demands.
    Unserved(ServerId),
    /// A component believes something else of a launch than the snapshot. Seen with a tracker whose launches never end.
    Tracker(&'static str, ServerId),
}

impl fmt::Display for BrokenPromise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
