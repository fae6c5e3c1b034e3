//! The re-exec shim: prepares a process between fork and exec, in a program of its own.
//!
//! A closure between fork and exec (`pre_exec`) would make std give up `posix_spawn`, and copying the page tables of a
//! large daemon costs 5 ms to 155 ms per launch (measured). So the daemon spawns *itself* under the name
//! [`NAME`]; `main` calls [`run_if_requested`] first; the shim prepares its own process and becomes the target:
//!
//! 1. It starts a session of its own: a group to signal, and no controlling terminal that could send it Ctrl-C.
//! 2. It asks the kernel to kill it when the thread that spawned it ends. It recognises by the parent's id whether the parent
//!    died before that.
//! 3. It closes every descriptor but the three standard ones.
//! 4. It opens the instance lock, which the target and its descendants keep.
//! 5. Standard input carries the write end of a pipe. The shim moves it to a close-on-exec descriptor and puts
//!    `/dev/null` in its place. A successful exec closes the pipe; after a failed one the shim writes its errno, an `i32` in
//!    little endian, first.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{dup2_stdin, getppid, setsid};

use super::lock;
use super::spawn_request::SpawnRequest;

/// The `argv[0]` under which the daemon's own executable acts as the shim.
pub const NAME: &str = "llama-warden-shim";

/// Executes the program that the arguments name, if the first is [`NAME`]. Returns then only if that failed.
///
/// Call it first thing in `main`, before any thread exists: `if let Some(code) = shim::run_if_requested(args_os())
/// { return code }`.
pub fn run_if_requested(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter();
    if arguments.next().is_none_or(|name| name != NAME) {
        return None;
    }
    // Without the pipe the error cannot be reported: the daemon sees the exit.
    let Ok(mut errors) = io::stdin().as_fd().try_clone_to_owned().map(File::from) else {
        return Some(ExitCode::FAILURE);
    };
    let error = become_target(arguments, &errors);
    let errno = error.raw_os_error().unwrap_or(0);
    // An error means that the daemon is gone and does not wait for the report.
    let _ = errors.write_all(&errno.to_le_bytes());
    Some(ExitCode::FAILURE)
}

/// The arguments that make the shim carry out `request` for this daemon.
pub fn arguments(request: &SpawnRequest) -> impl Iterator<Item = OsString> {
    let parent = std::process::id().to_string();
    let lock = request.lock.clone().unwrap_or_default();
    let words = [parent.into(), lock.into(), request.program.clone().into()];
    words.into_iter().chain(request.arguments.iter().cloned())
}

fn become_target(mut arguments: impl Iterator<Item = OsString>, errors: &File) -> io::Error {
    let parent = arguments.next().and_then(|parent| parent.to_str()?.parse::<i32>().ok());
    let (Some(parent), Some(lock), Some(program)) = (parent, arguments.next(), arguments.next()) else {
        return io::Error::from(nix::errno::Errno::EINVAL);
    };
    match prepare(parent, Path::new(&lock), errors) {
        // Before exec, std empties the signal mask and resets SIGPIPE to its default action.
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => error,
    }
}

/// Prepares this process. An empty `lock` means that there is none.
fn prepare(parent: i32, lock: &Path, errors: &File) -> io::Result<()> {
    setsid()?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // The parent may have died before prctl was called; the kernel sends no signal then.
    if getppid().as_raw() != parent {
        return Err(nix::errno::Errno::ESRCH.into());
    }
    dup2_stdin(OwnedFd::from(File::open("/dev/null")?))?;
    close_inherited(errors);
    if lock.as_os_str().is_empty() { Ok(()) } else { lock::hold(lock) }
}

/// Closes descriptors that the daemon inherited itself. std opens everything close-on-exec; the program that started the daemon
/// may not.
fn close_inherited(errors: &File) {
    // Collected first: reading the folder takes a descriptor, which is in the list.
    let files: Vec<RawFd> = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for file in files.into_iter().filter(|file| *file > 2 && *file != errors.as_raw_fd()) {
        // An error is expected for the descriptor of the folder, which is closed already.
        let _ = nix::unistd::close(file);
    }
}
