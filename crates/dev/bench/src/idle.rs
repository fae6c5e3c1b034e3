//! Measures what a daemon costs while nothing happens: its memory, its wake-ups, and its memory for each further server.
//!
//! Servers are stand-ins that are ready and have written what a llama-server writes. The memory of a daemon is measured in its default
//! configuration, which listens on TCP and has checked the health of its servers once. A wake-up is a sleep that ends: a voluntary context
//! switch of any thread. For wake-ups, the health interval is longer than the measurement, so that no check is due.
//!
//! The daemon is the one of the `dist` profile: see [`Programs::as_shipped`].
//!
//! The memory of a further server is the growth of anonymous memory (heap and stacks; pages of the program file are shared by
//! all) from three servers to [`COUNTS`], divided by the servers between, less what the rings of one server hold. Each daemon
//! is new, so that the figure includes memory that was freed and not given back. It is measured at several counts because an
//! allocator changes its ways with size: a block that is fresh zero pages at first may later lie on pages that were in use.

use std::fmt::Write as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use llama_warden_test_parts::error::{Error, OnPath};

use crate::Effort;
use crate::daemon::MeasuredDaemon;
use crate::figure::{Figure, FigureTarget};
use crate::ports;
use crate::procfs;
use crate::programs::{self, Programs, quoted};
use crate::targets::{
    FURTHER_UP_TO_50, FURTHER_UP_TO_200, FURTHER_UP_TO_500, FURTHER_WITH_FULL_RINGS, IDLE_MEMORY, IDLE_WAKEUPS,
};

const FEW: usize = 3;
/// How many servers there are, what they write, and the figure.
const COUNTS: [(usize, OutputVolume, FigureTarget); 4] = [
    (50, OutputVolume::Usual, FURTHER_UP_TO_50),
    (200, OutputVolume::Usual, FURTHER_UP_TO_200),
    (500, OutputVolume::Usual, FURTHER_UP_TO_500),
    (50, OutputVolume::Floods, FURTHER_WITH_FULL_RINGS),
];
/// Bytes that a ring keeps with each line: its order, its time and its length.
const LINE_HEADER: usize = 16;

/// How much a server writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputVolume {
    /// The usual output of a llama-server.
    Usual,
    /// More than its rings keep.
    Floods,
}

impl OutputVolume {
    const fn script(self) -> &'static str {
        match self {
            Self::Usual => r#"{"max_life_s": 900}"#,
            Self::Floods => {
                r#"{"max_life_s": 900, "acts": [
                    {"at": "ready", "do": {"flood": {"megabytes": 1, "stream": "stderr"}}},
                    {"at": "ready", "do": {"flood": {"megabytes": 1, "stream": "stdout"}}}]}"#
            }
        }
    }
}

/// Longer than the default interval of health checks.
const HEALTH_CHECKED: Duration = Duration::from_secs(12);

/// An idle daemon, as measured.
#[derive(Debug, Clone, Copy)]
struct Idle {
    /// MiB in RAM.
    resident: f64,
    /// Sleeps that ended within ten seconds.
    wakeups: f64,
}

