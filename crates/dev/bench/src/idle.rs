//! What a daemon costs while nothing happens: memory, wake-ups, and memory for each further server.
//!
//! Servers are stand-ins that are ready and say as much as a llama-server does. Wake-ups are the sleeps that end: voluntary
//! context switches of all threads. The health interval is longer than the measurement, so that none is due.
//!
//! The daemon is the one of the `dist` profile: see [`Programs::as_shipped`].
//!
//! Memory of a further server is the growth of anonymous memory (heap and stacks; pages of the program file are shared by all)
//! from 3 to 103 servers that have filled both of their log rings, less the size of those rings. Both daemons are new, so that
//! it holds what was freed and not given back too.

use std::fmt::Write as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use xtask::error::{Error, OnPath};

use crate::Effort;
use crate::daemon::MeasuredDaemon;
use crate::figure::{Baseline, Budget, Figure, Samples, Unit};
use crate::procfs;
use crate::programs::{self, Programs, quoted};

const FEW: usize = 3;
const MANY: usize = 103;
/// KiB of a server's two log rings, by default.
const RINGS: f64 = 2.0 * 256.0;

/// How much a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OutputVolume {
    /// What a llama-server says by default.
    Usual,
    /// As much as fits into its rings, and more.
    Floods,
}

impl OutputVolume {
    const fn script(self) -> &'static str {
        match self {
            Self::Usual => r#"{"max_life_s": 300}"#,
            Self::Floods => {
                r#"{"max_life_s": 300, "acts": [
                    {"at": "ready", "do": {"flood": {"megabytes": 1, "stream": "stderr"}}},
                    {"at": "ready", "do": {"flood": {"megabytes": 1, "stream": "stdout"}}}]}"#
            }
        }
    }
}

/// An idle daemon, as measured.
#[derive(Debug, Clone, Copy)]
struct Idle {
    /// MiB in RAM.
    resident: f64,
    /// Sleeps that ended within ten seconds.
    wakeups: f64,
}

/// Measures daemons with no, three and 103 servers.
///
/// # Errors
/// When one of them does not run.
pub fn measure(programs: &Programs, effort: Effort) -> Result<Vec<Figure>, Error> {
    let (mut none, mut few, mut further) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.pick(3, 1) {
        none.push(idle(programs, 0, effort)?);
        few.push(idle(programs, FEW, effort)?);
        further.push((anonymous(programs, MANY)? - anonymous(programs, FEW)?) / (MANY - FEW) as f64 - RINGS);
    }
    let resident = |idle: &[Idle]| Samples::of(idle.iter().map(|idle| idle.resident));
    let wakeups = |idle: &[Idle]| Samples::of(idle.iter().map(|idle| idle.wakeups));
    Ok(vec![
        Figure {
            name: "idle memory with 3 servers",
            unit: Unit::Mebibytes,
            samples: resident(&few),
            baseline: Baseline { what: "without servers", samples: resident(&none) },
            budget: Budget::never_over(10.0),
        },
        Figure {
            name: "idle wake-ups in 10 s",
            unit: Unit::Times,
            samples: wakeups(&few),
            baseline: Baseline { what: "without servers", samples: wakeups(&none) },
            // What a kernel does to threads now and then; a timer of one second would be ten.
            budget: Budget::never_over(2.0),
        },
        Figure {
            name: "memory of a further server",
            unit: Unit::Kibibytes,
            samples: Samples::of(further),
            baseline: Baseline { what: "its two log rings", samples: Samples::of([RINGS]) },
            budget: Budget::never_over(16.0),
        },
    ])
}

fn idle(programs: &Programs, servers: usize, effort: Effort) -> Result<Idle, Error> {
    let home = programs::empty_folder()?;
    let daemon = settled(programs, home.path(), servers, OutputVolume::Usual)?;
    let before = procfs::sleeps(daemon.pid())?;
    let window = Duration::from_secs(effort.pick(10, 3));
    // Nothing is awaited: that nothing happens meanwhile is what is measured.
    thread::sleep(window);
    let sleeps = procfs::sleeps(daemon.pid())?.saturating_sub(before);
    let memory = procfs::memory(daemon.pid())?;
    daemon.stop()?;
    Ok(Idle { resident: memory.resident as f64 / 1024.0, wakeups: sleeps as f64 * 10.0 / window.as_secs_f64() })
}

/// KiB that belong to no file, of a daemon whose servers have filled their rings.
fn anonymous(programs: &Programs, servers: usize) -> Result<f64, Error> {
    let home = programs::empty_folder()?;
    let daemon = settled(programs, home.path(), servers, OutputVolume::Floods)?;
    let memory = procfs::memory(daemon.pid())?;
    daemon.stop()?;
    Ok(memory.anonymous as f64)
}

/// A daemon whose servers are all ready and that has come to rest.
fn settled(programs: &Programs, home: &Path, servers: usize, talk: OutputVolume) -> Result<MeasuredDaemon, Error> {
    let model = programs::model(home, "tiny", 0)?;
    let script = home.join("tiny.gguf.stand-in.json");
    std::fs::write(&script, talk.script()).on("write", &script)?;
    let mut sections =
        format!("[llama-server]\nbinary = {}\n[health]\ninterval = \"1h\"\n", quoted(&programs.stand_in));
    let ids: Vec<String> = (0..servers).map(|number| format!("s{number}")).collect();
    for (id, port) in ids.iter().zip(programs::free_ports(servers)?) {
        let model = quoted(&model);
        // Writing into a string cannot fail.
        let _ = writeln!(sections, "[[servers]]\nid = \"{id}\"\nmodel = {model}\nport = {port}");
    }
    let daemon = MeasuredDaemon::start(&programs.daemon, home, &sections)?;
    if !ids.is_empty() {
        let ids = ids.iter().map(String::as_str);
        let wait: Vec<&str> = ["wait", "--timeout", "60s"].into_iter().chain(ids).collect();
        daemon.ask(&wait)?;
    }
    daemon.wait_until_idle()?;
    Ok(daemon)
}
