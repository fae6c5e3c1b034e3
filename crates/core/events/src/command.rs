//! The commands: what a component is asked to do. Each set has one owner, fixed at composition.
//!
//! A command is answered at once with *accepted* or [`Refused`]; that it is done is learnt from events.

use std::time::Duration;

use crate::{Incarnation, RefusalReason, Rung, ServerId, Signal, StopReason};

/// Asks for a change of what should run. Owner: supervisor. Accepted commands get an id (a `CommandAccepted` event).
#[derive(Debug, Clone, PartialEq)]
pub enum SuperviseCommand {
    /// Start a server; done at once if it is ready.
    StartServer {
        /// Which.
        server: ServerId,
    },
    /// Stop a server; joins a stop that is under way.
    StopServer {
        /// Which.
        server: ServerId,
        /// Overrides the configured time before KILL.
        grace: Option<Duration>,
        /// Kill at once, also when a polite stop is under way.
        force: bool,
    },
    /// Stop a server if it runs, then start it.
    RestartServer {
        /// Which.
        server: ServerId,
        /// Overrides the configured time before KILL.
        grace: Option<Duration>,
        /// Kill at once.
        force: bool,
    },
    /// Bring the fleet to what a profile says.
    ActivateProfile {
        /// Which; absent for every enabled server.
        profile: Option<String>,
        /// Only publish the plan.
        dry_run: bool,
    },
    /// Read the configuration again and bring the fleet to what it says.
    Reload {
        /// What asked for it, for people.
        trigger: String,
    },
    /// Stop every server, side by side, and end the daemon. A second one kills at once.
    ShutDown {
        /// What asked for it, for people.
        trigger: String,
        /// Kill at once.
        force: bool,
    },
}

/// Asks for something to be done to a process. Owner: launcher.
#[derive(Debug, Clone, PartialEq)]
pub enum LaunchCommand {
    /// Launch a server as this incarnation.
    LaunchServer {
        /// Which.
        server: ServerId,
        /// The number that the launch gets.
        incarnation: Incarnation,
    },
    /// Send a signal to the process group of an incarnation, followed by CONT where it would stay pending otherwise.
    DeliverSignal {
        /// Which.
        server: ServerId,
        /// Of which launch.
        incarnation: Incarnation,
        /// What.
        signal: Signal,
        /// The step of the ladder that asks for it.
        rung: Rung,
    },
    /// Find out who listens on the port of an incarnation; answered by a `ListenerIdentified` event.
    IdentifyListener {
        /// Which.
        server: ServerId,
        /// Of which launch.
        incarnation: Incarnation,
    },
}

/// Asks for a process to be ended. Owner: terminator.
#[derive(Debug, Clone, PartialEq)]
pub enum TerminateCommand {
    /// Climb the ladder until the process is gone. A repeated one joins the first; grace 0 kills at once.
    TerminateServer {
        /// Which.
        server: ServerId,
        /// Of which launch.
        incarnation: Incarnation,
        /// Why.
        reason: StopReason,
        /// Time before KILL; absent means the server's configured one.
        grace: Option<Duration>,
    },
}

/// Asks for a command of the user that somebody waits for. Owner: hooks. What comes of it is a `HookCompleted` event about
/// that launch; the other commands are run by the events that they follow.
#[derive(Debug, Clone, PartialEq)]
pub enum HookCommand {
    /// Run what goes before a launch. It is called off when that launch is to stop or is over.
    RunPreStart {
        /// Which server's.
        server: ServerId,
        /// Before which launch.
        incarnation: Incarnation,
    },
    /// Run what goes before the first signal of a stop. It is called off when the process is gone.
    RunPreStop {
        /// Which server's.
        server: ServerId,
        /// The launch that is stopped.
        incarnation: Incarnation,
        /// Why it is stopped.
        reason: StopReason,
        /// Longest time from now to its end, its turn included.
        limit: Duration,
    },
}

/// A command was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Refused {
    /// Why, from the closed set.
    pub reason: RefusalReason,
    /// The same for people.
    pub detail: String,
}

impl Refused {
    /// Builds a refusal.
    pub fn new(reason: RefusalReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// A set of commands. One component owns it; anybody may send it.
///
/// A component of others brings a set of its own: an enum with this trait.
pub trait CommandSet: Send + 'static {
    /// Its name in errors at start, one word: `launch`.
    const NAME: &'static str;

    /// Whether the command overtakes whatever is queued. Stops and kills do.
    fn is_urgent(&self) -> bool {
        false
    }
}

/// The set of a component that owns no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoCommand {}

impl CommandSet for NoCommand {
    const NAME: &'static str = "none";
}

impl CommandSet for SuperviseCommand {
    const NAME: &'static str = "supervise";

    fn is_urgent(&self) -> bool {
        matches!(self, Self::StopServer { .. } | Self::ShutDown { .. })
    }
}

impl CommandSet for LaunchCommand {
    const NAME: &'static str = "launch";

    fn is_urgent(&self) -> bool {
        matches!(self, Self::DeliverSignal { .. })
    }
}

impl CommandSet for TerminateCommand {
    const NAME: &'static str = "terminate";

    fn is_urgent(&self) -> bool {
        true
    }
}

impl CommandSet for HookCommand {
    const NAME: &'static str = "hook";

    fn is_urgent(&self) -> bool {
        matches!(self, Self::RunPreStop { .. })
    }
}
