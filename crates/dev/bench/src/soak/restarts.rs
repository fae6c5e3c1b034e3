//! Restarts one server many times: half of the ends are requested, half are crashes.

use std::path::Path;

use fastrand::Rng;
use llama_warden_test_parts::error::Error;

use super::rest::{RestComparison, compare};
use super::session::{SoakSession, keep_if_failed};
use crate::programs::{self, Programs};

/// Most restarts before the first measurement, until the daemon has allocated what it keeps: above all its ring of events.
const WARM_UP: u32 = 500;

/// The script of a server that becomes ready.
const GOOD: &str = r#"{"max_life_s": 300}"#;

/// Restarts a server `count` times and compares the rests before and after.
///
/// # Errors
/// When the daemon does not do what it is told, or leaves something behind.
pub fn run(programs: &Programs, count: u32, seed: u64) -> Result<Vec<RestComparison>, Error> {
    let home = programs::empty_folder()?;
    let compared = compare_rests(programs, home.path(), count, seed);
    keep_if_failed(home, compared)
}

fn compare_rests(programs: &Programs, home: &Path, count: u32, seed: u64) -> Result<Vec<RestComparison>, Error> {
    let mut session = SoakSession::start(programs, home, 1, seed)?;
    let idle = session.rest()?;
    let mut rng = Rng::with_seed(seed);
    restart(&session, count.min(WARM_UP), &mut rng)?;
    let before = session.rest()?;
    restart(&session, count, &mut rng)?;
    let after = session.rest()?;
    eprintln!("soak: before {before:?}\nsoak: after {count} restarts {after:?}");
    session.end()?;
    Ok(compare(&idle, &[before, after]))
}

fn restart(session: &SoakSession, count: u32, rng: &mut Rng) -> Result<(), Error> {
    for number in 0..count {
        let is_crash = rng.bool();
        let script = match is_crash {
            true => {
                r#"{"max_life_s": 300, "acts": [{"at": "start", "do": {"exit": {"code": 1, "last_words": "no"}}}]}"#
            }
            false => GOOD,
        };
        session.write_script(0, script)?;
        let expected = if is_crash { 502 } else { 200 };
        session.expect(expected, "/api/v1/servers/s0/restart?wait=60s")?;
        if number % 1000 == 999 {
            eprintln!("soak: {} restarts", number + 1);
        }
    }
    // The server runs at the end, so that its shim can be measured.
    session.write_script(0, GOOD)?;
    session.expect(200, "/api/v1/servers/s0/restart?wait=60s")
}
