//! Measures a switch between two profiles of twenty servers that have fifteen in common. The baseline is the slowest stop plus
//! the slowest start among the others, each measured alone on the same daemon.
//!
//! A switch that restarts one of the common servers is an error, not a figure.

use std::collections::BTreeMap;
use std::time::Duration;

use llama_warden_test_parts::error::Error;
use serde_json::Value;

use crate::Effort;
use crate::daemon::MeasuredDaemon;
use crate::figure::Figure;
use crate::fleet::{Pace, StandInFleet};
use crate::programs::{self, Programs};
use crate::targets::SWITCH;

/// How many servers are in one profile only, for each profile.
const ALONE: usize = 5;
/// How many servers are in both profiles.
const COMMON: usize = 15;

/// A switch and its baseline, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Switch {
    whole: f64,
    /// The slowest stop plus the slowest start, each alone.
    alone: f64,
}

/// Measures switches, each on a daemon of its own.
///
/// # Errors
/// When a daemon does not run, or a server in both profiles is restarted.
pub fn measure(programs: &Programs, effort: Effort) -> Result<Vec<Figure>, Error> {
    let switches: Vec<Switch> = (0..effort.pick(7, 2)).map(|_| switch(programs)).collect::<Result<_, _>>()?;
    let of = |value: fn(&Switch) -> f64| switches.iter().map(value);
    Ok(vec![SWITCH.figure(of(|switch| switch.whole), of(|switch| switch.alone))])
}

fn switch(programs: &Programs) -> Result<Switch, Error> {
    let home = programs::empty_folder()?;
    let mut fleet = StandInFleet::write(programs, home.path(), &paces())?;
    let ids = fleet.ids.clone();
    let (before, after, common) = (&ids[..ALONE + COMMON], &ids[ALONE..], &ids[ALONE..ALONE + COMMON]);
    fleet.add_profile("before", before);
    fleet.add_profile("after", after);
    let daemon = MeasuredDaemon::start(&programs.daemon, home.path(), &fleet.sections)?;
    // The first launch identifies the executable, later ones use the cached answer: this start is not measured.
    let (slowest_stop, slowest_start) = (ids[ALONE - 1].as_str(), ids[ALONE + COMMON + ALONE - 1].as_str());
    daemon.time(&["start", "--wait", slowest_stop])?;
    let stop = daemon.time(&["stop", "--wait", slowest_stop])?;
    let start = daemon.time(&["start", "--wait", slowest_start])?;
    daemon.time(&["stop", "--wait", slowest_start])?;
    daemon.time(&["profile", "switch", "--wait", "before"])?;
    let pids_before = pids(&daemon)?;
    let whole = daemon.time(&["profile", "switch", "--wait", "after"])?;
    let pids_after = pids(&daemon)?;
    check(&pids_before, before)?;
    check(&pids_after, after)?;
    match first_restarted(common, &pids_before, &pids_after) {
        Some(id) => Err(Error::missing(
            format!("the switch restarted {id}, which is in both profiles"),
            "fix crates/components/supervisor/src/switch.rs",
        )),
        None => daemon.stop().map(|()| Switch { whole, alone: stop + start }),
    }
}

/// Returns the first of `ids` whose process is not the one from before.
fn first_restarted<'a>(
    ids: &'a [String],
    before: &BTreeMap<String, u64>,
    after: &BTreeMap<String, u64>,
) -> Option<&'a String> {
    ids.iter().find(|id| before.get(*id) != after.get(*id))
}

/// Servers of the first profile stop slowly and those of the second load slowly; the last of each is the slowest.
fn paces() -> Vec<Pace> {
    let step = |number: usize, step| Duration::from_millis(600) + Duration::from_millis(step) * number as u32;
    let goes = (0..ALONE).map(|number| Pace { stop: step(number, 200), ..Pace::default() });
    let stays = (0..COMMON).map(|_| Pace::default());
    let comes = (0..ALONE).map(|number| Pace { load: step(number, 350), ..Pace::default() });
    goes.chain(stays).chain(comes).collect()
}

/// The pid of each server that is ready.
fn pids(daemon: &MeasuredDaemon) -> Result<BTreeMap<String, u64>, Error> {
    let status = daemon.ask(&["status", "--json"])?;
    let status: Value = serde_json::from_str(&status).map_err(|error| {
        Error::missing(format!("the status is not JSON ({error})"), "fix `llama-warden status --json`")
    })?;
    let ready = status["servers"].as_array().into_iter().flatten().filter(|server| server["is_ready"] == true);
    Ok(ready.filter_map(|server| Some((server["model_id"].as_str()?.to_owned(), server["pid"].as_u64()?))).collect())
}

/// Fails unless exactly the `wanted` servers are ready.
fn check(ready: &BTreeMap<String, u64>, wanted: &[String]) -> Result<(), Error> {
    if ready.keys().eq(wanted) {
        return Ok(());
    }
    Err(Error::missing(format!("ready: {:?}, wanted: {wanted:?}", ready.keys()), "see what `profile switch` printed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_with_another_process_was_touched() {
        let ids = ["a", "b"].map(str::to_owned);
        let pids = |of_b| ids.iter().cloned().zip([7, of_b]).collect::<BTreeMap<_, _>>();
        assert_eq!(first_restarted(&ids, &pids(8), &pids(8)), None);
        assert_eq!(first_restarted(&ids, &pids(8), &pids(9)), Some(&ids[1]));
        assert!(check(&pids(8), &ids).is_ok() && check(&pids(8), &ids[..1]).is_err());
    }

    #[test]
    fn the_last_that_goes_and_the_last_that_comes_are_the_slowest() {
        let paces = paces();
        assert_eq!(paces.len(), ALONE + COMMON + ALONE);
        assert_eq!(paces.iter().map(|pace| pace.stop).max(), Some(paces[ALONE - 1].stop));
        assert_eq!(paces.iter().map(|pace| pace.load).max(), paces.last().map(|pace| pace.load));
        assert!(paces[ALONE..ALONE + COMMON].iter().all(|pace| *pace == Pace::default()));
    }
}
