//! Compares the time until fifty servers that start together are ready with the time that one of them needs alone.

use std::time::Duration;

use llama_warden_test_parts::error::Error;

use crate::Effort;
use crate::daemon::MeasuredDaemon;
use crate::figure::Figure;
use crate::fleet::{Pace, StandInFleet};
use crate::programs::{self, Programs};
use crate::targets::SIDE_BY_SIDE;

const SERVERS: usize = 50;
/// How long each server loads.
const LOAD: Duration = Duration::from_secs(2);

/// Measures one server, then all, on daemons that do not limit how many load at once.
///
/// # Errors
/// When a daemon does not run, or a server does not become ready.
pub fn measure(programs: &Programs, effort: Effort) -> Result<Vec<Figure>, Error> {
    let (mut all, mut one) = (Vec::new(), Vec::new());
    for _ in 0..effort.pick(5, 1) {
        let home = programs::empty_folder()?;
        let mut fleet = StandInFleet::write(programs, home.path(), &[Pace { load: LOAD, ..Pace::default() }; SERVERS])?;
        let ids = fleet.ids.clone();
        fleet.add_profile("all", &ids);
        let daemon = MeasuredDaemon::start(&programs.daemon, home.path(), &fleet.sections)?;
        one.push(daemon.time(&["start", "--wait", &ids[0]])?);
        daemon.time(&["stop", "--wait", &ids[0]])?;
        all.push(daemon.time(&["profile", "switch", "--wait", "all"])?);
        daemon.stop()?;
    }
    Ok(vec![SIDE_BY_SIDE.figure(all, one)])
}
