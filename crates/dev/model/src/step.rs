//! The steps of a run. Each is independent of the others, so that a failing run can be shortened by leaving steps out: a step that
//! does not fit does nothing.

use std::time::Duration;

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub enum SimulationStep {
    /// Somebody sends a command.
    Command(UserCommand),
    /// The oldest published events get their numbers.
    Sequence(u8),
    /// A component reads its next event or command.
    Read {
        /// The component.
        part: Part,
        /// Whether a command comes before an event, where there are both.
        command_first: bool,
    },
    /// A component has missed every event that it did not read.
    Miss(Part),
    /// A task of a component is done: an answer, a probe, a check, a resolution.
    Finish {
        /// The component.
        part: Part,
        /// Which of its tasks.
        task: u8,
    },
    /// A component does what is due.
    Deadline(Part),
    /// Time passes.
    Wait(Duration),
    /// The task of a launch goes on.
    Launch {
        /// The number of the server.
        server: u8,
        /// What comes of its preparation, if that ends now.
        outcome: Preparation,
    },
    /// A process of a server does something.
    Process {
        /// The number of the server.
        server: u8,
        /// What it does.
        act: Act,
    },
    /// A request for a server, through the router.
    Traffic {
        /// The number of the server.
        server: u8,
        /// What happens to it.
        traffic: Traffic,
    },
    /// Something outside changes.
    Outside(Outside),
    /// Everything that can happen without time passing happens.
    Settle,
}

/// A component of the simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// What runs.
    Supervisor,
    /// Starts processes; played by the simulation.
    Launcher,
    /// How a launch stops.
    Terminator,
    /// Whether a launch is ready.
    Readiness,
    /// Whether a ready server is alive.
    Health,
    /// Runs `pre-stop`; played by the simulation.
    Hooks,
    /// Sends requests to servers; played by the simulation.
    Router,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Supervisor, Self::Launcher, Self::Terminator, Self::Readiness, Self::Health, Self::Hooks, Self::Router];
}

/// A command of a person or a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserCommand {
    /// Start a server.
    Start(u8),
    /// Stop a server.
    Stop(u8, StopHaste),
    /// Restart a server.
    Restart(u8, StopHaste),
    /// Stop a server until somebody wants it.
    Unload(u8),
    /// Read the configuration again.
    Reload,
    /// Activate the profile whose servers are these bits; 0 is no profile.
    Profile(u8),
    /// Say what activating it would do.
    Preview(u8),
    /// End the daemon.
    ShutDown(StopHaste),
}

/// How a stop is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopHaste {
    /// Within the configured grace.
    Graceful,
    /// Within a second.
    Short,
    /// By KILL at once.
    Forced,
}

/// What happens to the requests for a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// One comes: it is sent, or waits.
    Request,
    /// One in flight ends.
    Respond,
    /// Those that wait go away.
    Leave,
}

/// What comes of the preparation of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preparation {
    /// Its process is spawned.
    Spawned,
    /// The executable cannot be executed.
    ExecFails,
    /// The executable is broken until its file changes.
    Broken,
    /// The model is not there yet.
    ModelMissing,
    /// The model is invalid until its file changes.
    ModelInvalid,
    /// An option is wrong.
    BadArgument,
    /// Another server has the port.
    PortTaken,
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Listens and answers 503.
    Load,
    /// Answers 200; ends instead where a stranger has its port.
    Serve,
    /// Computes and does not answer.
    Compute,
    /// Takes connections, and neither answers nor computes any more.
    Hang,
    /// Ends with this code.
    Exit(u8),
    /// Dies by ABRT.
    Crash,
    /// Is killed by the kernel for want of memory.
    RunOutOfMemory,
    /// Ignores TERM and INT from now on.
    IgnoreSignals,
    /// Cannot die until it is released.
    GetStuck,
    /// Can die again.
    GetReleased,
    /// Dies of the signals that it got.
    Obey,
    /// Serves another model.
    ServeOther,
    /// Writes a line that looks like readiness.
    Hint,
    /// Writes many lines, and progress.
    Storm,
}

/// A change outside the daemon and its servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outside {
    /// The configuration file has another text: the state of each server, see [`crate::configuration`].
    EditFile([u8; crate::SERVERS]),
    /// The configuration file is invalid until the next edit.
    BreakFile,
    /// A stranger takes the port of a server.
    TakePort(u8),
    /// A stranger leaves the port of a server.
    LeavePort(u8),
    /// This many servers fit into memory.
    Memory(u8),
    /// The file that a server failed for changes.
    FileChanges(u8),
}
