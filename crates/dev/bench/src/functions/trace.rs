//! Runs a program with a breakpoint at the entry of each function, which is removed when it is hit.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::libc::{PTRACE_EVENT_EXEC, SIGTRAP};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::daemon::WAIT_LIMIT;

/// `int3`, which is one byte.
#[cfg(target_arch = "x86_64")]
const BREAKPOINT: [u8; 1] = [0xcc];

/// Traces the process whose id appears in the file `pid` and which stops itself before it becomes `program`, until it and its `driver`,
/// a child of this process, have ended. Returns which of `functions`, given by their addresses in the file, it has entered.
///
/// # Errors
/// When there is no such process, it cannot be traced, or its driver fails.
#[cfg(target_arch = "x86_64")]
pub fn entered(
    pid: &Path,
    program: &Path,
    functions: impl Iterator<Item = u64>,
    driver: u32,
) -> io::Result<BTreeSet<u64>> {
    let pid = stopped(pid)?;
    ptrace::seize(pid, Options::PTRACE_O_TRACEEXEC | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL)?;
    kill(pid, Signal::SIGCONT)?;
    let functions: Vec<u64> = functions.collect();
    let (mut breakpoints, mut entered) = (None, BTreeSet::new());
    loop {
        match waitpid(None, Some(WaitPidFlag::__WALL))? {
            WaitStatus::PtraceEvent(thread, _, PTRACE_EVENT_EXEC) => {
                breakpoints = Some(Breakpoints::set(pid, program, &functions)?);
                ptrace::cont(thread, None)?;
            }
            WaitStatus::PtraceEvent(thread, _, _) => ptrace::cont(thread, None)?,
            WaitStatus::Stopped(thread, signal) if signal as i32 == SIGTRAP => {
                let mut registers = ptrace::getregs(thread)?;
                let address = registers.rip - BREAKPOINT.len() as u64;
                let hit =
                    breakpoints.as_ref().map(|breakpoints: &Breakpoints| breakpoints.remove(address)).transpose()?;
                let hit = hit.flatten();
                if hit.is_some() {
                    registers.rip = address;
                    ptrace::setregs(thread, registers)?;
                }
                entered.extend(hit);
                ptrace::cont(thread, if hit.is_some() { None } else { Some(signal) })?;
            }
            WaitStatus::Stopped(thread, signal) => ptrace::cont(thread, signal)?,
            WaitStatus::Exited(ended, 0) if ended.as_raw().cast_unsigned() == driver => return Ok(entered),
            WaitStatus::Exited(ended, _) | WaitStatus::Signaled(ended, ..)
                if ended.as_raw().cast_unsigned() == driver =>
            {
                return Err(io::Error::other("what drives the daemon has failed"));
            }
            _ => {}
        }
    }
}

/// Only breakpoints of x86-64 are known here.
///
/// # Errors
/// Always.
#[cfg(not(target_arch = "x86_64"))]
pub fn entered(_: &Path, _: &Path, _: impl Iterator<Item = u64>, _: u32) -> io::Result<BTreeSet<u64>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Waits for the process that the file names to stop itself.
fn stopped(pid: &Path) -> io::Result<Pid> {
    let deadline = Instant::now() + WAIT_LIMIT;
    while Instant::now() < deadline {
        let named = fs::read_to_string(pid).ok().and_then(|text| text.trim().parse().ok());
        let is_stopped =
            |pid: &i32| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") T "));
        if let Some(pid) = named.filter(is_stopped) {
            return Ok(Pid::from_raw(pid));
        }
        // Nothing signals to a stranger that a process has stopped, so this polls.
        thread::sleep(Duration::from_millis(10));
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// The breakpoints in the memory of a process.
struct Breakpoints {
    memory: File,
    /// Where the first byte of the program's file lies.
    base: u64,
    /// What was there before, by the address in the file.
    replaced: BTreeMap<u64, [u8; BREAKPOINT.len()]>,
}

impl Breakpoints {
    fn set(pid: Pid, program: &Path, functions: &[u64]) -> io::Result<Self> {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let name = program.display().to_string();
        let first = maps.lines().find(|line| line.ends_with(&name)).and_then(|line| line.split('-').next());
        let base = first.and_then(|start| u64::from_str_radix(start, 16).ok()).ok_or(io::ErrorKind::NotFound)?;
        let memory = File::options().read(true).write(true).open(format!("/proc/{pid}/mem"))?;
        let mut replaced = BTreeMap::new();
        for function in functions {
            let mut bytes = [0; BREAKPOINT.len()];
            memory.read_exact_at(&mut bytes, base + function)?;
            memory.write_all_at(&BREAKPOINT, base + function)?;
            replaced.insert(*function, bytes);
        }
        Ok(Self { memory, base, replaced })
    }

    /// Removes the breakpoint at an address of the process, and returns its address in the file; `None` if there is none.
    fn remove(&self, address: u64) -> io::Result<Option<u64>> {
        let function = address.wrapping_sub(self.base);
        let Some(bytes) = self.replaced.get(&function) else { return Ok(None) };
        self.memory.write_all_at(bytes, address)?;
        Ok(Some(function))
    }
}
