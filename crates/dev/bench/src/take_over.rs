//! Measures `up --take-over` with three servers: how long nobody answers for the daemon, and whether a request to a server fails; then how
//! soon the new daemon sees the end of a server that it has taken over.
//!
//! A thread asks the control socket every millisecond, and one for each server asks `/health`. The gap is the longest time between two
//! answers of a daemon; its baseline is the longest one while nothing is replaced.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use llama_warden_test_parts::error::Error;
use serde_json::Value;

use crate::Effort;
use crate::events::{self, milliseconds};
use crate::figure::Figure;
use crate::follower::EventFollower;
use crate::idle::{self, OutputVolume};
use crate::killer;
use crate::poller;
use crate::programs::{self, Programs};
use crate::soak::SoakClient;
use crate::targets::{ADOPTED_DEATH_SEEN, TAKE_OVER_FAILURES, TAKE_OVER_GAP};

const SERVERS: usize = 3;
/// Time between two questions.
const STEP: Duration = Duration::from_millis(1);
/// How long the baseline is observed.
const QUIET: Duration = Duration::from_secs(1);

/// A thread that asks again and again, until it is told to end.
struct Asker<T> {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Asker<T> {
    /// `ask` returns whether it was answered, `fold` gets the times at which questions were answered or not.
    fn begin(mut ask: impl FnMut() -> bool + Send + 'static, fold: fn(&[(Instant, bool)]) -> T) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let mut answers = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let is_answered = ask();
                answers.push((Instant::now(), is_answered));
                thread::sleep(STEP);
            }
            fold(&answers)
        });
        Self { ends, thread }
    }

    fn end(self) -> Result<T, Error> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| Error::missing("a thread that asks panicked", "see above"))
    }
}

/// The longest time between two answers, in milliseconds.
fn longest_gap(answers: &[(Instant, bool)]) -> f64 {
    let answered: Vec<Instant> = answers.iter().filter(|(_, is_answered)| *is_answered).map(|(at, _)| *at).collect();
    let gaps = answered.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e3);
    gaps.fold(f64::NAN, f64::max)
}

/// How many questions were not answered, and how many were.
fn failures(answers: &[(Instant, bool)]) -> (f64, f64) {
    let answered = answers.iter().filter(|(_, is_answered)| *is_answered).count();
    ((answers.len() - answered) as f64, answered as f64)
}

/// Replaces a daemon again and again, then kills the servers of the last one.
///
/// # Errors
/// When a daemon does not run or is not replaced.
pub fn measure(programs: &Programs, effort: Effort) -> Result<Vec<Figure>, Error> {
    let home = programs::empty_folder()?;
    let mut daemon = idle::settled(programs, home.path(), SERVERS, OutputVolume::Usual)?;
    let control = home.path().join("state/control.sock");
    let ports =
        servers(&control)?.iter().filter_map(|server| server["port"].as_u64()?.try_into().ok()).collect::<Vec<u16>>();
    let (mut gaps, mut quiet, mut failed, mut answered) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.pick(10, 2) {
        let asker = ask_daemon(&control);
        // There is no event to wait for: nothing happens in this time.
        thread::sleep(QUIET);
        quiet.push(asker.end()?);
        let clients: Vec<_> = ports.iter().map(|port| ask_server(*port)).collect();
        let asker = ask_daemon(&control);
        daemon = daemon.taken_over()?;
        // The gap ends at an answer of the new daemon.
        thread::sleep(QUIET);
        gaps.push(asker.end()?);
        for client in clients {
            let (failures, answers) = client.end()?;
            failed.push(failures);
            answered.push(answers);
        }
    }
    let (mut seen, mut witnessed) = (Vec::new(), Vec::new());
    let follower = EventFollower::begin(&daemon)?;
    for server in servers(&control)? {
        let kill = killer::kill(server["pid"].as_u64().unwrap_or_default())?;
        let exit = follower.until("ServerExited")?;
        let at = exit.last().and_then(events::at);
        seen.push(at.map_or(f64::NAN, |at| milliseconds(kill.begun, at)));
        witnessed.push(milliseconds(kill.begun, kill.witnessed));
    }
    daemon.stop()?;
    Ok(vec![
        TAKE_OVER_GAP.figure(gaps, quiet),
        TAKE_OVER_FAILURES.figure(failed, answered),
        ADOPTED_DEATH_SEEN.figure(seen, witnessed),
    ])
}

fn servers(control: &Path) -> Result<Vec<Value>, Error> {
    SoakClient(control.to_owned()).servers()
}

fn ask_daemon(control: &Path) -> Asker<f64> {
    let client = SoakClient(PathBuf::from(control));
    Asker::begin(move || client.get("/livez").is_ok_and(|(status, _)| status == 200), longest_gap)
}

fn ask_server(port: u16) -> Asker<(f64, f64)> {
    Asker::begin(move || poller::is_healthy(port), failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_lies_between_two_answers_and_failures_are_what_was_not_answered() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let answers = [(at(0), true), (at(1), false), (at(40), false), (at(50), true), (at(51), true)];
        assert_eq!(longest_gap(&answers), 50.0);
        assert_eq!(failures(&answers), (2.0, 3.0));
        assert!(longest_gap(&answers[..3]).is_nan());
    }
}
