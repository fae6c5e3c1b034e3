//! How soon a real llama-server is known to be ready: from its first healthy answer, as an independent poller sees it, to
//! the event `ReadyReached`.
//!
//! Both are taken from the wall clock of one machine. A start is *early* if the event is older than a request of the poller
//! that was not answered with 200: `/health` does not go back, so that nobody had seen a 200 by then.

use std::path::Path;
use std::time::SystemTime;

use xtask::error::Error;
use xtask::llama_server::{self, Build};

use crate::Effort;
use crate::daemon::MeasuredDaemon;
use crate::events::{at, milliseconds};
use crate::figure::{Baseline, Budget, Figure, Samples, Unit};
use crate::poller::{HealthPoller, ReadinessObservation};
use crate::programs::{self, Programs, quoted};

/// Bytes of the model that takes a while to load.
const LARGE: u64 = 300_000_000;
const BUDGET: Budget = Budget::AtMost { median: 5.0, p99: 50.0 };

/// Where readiness has to be read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogMode {
    /// The build logs as it does by default.
    Lines,
    /// The log is off: only the probe tells.
    Silent,
}

/// A start as both sides saw it, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Start {
    /// From the first 200 that the poller saw to the event; negative where our own probe was faster.
    delay: f64,
    /// How far apart the poller's last other answer and its first 200 are: it cannot tell any better.
    resolution: f64,
    /// How old the event is when the poller begins a request that is not answered with 200; negative for none.
    early: f64,
}

/// Measures starts with lines and without.
///
/// # Errors
/// When there is no real llama-server, or a start fails.
pub fn measure(programs: &Programs, effort: Effort) -> Result<Vec<Figure>, Error> {
    let llama_server = llama_server::provide(&Build::Auto)?;
    let folder = programs::empty_folder()?;
    let models = [
        (programs::model(folder.path(), "tiny", 0)?, effort.pick(40, 8)),
        (programs::model(folder.path(), "large", LARGE)?, effort.pick(10, 2)),
    ];
    let mut figures = Vec::new();
    for log_mode in [LogMode::Lines, LogMode::Silent] {
        let mut starts = Vec::new();
        for (model, runs) in &models {
            let home = programs::empty_folder()?;
            let port = programs::free_ports(1)?[0];
            let daemon =
                MeasuredDaemon::start(&programs.daemon, home.path(), &sections(&llama_server, model, port, log_mode))?;
            for _ in 0..*runs {
                starts.push(start(&daemon, port)?);
            }
            daemon.stop()?;
        }
        figures.extend(figures_of(log_mode, &starts));
    }
    Ok(figures)
}

fn sections(llama_server: &Path, model: &Path, port: u16, log_mode: LogMode) -> String {
    format!(
        "[llama-server]\nbinary = {}\n\
         [flags]\nthreads = 2\nctx-size = 512\nlog-disable = {}\n\
         [[servers]]\nid = \"measured\"\nmodel = {}\nport = {port}\nenabled = false\n",
        quoted(llama_server),
        log_mode == LogMode::Silent,
        quoted(model),
    )
}

/// Starts the server, has it watched from both sides, and stops it.
fn start(daemon: &MeasuredDaemon, port: u16) -> Result<Start, Error> {
    let poller = HealthPoller::begin(port);
    daemon.ask(&["start", "measured", "--wait", "--timeout", "120s"])?;
    let observation = poller.observation();
    daemon.ask(&["stop", "measured", "--wait", "--timeout", "60s"])?;
    let events = daemon.events()?;
    let ready = events.iter().rev().find(|event| event["event"]["type"] == "ReadyReached").and_then(at);
    match (observation, ready) {
        (Some(observation), Some(ready)) => Ok(compare(observation, ready)),
        _ => {
            Err(Error::missing("a server became ready that only one side saw", "run it again with `--only readiness`"))
        }
    }
}

fn compare(observation: ReadinessObservation, ready: SystemTime) -> Start {
    Start {
        delay: milliseconds(observation.ready, ready),
        resolution: milliseconds(observation.not_ready, observation.ready),
        early: milliseconds(ready, observation.not_ready),
    }
}

fn figures_of(log_mode: LogMode, starts: &[Start]) -> [Figure; 2] {
    let [delay, early] = match log_mode {
        LogMode::Lines => ["ready after /health 200, with lines", "ready too early, with lines"],
        LogMode::Silent => ["ready after /health 200, silent", "ready too early, silent"],
    };
    let resolution =
        || Baseline { what: "between two polls", samples: Samples::of(starts.iter().map(|start| start.resolution)) };
    let figure =
        |name, samples, budget| Figure { name, unit: Unit::Milliseconds, samples, baseline: resolution(), budget };
    [
        figure(delay, Samples::of(starts.iter().map(|start| start.delay)), BUDGET),
        figure(early, Samples::of(starts.iter().map(|start| start.early.max(0.0))), Budget::never_over(0.0)),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_event_before_a_refused_poll_is_early() {
        let moment = |milliseconds| SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds);
        let observation = ReadinessObservation { not_ready: moment(100), ready: moment(102) };
        let late = compare(observation, moment(103));
        assert_eq!((late.delay, late.resolution, late.early), (1.0, 2.0, -3.0));
        // Between two polls our own probe may be the first to see the 200.
        let first = compare(observation, moment(101));
        assert_eq!((first.delay, first.early), (-1.0, -1.0));
        assert_eq!(compare(observation, moment(90)).early, 10.0);
        let figures = figures_of(LogMode::Lines, &[late, compare(observation, moment(90))]);
        assert_eq!(figures.map(|figure| figure.samples.percentile(99)), [1.0, 10.0]);
    }
}
