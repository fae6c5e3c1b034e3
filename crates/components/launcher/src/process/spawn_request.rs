//! What a spawn needs.

use std::ffi::OsString;
use std::path::PathBuf;

use super::environment::ChildEnvironment;

/// The executable that becomes a llama-server after it has prepared itself; see [`crate::shim`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ShimProgram {
    /// The daemon's own executable, whose `main` calls [`shim::run_if_requested`].
    #[default]
    OwnExecutable,
    /// Another executable that does.
    Path(PathBuf),
    /// None: the program is spawned as a group leader, and outlives the daemon.
    None,
}

/// What to run.
#[derive(Debug, Clone)]
pub(crate) struct SpawnRequest {
    pub(crate) shim: ShimProgram,
    /// Absolute: std forks instead of using `posix_spawn` for a bare name with a cleared environment.
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// The whole environment.
    pub(crate) environment: ChildEnvironment,
    /// The file that the process and its descendants hold; the shim opens it.
    pub(crate) lock: Option<PathBuf>,
}
