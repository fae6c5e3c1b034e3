//! The commands of llama-warden. Each set has one owner, fixed at composition.
//!
//! The owner answers a command at once with *accepted* or [`Refused`]; its completion is reported by events.

use std::time::Duration;

use crate::{BuildChange, CommandSummary, Incarnation, RefusalReason, Rung, ServerId, Signal, StopReason, Uptime};

/// Changes what should run. Owner: supervisor. An accepted command gets an id: the seq of its `CommandAccepted` event.
#[derive(Debug, Clone, PartialEq)]
pub enum SuperviseCommand {
    /// Start a server; done at once if it is ready.
    StartServer {
        /// The server.
        server: ServerId,
    },
    /// Stop a server; joins a stop that is under way.
    StopServer {
        /// The server.
        server: ServerId,
        /// Overrides the configured time before KILL.
        grace: Option<Duration>,
        /// Kill at once, also when a polite stop is under way.
        force: bool,
    },
    /// Stop a server if it runs, then start it.
    RestartServer {
        /// The server.
        server: ServerId,
        /// Overrides the configured time before KILL.
        grace: Option<Duration>,
        /// Kill at once.
        force: bool,
    },
    /// Stop a server once its requests have ended, until somebody wants it.
    UnloadServer {
        /// The server.
        server: ServerId,
    },
    /// Requests wait for a server: launch it, and make room for it, unless it runs. Sent when the first one comes, and again, at most
    /// once a second, when another one is the oldest. Has no `CommandAccepted`, and clears no count of failures as `StartServer` does.
    WantServer {
        /// The server.
        server: ServerId,
        /// Since when the oldest of them waits.
        oldest: Uptime,
        /// The server's priority: a higher one comes first.
        priority: i32,
    },
    /// No request waits for a server any more. Has no `CommandAccepted`.
    UnwantServer {
        /// The server.
        server: ServerId,
    },
    /// Bring the fleet to what a profile says.
    ActivateProfile {
        /// The profile; absent for every enabled server.
        profile: Option<String>,
        /// Only publish the plan.
        dry_run: bool,
    },
    /// Change the executable of a server, or try another one beside it.
    ChangeBuild {
        /// The server; of a canary, the server that it tries a build for.
        server: ServerId,
        /// The change.
        change: BuildChange,
    },
    /// Read the configuration again and bring the fleet to what it says.
    Reload {
        /// Who asked for it, for people.
        trigger: String,
        /// Apply it even if it looks half written.
        force: bool,
    },
    /// End the daemon and leave every process to the next one. Refused while a server is being started or stopped.
    HandOver {
        /// Who asked for it, for people.
        trigger: String,
    },
    /// Stop every server, side by side, and end the daemon. A second one joins the first, and kills if it is forced.
    ShutDown {
        /// Who asked for it, for people.
        trigger: String,
        /// Kill at once.
        force: bool,
    },
}

/// Starts, signals and inspects processes. Owner: launcher.
#[derive(Debug, Clone, PartialEq)]
pub enum LaunchCommand {
    /// Launch a server.
    LaunchServer {
        /// The server.
        server: ServerId,
        /// The number that the launch gets.
        incarnation: Incarnation,
    },
    /// Send a signal to the process group of a launch, followed by CONT if it would stay pending otherwise.
    DeliverSignal {
        /// The server.
        server: ServerId,
        /// The launch.
        incarnation: Incarnation,
        /// The signal.
        signal: Signal,
        /// The step of the ladder that it belongs to.
        rung: Rung,
    },
    /// Identify the process that listens on the port of a launch; answered by a `ListenerIdentified` event.
    IdentifyListener {
        /// The server.
        server: ServerId,
        /// The launch.
        incarnation: Incarnation,
    },
}

/// Ends processes. Owner: terminator.
#[derive(Debug, Clone, PartialEq)]
pub enum TerminateCommand {
    /// Send the signals of the ladder until the process is gone. A repeated command joins the first; grace 0 kills at once.
    TerminateServer {
        /// The server.
        server: ServerId,
        /// The launch.
        incarnation: Incarnation,
        /// Why the launch is stopped.
        reason: StopReason,
        /// Time before KILL; absent means the server's configured one.
        grace: Option<Duration>,
    },
}

