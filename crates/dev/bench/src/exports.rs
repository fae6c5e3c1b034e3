//! Measures what the export to an OpenTelemetry collector adds to the processor time of a daemon whose servers all start at once,
//! beside the same storm of a daemon that exports nothing.

use std::thread;
use std::time::Duration;

use llama_warden_measured::collector::CountingCollector;
use llama_warden_test_parts::error::Error;

use crate::Effort;
use crate::daemon::MeasuredDaemon;
use crate::figure::Figure;
use crate::fleet::{Pace, StandInFleet};
use crate::follower::EventFollower;
use crate::procfs;
use crate::programs::{self, Programs};
use crate::targets::EXPORTS;

const SERVERS: usize = 50;

/// Storms in one sample. Of a single one, the processor time differs by some 7 % between two daemons that do the same.
const STORMS: usize = 16;

/// Longer than anything waits for its export but metrics, which are sent once a minute.
const EXPORTED: Duration = Duration::from_secs(6);

/// Measures both daemons by turns.
///
/// # Errors
/// When a daemon does not do what it is told, or nothing reaches the collector.
pub fn measure(programs: &Programs, effort: Effort) -> Result<Vec<Figure>, Error> {
    let collector = CountingCollector::start()?;
    let endpoint = collector.endpoint();
    let homes = [programs::empty_folder()?, programs::empty_folder()?];
    let environments: [&[_]; 2] = [&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())], &[]];
    let mut daemons = Vec::new();
    for (home, environment) in homes.iter().zip(environments) {
        let fleet = StandInFleet::write(programs, home.path(), &[Pace::default(); SERVERS])?;
        let daemon = MeasuredDaemon::start_with(&programs.daemon, home.path(), &fleet.sections, environment)?;
        daemons.push((EventFollower::begin(&daemon)?, daemon));
    }
    // The first storm loads what the later ones use.
    let _ = storms(&daemons, 1)?;
    let (mut exporting, mut silent) = (Vec::new(), Vec::new());
    for _ in 0..effort.pick(9, 1) {
        let before = collector.taken();
        let times = storms(&daemons, effort.pick(STORMS, 1))?;
        if collector.taken() == before {
            return Err(Error::missing("nothing reaches the collector", "see the log of the daemon"));
        }
        exporting.push(times[0]);
        silent.push(times[1]);
    }
    daemons.into_iter().try_for_each(|(_, daemon)| daemon.stop())?;
    Ok(vec![EXPORTS.figure(exporting, silent)])
}

/// Starts and stops all servers of each daemon in turn, and returns the milliseconds of processor time that each daemon took.
fn storms(daemons: &[(EventFollower, MeasuredDaemon)], count: usize) -> Result<Vec<f64>, Error> {
    let times =
        || daemons.iter().map(|(_, daemon)| procfs::processor_time(daemon.pid())).collect::<Result<Vec<_>, _>>();
    let before = times()?;
    for storm in 0..count {
        // Whoever comes second finds the files in memory.
        for at in 0..daemons.len() {
            let (events, daemon) = &daemons[(at + storm) % daemons.len()];
            // Not with `--wait`: it asks for the status all the time, and the longer, the more often.
            for (command, done) in [("start", "ReadyReached"), ("stop", "ServerStopped")] {
                daemon.ask(&[command, "s*"])?;
                (0..SERVERS).try_for_each(|_| events.until(done).map(drop))?;
            }
        }
    }
    // No event says that everything was sent.
    thread::sleep(EXPORTED);
    let after = times()?;
    Ok(after.iter().zip(before).map(|(after, before)| (*after - before).as_secs_f64() * 1000.0).collect())
}
