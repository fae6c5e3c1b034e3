//! A program to run, with its environment and its lock.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::environment::ChildEnvironment;
use super::wire::{Keeping, SpawnOrder};

/// The executable whose `main` calls [`guardian::run_if_requested`](crate::guardian::run_if_requested).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum GuardianProgram {
    /// This process' own executable.
    #[default]
    OwnExecutable,
    /// Another one.
    Path(PathBuf),
}

/// A program to run.
#[derive(Debug, Clone)]
pub struct SpawnRequest {
    /// What people see the shim named as, in at most 15 bytes.
    pub name: String,
    /// The program: a path, or a name that is looked for in the `PATH` of its environment.
    pub program: PathBuf,
    /// The arguments after the name of the program.
    pub arguments: Vec<OsString>,
    /// All its variables.
    pub environment: ChildEnvironment,
    /// The lock's file, which the process and its descendants hold.
    pub lock: Option<PathBuf>,
    /// Whether processes that outlive the program may run on until the daemon ends. Otherwise they are killed at its end.
    pub may_leave_descendants: bool,
    /// How the next daemon can find it; `None` for what never outlives its daemon.
    pub kept: Option<KeptProgram>,
}

/// How a program can outlive its daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptProgram {
    /// The folder of the sockets at which the next daemon finds it.
    pub folder: PathBuf,
    /// The name of its socket, before the process id of its shim.
    pub name: String,
    /// The note about it that the next daemon reads.
    pub note: String,
    /// Whether it does so however the daemon ends. Otherwise only when it is [left](crate::child_process::ChildProcess::leave).
    pub outlives: bool,
}

impl SpawnRequest {
    /// The first message to a shim, and its body: program, arguments and variables, with a NUL between two.
    pub(crate) fn order(&self) -> (SpawnOrder, Vec<u8>) {
        let order = SpawnOrder {
            name: self.name.clone(),
            lock: self.lock.clone(),
            arguments: self.arguments.len(),
            may_leave_descendants: self.may_leave_descendants,
            outlives: self.kept.as_ref().is_some_and(|kept| kept.outlives),
            note: self.kept.as_ref().map(|kept| kept.note.clone()).unwrap_or_default(),
            keeping: self.kept.clone().map(|KeptProgram { folder, name, .. }| Keeping { folder, name }),
        };
        let words = std::iter::once(self.program.as_os_str()).chain(self.arguments.iter().map(OsString::as_os_str));
        let mut block = words.map(OsStr::as_bytes).collect::<Vec<_>>().join(&0);
        for (name, value) in &self.environment {
            block.push(0);
            block.extend(name.as_bytes());
            block.push(b'=');
            block.extend(value.as_bytes());
        }
        (order, block)
    }
}