/// Runs the hooks that a launch or a stop waits for. Owner: hooks. The result is a `HookCompleted` event about that launch; the
/// other hooks follow events and are not requested.
#[derive(Debug, Clone, PartialEq)]
pub enum HookCommand {
    /// Run the `pre-start` hook. It is cancelled if its launch is stopped or fails.
    RunPreStart {
        /// The server.
        server: ServerId,
        /// The launch that waits for it.
        incarnation: Incarnation,
    },
    /// Run the `pre-stop` hook. It is cancelled if the process is gone.
    RunPreStop {
        /// The server.
        server: ServerId,
        /// The launch that is stopped.
        incarnation: Incarnation,
        /// Why the launch is stopped.
        reason: StopReason,
        /// Longest time from now to its end; the time that it waits for another hook of the server counts.
        limit: Duration,
    },
}

/// Closes and opens the way of requests to a server. Owner: router.
#[derive(Debug, Clone, PartialEq)]
pub enum RouteCommand {
    /// Send no further request to a launch: new ones wait. One whose launch the router does not know is accepted.
    ReleaseServer {
        /// The server.
        server: ServerId,
        /// The launch.
        incarnation: Incarnation,
        /// Zero: accepted only where nothing is in flight, else refused with `in-use`, and then the way stays open. No event follows.
        /// More: accepted, and `ServerReleased` follows once nothing is in flight, or after this time; `Duration::MAX` is without a
        /// limit. A repeated command joins the first, and may shorten its time.
        drain: Duration,
    },
    /// Send requests to a launch again: it is not stopped after all. No `ServerReleased` follows any more.
    ReopenServer {
        /// The server.
        server: ServerId,
        /// The launch.
        incarnation: Incarnation,
    },
}

/// Checks servers. Owner: health.
#[derive(Debug, Clone, PartialEq)]
pub enum HealthCommand {
    /// Check a ready server at once, because it has just answered a request as if it were not. A `HealthProbed` that is ok follows once
    /// it answers as ready, also where nothing has changed; until then it is checked every second, unless it is lost.
    CheckServer {
        /// The server.
        server: ServerId,
        /// The launch.
        incarnation: Incarnation,
    },
}

/// A command that its owner did not accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Refused {
    /// The reason, from the closed set.
    pub reason: RefusalReason,
    /// The reason in words, with the next step where there is one.
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
/// A component that is compiled in brings its own set: an enum that implements this trait.
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

impl SuperviseCommand {
    /// The server that it is about; `None` for the fleet or the daemon as a whole.
    pub const fn server(&self) -> Option<&ServerId> {
        match self {
            Self::StartServer { server }
            | Self::StopServer { server, .. }
            | Self::RestartServer { server, .. }
            | Self::UnloadServer { server }
            | Self::WantServer { server, .. }
            | Self::UnwantServer { server }
            | Self::ChangeBuild { server, .. } => Some(server),
            Self::ActivateProfile { .. } | Self::Reload { .. } | Self::HandOver { .. } | Self::ShutDown { .. } => None,
        }
    }

    /// What `CommandAccepted` says of it.
    pub fn summary(&self) -> CommandSummary {
        match self {
            Self::StartServer { .. } | Self::WantServer { .. } => CommandSummary::Start,
            Self::UnloadServer { .. } | Self::UnwantServer { .. } => CommandSummary::Unload,
            Self::StopServer { force, .. } => CommandSummary::Stop { force: *force },
            Self::RestartServer { force, .. } => CommandSummary::Restart { force: *force },
            Self::ChangeBuild { change, .. } => CommandSummary::ChangeBuild { build: change.clone() },
            Self::ActivateProfile { profile, .. } => CommandSummary::ActivateProfile { profile: profile.clone() },
            Self::Reload { .. } => CommandSummary::Reload,
            Self::HandOver { .. } => CommandSummary::HandOver,
            Self::ShutDown { .. } => CommandSummary::ShutDown,
        }
    }
}

impl CommandSet for SuperviseCommand {
    const NAME: &'static str = "supervise";

    fn is_urgent(&self) -> bool {
        matches!(self, Self::StopServer { .. } | Self::HandOver { .. } | Self::ShutDown { .. })
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

impl CommandSet for RouteCommand {
    const NAME: &'static str = "route";
}

impl CommandSet for HealthCommand {
    const NAME: &'static str = "health";
}

impl CommandSet for HookCommand {
    const NAME: &'static str = "hook";

    fn is_urgent(&self) -> bool {
        matches!(self, Self::RunPreStop { .. })
    }
}
