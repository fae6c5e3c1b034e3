//! Child processes of the stand-in: the same program with a hidden first argument.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::process::CommandExt,
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{SigSet, Signal},
    unistd::{alarm, setsid},
};
use serde::{Deserialize, Serialize};

use crate::{
    ending,
    output::{self, Stream},
};

const ROLE_LIVE: &str = "--stand-in-grandchild";
const ROLE_DETACH: &str = "--stand-in-detach";
const ROLE_END: &str = "--stand-in-end";
/// The longest lifetime of a grandchild, in milliseconds.
const LONGEST_LIFE_MS: u64 = 60_000;

/// The behaviour of grandchildren (children of the stand-in, and so grandchildren of the daemon).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grandchild {
    /// The number of grandchildren. Spawning stops at the first error.
    pub count: u32,
    /// The lifetime of each in milliseconds; at most 60 000.
    pub life_ms: u64,
    /// Block TERM, INT and HUP.
    pub ignore_term: bool,
    /// Print a line to stderr at this interval in milliseconds.
    pub chat_every_ms: Option<u64>,
    /// Start a new session through an intermediate process that exits, so that init or the nearest subreaper is the parent.
    pub detach: bool,
    /// Start with an empty environment.
    pub scrub_env: bool,
    /// Inherit stdout and stderr of the stand-in, instead of `/dev/null`.
    pub hold_pipe: bool,
    /// Inherit the listening socket, so that the port stays in use. A stop does not shut the socket down then.
    pub hold_port: bool,
}

impl Default for Grandchild {
    fn default() -> Self {
        Self {
            count: 1,
            life_ms: 30_000,
            ignore_term: false,
            chat_every_ms: None,
            detach: false,
            scrub_env: false,
            hold_pipe: true,
            hold_port: false,
        }
    }
}

impl Grandchild {
    /// Starts the grandchildren. `program` is the `argv[0]` of this process, by which llama-warden recognises its stand-in.
    pub(crate) fn spawn(&self, program: &OsStr) -> io::Result<()> {
        let role = if self.detach { ROLE_DETACH } else { ROLE_LIVE };
        let settings = serde_json::to_string(self)?;
        for _ in 0..self.count {
            let mut command = own_program(program)?;
            command.args([role, &settings]).stdin(Stdio::null());
            if self.scrub_env {
                command.env_clear();
            }
            if !self.hold_pipe {
                command.stdout(Stdio::null()).stderr(Stdio::null());
            }
            let child = command.spawn()?;
            // Reaped in a thread, since only the action `zombies` leaves zombies.
            thread::Builder::new().spawn(move || reap(child))?;
        }
        Ok(())
    }
}

/// Starts a child that exits at once and is never reaped.
pub(crate) fn spawn_zombie(program: &OsStr) -> io::Result<()> {
    // Dropping a `Child` does not reap it.
    own_program(program)?.arg(ROLE_END).stdin(Stdio::null()).spawn().map(drop)
}

/// Runs as a grandchild if the arguments ask for it; `None` otherwise.
pub(crate) fn run_if_asked(args: &[OsString]) -> Option<ExitCode> {
    let program = args.first()?;
    let role = args.get(1)?.to_str()?;
    if role == ROLE_END {
        return Some(ExitCode::SUCCESS);
    }
    if role != ROLE_LIVE && role != ROLE_DETACH {
        return None;
    }
    let settings = args.get(2)?;
    let Ok(grandchild) = serde_json::from_str::<Grandchild>(&settings.to_string_lossy()) else {
        return Some(ExitCode::FAILURE);
    };
    let done = if role == ROLE_DETACH { detach(program, settings) } else { live(&grandchild) };
    Some(if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn detach(program: &OsStr, settings: &OsStr) -> io::Result<()> {
    setsid()?;
    own_program(program)?.arg(ROLE_LIVE).arg(settings).spawn().map(drop)
}

fn live(grandchild: &Grandchild) -> io::Result<()> {
    // The child inherits the blocked signals of the stand-in.
    ending::handled_signals().thread_unblock()?;
    let life = Duration::from_millis(grandchild.life_ms.min(LONGEST_LIFE_MS));
    // The alarm also ends a process that is blocked in a write.
    alarm::set(life.as_secs() as u32 + 1);
    if grandchild.ignore_term {
        let mut set = SigSet::empty();
        [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().for_each(|signal| set.add(signal));
        set.thread_block()?;
    }
    let deadline = Instant::now() + life;
    let Some(every_ms) = grandchild.chat_every_ms else {
        thread::sleep(life);
        return Ok(());
    };
    // Output begins at once: a test may wait for the first line to know that the grandchild runs.
    for line in 1_u64.. {
        if Instant::now() >= deadline {
            break;
        }
        output::write(Stream::Stderr, format!("grandchild {} line {line}\n", std::process::id()));
        thread::sleep(Duration::from_millis(every_ms.max(1)));
    }
    Ok(())
}

/// Waits for a child, only so that it does not stay a zombie.
fn reap(mut child: Child) {
    let _ = child.wait();
}

fn own_program(program: &OsStr) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg0(program);
    Ok(command)
}