/// A daemon in its default configuration.
#[derive(Debug)]
pub struct UsualDaemon {
    /// The daemon.
    pub daemon: MeasuredDaemon,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

/// The memory of a daemon whose servers have written their lines, in KiB.
#[derive(Debug, Clone, Copy)]
struct Filled {
    /// Anonymous memory.
    anonymous: f64,
    /// The content of the rings of one server.
    rings: f64,
}

/// Measures daemons without servers, with three, and with each of [`COUNTS`].
///
/// # Errors
/// When one of them does not run.
pub fn measure(programs: &Programs, effort: Effort) -> Result<Vec<Figure>, Error> {
    let (mut none, mut few) = (Vec::new(), Vec::new());
    let mut further = COUNTS.map(|_| (Vec::new(), Vec::new()));
    for _ in 0..effort.pick(3, 1) {
        none.push(idle(programs, 0, effort)?);
        few.push(idle(programs, FEW, effort)?);
        let (usual, flooded) =
            (filled(programs, FEW, OutputVolume::Usual)?, filled(programs, FEW, OutputVolume::Floods)?);
        for ((count, volume, _), (own, rings)) in COUNTS.iter().zip(&mut further) {
            let base = if *volume == OutputVolume::Usual { usual } else { flooded };
            let many = filled(programs, *count, *volume)?;
            own.push((many.anonymous - base.anonymous) / (count - FEW) as f64 - many.rings);
            rings.push(many.rings);
        }
    }
    let beside_none =
        |target: FigureTarget, value: fn(&Idle) -> f64| target.figure(few.iter().map(value), none.iter().map(value));
    let mut figures =
        vec![beside_none(IDLE_MEMORY, |idle| idle.resident), beside_none(IDLE_WAKEUPS, |idle| idle.wakeups)];
    figures.extend(COUNTS.iter().zip(further).map(|((_, _, target), (own, rings))| target.figure(own, rings)));
    Ok(figures)
}

fn idle(programs: &Programs, servers: usize, effort: Effort) -> Result<Idle, Error> {
    let home = programs::empty_folder()?;
    let daemon = settled(programs, home.path(), servers, OutputVolume::Usual)?;
    let before = procfs::sleeps(daemon.pid())?;
    let window = Duration::from_secs(effort.pick(10, 3));
    // There is no event to wait for: the figure says that nothing happens in this time.
    thread::sleep(window);
    let sleeps = procfs::sleeps(daemon.pid())?.saturating_sub(before);
    daemon.stop()?;
    let home = programs::empty_folder()?;
    let UsualDaemon { daemon, .. } = usual(programs, home.path(), servers)?;
    let memory = procfs::memory(daemon.pid())?;
    daemon.stop()?;
    Ok(Idle { resident: memory.resident as f64 / 1024.0, wakeups: sleeps as f64 * 10.0 / window.as_secs_f64() })
}

fn filled(programs: &Programs, servers: usize, volume: OutputVolume) -> Result<Filled, Error> {
    let home = programs::empty_folder()?;
    let daemon = settled(programs, home.path(), servers, volume)?;
    let anonymous = procfs::memory(daemon.pid())?.anonymous as f64;
    // Only now: the daemon allocates for its answer.
    let lines = daemon.ask(&["logs", "s0", "--lines", "1000000"])?;
    daemon.stop()?;
    Ok(Filled { anonymous, rings: ring_bytes(&lines) as f64 / 1024.0 })
}

/// The bytes that rings need for these lines.
fn ring_bytes(lines: &str) -> usize {
    lines.lines().map(|line| line.len() + LINE_HEADER).sum()
}

/// A daemon whose servers are all ready and that uses no processor time.
///
/// # Errors
/// When it does not run.
pub fn settled(
    programs: &Programs,
    home: &Path,
    servers: usize,
    volume: OutputVolume,
) -> Result<MeasuredDaemon, Error> {
    settled_with(programs, home, servers, volume, &[("LLAMA_WARDEN_HEALTH__INTERVAL", "1h")])
}

/// A daemon in its default configuration, whose servers are all ready and have been checked.
///
/// # Errors
/// When it does not run.
pub fn usual(programs: &Programs, home: &Path, servers: usize) -> Result<UsualDaemon, Error> {
    let port = ports::free_ports(1)?[0];
    let listen = format!("127.0.0.1:{port}");
    let listens = [("LLAMA_WARDEN_DAEMON__LISTEN", &*listen)];
    let daemon = settled_with(programs, home, servers, OutputVolume::Usual, &listens)?;
    // A check that finds nothing leaves no event.
    thread::sleep(HEALTH_CHECKED);
    Ok(UsualDaemon { daemon, port })
}

fn settled_with(
    programs: &Programs,
    home: &Path,
    servers: usize,
    volume: OutputVolume,
    environment: &[(&str, &str)],
) -> Result<MeasuredDaemon, Error> {
    let model = programs::model(home, "tiny", 0)?;
    let script = home.join("tiny.gguf.stand-in.json");
    std::fs::write(&script, volume.script()).on("write", &script)?;
    let mut sections = format!("[llama-server]\nbinary = {}\n", quoted(&programs.stand_in));
    let ids: Vec<String> = (0..servers).map(|number| format!("s{number}")).collect();
    for (id, port) in ids.iter().zip(ports::free_ports(servers)?) {
        let model = quoted(&model);
        // Writing into a string cannot fail.
        let _ = writeln!(sections, "[[servers]]\nid = \"{id}\"\nmodel = {model}\nport = {port}");
    }
    let daemon = MeasuredDaemon::start_with(&programs.daemon, home, &sections, environment)?;
    // The daemon answers before it has published all of its servers, and `wait` refuses those that it does not know yet.
    daemon.wait_until_idle()?;
    if !ids.is_empty() {
        let ids = ids.iter().map(String::as_str);
        let wait: Vec<&str> = ["wait", "--timeout", "300s"].into_iter().chain(ids).collect();
        daemon.ask(&wait)?;
    }
    daemon.wait_until_idle()?;
    Ok(daemon)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_holds_a_header_with_each_line() {
        assert_eq!(ring_bytes("four\n\nsix is\n"), 4 + 6 + 3 * LINE_HEADER);
    }

    #[test]
    fn every_count_has_a_name_of_its_own() {
        let mut names = COUNTS.map(|(_, _, target)| target.name).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), COUNTS.len());
    }
}
