//! A program to run, with its environment and lock, and the shim to run it through.

use std::ffi::OsString;
use std::path::PathBuf;

use super::environment::ChildEnvironment;

/// The executable that prepares its own process and then becomes the program; see [`crate::shim`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ShimProgram {
    /// The daemon's own executable, whose `main` calls [`crate::shim::run_if_requested`].
    #[default]
    OwnExecutable,
    /// Another executable whose `main` does the same.
    Path(PathBuf),
    /// No shim: the program is spawned as a group leader, and outlives the daemon.
    None,
}

/// A program to run.
#[derive(Debug, Clone)]
pub struct SpawnRequest {
    /// The program that prepares the process.
    pub shim: ShimProgram,
    /// Absolute: std forks instead of using `posix_spawn` for a bare name with a cleared environment.
    pub program: PathBuf,
    /// The arguments after the name of the program.
    pub arguments: Vec<OsString>,
    /// All its variables.
    pub environment: ChildEnvironment,
    /// The lock's file, which the shim opens and the process and its descendants hold.
    pub lock: Option<PathBuf>,
}
