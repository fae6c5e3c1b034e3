//! Measures the processor time that health checks of a hundred ready servers cost: the time of a daemon with the default
//! interval, less the time of a daemon whose next check is an hour away. Both run at once, under the same load.

use std::path::Path;
use std::thread;
use std::time::Duration;

use llama_warden_test_parts::error::Error;

use crate::Effort;
use crate::daemon::MeasuredDaemon;
use crate::figure::Figure;
use crate::fleet::{Pace, StandInFleet};
use crate::procfs;
use crate::programs::{self, Programs};
use crate::targets::WATCHING;

const SERVERS: usize = 100;
/// The default of `health.interval`.
const INTERVAL: Duration = Duration::from_secs(10);

/// Measures both daemons over the same time windows.
///
/// # Errors
/// When a daemon does not run, or a server does not become ready.
pub fn measure(programs: &Programs, effort: Effort) -> Result<Vec<Figure>, Error> {
    let homes = [programs::empty_folder()?, programs::empty_folder()?];
    let watching = watched(programs, homes[0].path(), "")?;
    let resting = watched(programs, homes[1].path(), "[health]\ninterval = \"1h\"\n")?;
    resting.wait_until_idle()?;
    // The first check of each server publishes an event; later checks do not while the server is well. This leaves it out.
    thread::sleep(INTERVAL);
    let (mut health, mut rest) = (Vec::new(), Vec::new());
    let window = INTERVAL * effort.pick(4, 2);
    for _ in 0..effort.pick(5, 1) {
        let daemons = [&watching, &resting];
        let before = times(daemons)?;
        // There is no event to wait for: the cost of time that passes is what is measured.
        thread::sleep(window);
        let after = times(daemons)?;
        let [watched, rested] =
            [0, 1].map(|daemon| (after[daemon] - before[daemon]).as_secs_f64() / window.as_secs_f64() * 100.0);
        health.push(watched - rested);
        rest.push(rested);
    }
    watching.stop()?;
    resting.stop()?;
    Ok(vec![WATCHING.figure(health, rest)])
}

/// Starts a daemon and all its servers.
fn watched(programs: &Programs, home: &Path, health: &str) -> Result<MeasuredDaemon, Error> {
    let mut fleet = StandInFleet::write(programs, home, &[Pace::default(); SERVERS])?;
    let ids = fleet.ids.clone();
    fleet.add_profile("all", &ids);
    let daemon = MeasuredDaemon::start(&programs.daemon, home, &format!("{health}{}", fleet.sections))?;
    daemon.time(&["profile", "switch", "--wait", "all"])?;
    Ok(daemon)
}

fn times(daemons: [&MeasuredDaemon; 2]) -> Result<[Duration; 2], Error> {
    let [watching, resting] = daemons.map(|daemon| procfs::processor_time(daemon.pid()));
    Ok([watching?, resting?])
}
