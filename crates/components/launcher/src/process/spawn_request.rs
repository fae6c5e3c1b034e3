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
pub(crate) struct SpawnRequest {
    pub(crate) shim: ShimProgram,
    /// Absolute: std forks instead of using `posix_spawn` for a bare name with a cleared environment.
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// All its variables.
    pub(crate) environment: ChildEnvironment,
    /// The lock's file, which the shim opens and the process and its descendants hold.
    pub(crate) lock: Option<PathBuf>,
}
