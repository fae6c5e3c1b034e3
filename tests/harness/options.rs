//! Options for the start of a daemon that are not part of its configuration.

use std::fs::File;
use std::io::{PipeWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// Options for the start of a daemon that are not part of its configuration.
#[derive(Debug, Clone, Default)]
pub struct DaemonOptions {
    /// A program that runs the daemon, with its arguments, such as `unshare --pid`. Empty: the daemon is started directly.
    pub under: Vec<String>,
    /// The daemon's executable, where it is another than the one under test.
    pub program: Option<PathBuf>,
    /// Variables in addition to PATH and HOME, the only ones that the daemon gets otherwise.
    pub environment: Vec<(String, String)>,
    /// Arguments after `up`.
    pub arguments: Vec<String>,
    /// Where its standard output and standard error go.
    pub output: DaemonOutput,
}

/// The words that run a program in namespaces of its own: `unshare` with `arguments`. Without root, the namespaces lie in a user
/// namespace. Where the kernel permits neither, `unshare` fails, and so does the test.
pub fn own_namespaces(arguments: &[&str]) -> Vec<String> {
    let user: &[&str] = if nix::unistd::geteuid().is_root() { &[] } else { &["--user", "--map-root-user"] };
    ["unshare"].iter().chain(user).chain(arguments).map(|word| (*word).to_owned()).collect()
}

/// Where the standard output and standard error of a daemon go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DaemonOutput {
    /// A file in the sandbox, which [`TestDaemon::log`](crate::TestDaemon::log) reads.
    #[default]
    File,
    /// A pipe whose reader is closed: writes fail with EPIPE.
    Closed,
    /// `/dev/full`: writes fail with ENOSPC.
    Full,
    /// A full pipe without a reader: writes block.
    Blocked,
}

impl DaemonOutput {
    pub(crate) fn open(self, log: &Path) -> Stdio {
        match self {
            Self::File => {
                File::options().create(true).append(true).open(log).expect("the sandbox can be written").into()
            }
            Self::Full => File::options().write(true).open("/dev/full").expect("the kernel has it").into(),
            Self::Closed => {
                let (reader, writer) = std::io::pipe().expect("a pipe");
                drop(reader);
                writer.into()
            }
            Self::Blocked => blocked_pipe().into(),
        }
    }
}

/// The writing end of a full pipe. The reading end is leaked, so that it stays open as long as the test runs.
fn blocked_pipe() -> PipeWriter {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("a pipe takes flags");
    while writer.write(&[b'x'; 4096]).is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).expect("a pipe takes flags");
    std::mem::forget(reader);
    writer
}
