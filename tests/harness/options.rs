//! How a daemon is started, beside its configuration.

use std::fs::File;
use std::io::{PipeWriter, Write};
use std::path::Path;
use std::process::Stdio;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// How a daemon is started, beside its configuration.
#[derive(Debug, Clone, Default)]
pub struct DaemonOptions {
    /// A program with arguments that runs the daemon, such as `unshare`.
    pub under: Vec<String>,
    /// Added to its environment, which is empty but for PATH and HOME.
    pub environment: Vec<(String, String)>,
    /// After `up`.
    pub arguments: Vec<String>,
    /// Where its standard output and error go, else into the sandbox's directory.
    pub output: DaemonOutput,
}

/// Where the output of a daemon goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DaemonOutput {
    /// Into a file, which [`TestDaemon::log`](crate::TestDaemon::log) reads.
    #[default]
    File,
    /// Into a pipe whose reader is gone.
    Closed,
    /// To a device that is full.
    Full,
    /// Into a pipe that is full already and that nobody reads.
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

/// The end of a pipe that takes nothing more. The other end stays open as long as the test runs.
fn blocked_pipe() -> PipeWriter {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("a pipe takes flags");
    while writer.write(&[b'x'; 4096]).is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).expect("a pipe takes flags");
    std::mem::forget(reader);
    writer
}
