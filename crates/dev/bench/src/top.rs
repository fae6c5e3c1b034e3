//! Measures the processor time of `top` on a terminal of 50 rows with five hundred servers, beside that of the daemon meanwhile.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use llama_warden_test_parts::error::{Error, OnPath};

use crate::Effort;
use crate::daemon::WAIT_LIMIT;
use crate::figure::Figure;
use crate::idle::{self, OutputVolume};
use crate::procfs;
use crate::programs::{self, Programs, shell_word};
use crate::targets::TOP;

const SERVERS: usize = 500;

/// Measures `top` while nothing happens.
///
/// # Errors
/// When the daemon does not run, or there is no `script` that provides a terminal.
pub fn measure(programs: &Programs, effort: Effort) -> Result<Vec<Figure>, Error> {
    let home = programs::empty_folder()?;
    let daemon = idle::settled(programs, home.path(), SERVERS, OutputVolume::Usual)?;
    let top = daemon.command(&["top"]);
    let words = std::iter::once(top.get_program()).chain(top.get_args()).map(|word| shell_word(word.as_ref()));
    let line = format!("stty rows 50 cols 160; exec {}", words.collect::<Vec<_>>().join(" "));
    let mut terminal = Command::new("script");
    // Its input stays open: at its end, the terminal is closed.
    terminal.args(["--quiet", "--flush", "--command", &line, "/dev/null"]).env("TERM", "xterm-256color");
    terminal.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut terminal = terminal.spawn().on("start", "script".as_ref())?;
    let measured = measure_below(terminal.id(), daemon.pid(), effort);
    // An error means that it has ended.
    let _ = terminal.kill();
    let _ = terminal.wait();
    let (ours, daemons) = measured?;
    daemon.stop()?;
    Ok(vec![TOP.figure(ours, daemons)])
}

fn measure_below(terminal: u32, daemon: u32, effort: Effort) -> Result<(Vec<f64>, Vec<f64>), Error> {
    let deadline = Instant::now() + WAIT_LIMIT;
    let top = loop {
        let child = procfs::children(terminal).into_keys().next();
        let is_top = |pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("llama-warden"))
        };
        if let Some(child) = child.filter(is_top) {
            break child;
        }
        if Instant::now() > deadline {
            return Err(Error::missing("`top` does not start on a terminal", "install util-linux, which has `script`"));
        }
        // Nothing signals that another process executes a program, so this polls.
        thread::sleep(Duration::from_millis(10));
    };
    let window = Duration::from_secs(effort.pick(20, 5));
    // The first picture, and the files of the program, are no part of it.
    thread::sleep(Duration::from_secs(2));
    let (mut ours, mut daemons) = (Vec::new(), Vec::new());
    for _ in 0..effort.pick(3, 1) {
        let before = [procfs::processor_time(top)?, procfs::processor_time(daemon)?];
        // There is no event to wait for: the cost of time that passes is what is measured.
        thread::sleep(window);
        let share = |pid, before| {
            procfs::processor_time(pid).map(|now| (now - before).as_secs_f64() / window.as_secs_f64() * 100.0)
        };
        ours.push(share(top, before[0])?);
        daemons.push(share(daemon, before[1])?);
    }
    Ok((ours, daemons))
}
