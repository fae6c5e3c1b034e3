//! The commands: what a component is asked to do. Each set has one owner, fixed at composition.
//!
//! A command is answered at once with *accepted* or [`Refused`]; that it is done is learnt from events.

use std::time::Duration;

use crate::{Incarnation, RefusalReason, Rung, ServerId, Signal, StopReason};

/// Any command, with the set that it belongs to.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// For the owner of desired state.
    Supervise(SuperviseCommand),
    /// For the owner of processes.
    Launch(LaunchCommand),
    /// For the owner of stops.
    Terminate(TerminateCommand),
    /// For the owner of the user's commands.
    Hook(HookCommand),
}

/// The sets of commands. Each has exactly one owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommandKind {
    /// [`SuperviseCommand`].
    Supervise,
    /// [`LaunchCommand`].
    Launch,
    /// [`TerminateCommand`].
    Terminate,
    /// [`HookCommand`].
    Hook,
}

impl CommandKind {
    /// Every set.
    pub const ALL: [Self; 4] = [Self::Supervise, Self::Launch, Self::Terminate, Self::Hook];
}

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

/// A set of commands that one component owns.
pub trait CommandSet: Sized + Send + 'static {
    /// The set, or none for a component that owns nothing.
    const KIND: Option<CommandKind>;

    /// Takes the command out of the general form; gives it back when it belongs to another set.
    fn from_command(command: Command) -> Result<Self, Command>;
}

/// The set of a component that owns no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoCommand {}

impl CommandSet for NoCommand {
    const KIND: Option<CommandKind> = None;

    fn from_command(command: Command) -> Result<Self, Command> {
        Err(command)
    }
}

macro_rules! command_set {
    ($set:ident, $variant:ident) => {
        impl From<$set> for Command {
            fn from(command: $set) -> Self {
                Self::$variant(command)
            }
        }

        impl CommandSet for $set {
            const KIND: Option<CommandKind> = Some(CommandKind::$variant);

            fn from_command(command: Command) -> Result<Self, Command> {
                match command {
                    Command::$variant(command) => Ok(command),
                    other => Err(other),
                }
            }
        }
    };
}

command_set!(SuperviseCommand, Supervise);
command_set!(LaunchCommand, Launch);
command_set!(TerminateCommand, Terminate);
command_set!(HookCommand, Hook);

impl Command {
    /// The set that it belongs to.
    pub const fn kind(&self) -> CommandKind {
        match self {
            Self::Supervise(_) => CommandKind::Supervise,
            Self::Launch(_) => CommandKind::Launch,
            Self::Terminate(_) => CommandKind::Terminate,
            Self::Hook(_) => CommandKind::Hook,
        }
    }

    /// Whether it goes before whatever is queued: stops and kills do.
    pub const fn is_urgent(&self) -> bool {
        match self {
            Self::Supervise(command) => {
                matches!(command, SuperviseCommand::StopServer { .. } | SuperviseCommand::ShutDown { .. })
            }
            Self::Launch(command) => matches!(command, LaunchCommand::DeliverSignal { .. }),
            Self::Terminate(_) => true,
            Self::Hook(command) => matches!(command, HookCommand::RunPreStop { .. }),
        }
    }
}
