//! Measures how soon the daemon sees the death of a killed server, and how exactly it keeps the back-off before the restart.
//!
//! The first is the wall time from the KILL to the event `ServerExited`; the baseline is a thread that polls the process. A
//! back-off starts at the event that caused `RestartScheduled` and lasts `delay_seconds`; the restart starts at `LaunchBegan`.
//! Its baseline is a thread that sleeps for the same duration at the same time.

use std::thread;
use std::time::{Duration, Instant};

use llama_warden_test_parts::error::Error;
use serde_json::Value;

use crate::Effort;
use crate::daemon::MeasuredDaemon;
use crate::events::{self, milliseconds};
use crate::figure::Figure;
use crate::fleet::{Pace, StandInFleet};
use crate::follower::EventFollower;
use crate::killer::{self, WitnessedKill};
use crate::programs::{self, Programs};
use crate::targets::{DEATH_SEEN, RESTART_EARLY, RESTART_LATE};

/// A ready server counts as stable at once, so that no back-off grows beyond the first delay.
const RESTARTS: &str = "[restart]\nstable-after = \"0s\"\ninitial-delay = \"200ms\"\n";

/// A death and the restart after it, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ObservedDeath {
    /// From the KILL to the event.
    seen: f64,
    /// From the KILL to the observation of the witness.
    witnessed: f64,
    /// From the end of the back-off to the launch; negative if the launch was too early.
    late: f64,
    /// How much longer than the back-off the sleep of a thread took.
    overslept: f64,
}

/// Kills one server again and again.
///
/// # Errors
/// When a daemon does not run, or the server is not restarted.
pub fn measure(programs: &Programs, effort: Effort) -> Result<Vec<Figure>, Error> {
    let home = programs::empty_folder()?;
    let fleet = StandInFleet::write(programs, home.path(), &[Pace::default()])?;
    let daemon = MeasuredDaemon::start(&programs.daemon, home.path(), &format!("{RESTARTS}{}", fleet.sections))?;
    let follower = EventFollower::begin(&daemon)?;
    daemon.ask(&["start", &fleet.ids[0]])?;
    let deaths: Vec<ObservedDeath> = (0..effort.pick(100, 10)).map(|_| death(&follower)).collect::<Result<_, _>>()?;
    daemon.stop()?;
    Ok(figures(&deaths).into())
}

/// Waits until the server is ready, kills it, and follows the events until its next launch.
fn death(follower: &EventFollower) -> Result<ObservedDeath, Error> {
    let pid = follower.until("ServerSpawned")?.last().and_then(|event| event["event"]["pid"].as_u64());
    follower.until("ReadyReached")?;
    let kill = killer::kill(pid.unwrap_or_default())?;
    let mut events = follower.until("RestartScheduled")?;
    let overslept = events.last().and_then(back_off).map(oversleep).unwrap_or(f64::NAN);
    events.extend(follower.until("LaunchBegan")?);
    ObservedDeath::read(&events, kill, overslept).ok_or_else(|| {
        Error::missing("the events before a restart are incomplete", "see what `llama-warden events` prints")
    })
}

impl ObservedDeath {
    /// Computes the durations from the events between the KILL and the next launch; `None` if one is missing.
    fn read(events: &[Value], kill: WitnessedKill, overslept: f64) -> Option<Self> {
        let first = |kind: &str| events.iter().find(|event| events::is(event, kind));
        let scheduled = first("RestartScheduled")?;
        let due = events::elapsed(events::numbered(events, &scheduled["cause"])?)? + back_off(scheduled)?;
        let launched = events::elapsed(first("LaunchBegan")?)?;
        Some(Self {
            seen: milliseconds(kill.begun, events::at(first("ServerExited")?)?),
            witnessed: milliseconds(kill.begun, kill.witnessed),
            late: (launched.as_secs_f64() - due.as_secs_f64()) * 1e3,
            overslept,
        })
    }
}

/// The scheduled back-off in whole microseconds, as precise as the times of events.
fn back_off(scheduled: &Value) -> Option<Duration> {
    let seconds = scheduled["event"]["delay_seconds"].as_f64()?;
    Some(Duration::from_micros((seconds * 1e6) as u64))
}

/// Sleeps for `duration` and returns how many milliseconds longer that took.
fn oversleep(duration: Duration) -> f64 {
    let began = Instant::now();
    thread::sleep(duration);
    began.elapsed().saturating_sub(duration).as_secs_f64() * 1e3
}

fn figures(deaths: &[ObservedDeath]) -> [Figure; 3] {
    let of = |value: fn(&ObservedDeath) -> f64| deaths.iter().map(value);
    [
        DEATH_SEEN.figure(of(|death| death.seen), of(|death| death.witnessed)),
        RESTART_LATE.figure(of(|death| death.late), of(|death| death.overslept)),
        RESTART_EARLY.figure(of(|death| (-death.late).max(0.0)), of(|death| death.overslept)),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_back_off_is_counted_from_the_event_that_it_was_drawn_for() {
        let events = [
            json!({ "seq": 7, "at": "1970-01-01T00:00:01.003Z", "elapsed": 5.0, "event": { "type": "ServerExited" } }),
            json!({ "seq": 8, "elapsed": 5.001, "event": { "type": "ServerFailed" } }),
            json!({ "seq": 9, "cause": 8, "elapsed": 5.002,
                "event": { "type": "RestartScheduled", "delay_seconds": 0.1000009 } }),
            json!({ "seq": 10, "elapsed": 5.1025, "event": { "type": "LaunchBegan" } }),
        ];
        let moment = |milliseconds| SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds);
        let kill = WitnessedKill { begun: moment(1000), witnessed: moment(1001) };
        let death = ObservedDeath::read(&events, kill, 0.5).unwrap();
        assert_eq!((death.seen, death.witnessed, death.overslept), (3.0, 1.0, 0.5));
        assert!((death.late - 1.5).abs() < 1e-9, "{}", death.late);
        assert_eq!(ObservedDeath::read(&events[..3], kill, 0.5), None);
    }

    #[test]
    fn a_restart_before_its_time_is_over_budget() {
        let death = ObservedDeath { seen: 1.0, witnessed: 1.0, late: -0.001, overslept: 0.1 };
        let over = figures(&[death]).map(|figure| !figure.is_within_budget());
        assert_eq!(over, [false, false, true]);
    }
}
