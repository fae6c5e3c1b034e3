//! Measures how soon the daemon knows that a real llama-server is ready: the time from the first 200 of `/health`, as an
//! independent poller sees it, to the event `ReadyReached`.
//!
//! Both times come from the wall clock of one machine. A start is *early* if the event is older than a request of the poller
//! that was not answered with 200: `/health` never goes back from 200 while loading, so no 200 was given before then.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::SystemTime;

use llama_warden_test_parts::error::Error;
use llama_warden_test_parts::llama_server::{self, Build};

use crate::Effort;
use crate::daemon::MeasuredDaemon;
use crate::events::{at, milliseconds};
use crate::figure::Figure;
use crate::poller::{HealthPoller, ReadinessObservation};
use crate::ports;
use crate::programs::{self, Programs, quoted};
use crate::targets::{EARLY_SILENT, EARLY_WITH_LINES, READY_IN_A_CROWD, READY_SILENT, READY_WITH_LINES};

/// Bytes of the larger model, which takes some hundred milliseconds to load.
const LARGE: u64 = 300_000_000;

/// Closed connections of the crowd that one figure is measured in.
const CLOSED_CONNECTIONS: usize = 12_000;

/// Whether the server logs, which decides how the daemon learns of readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogMode {
    /// The server logs as it does by default; its lines trigger a probe.
    Lines,
    /// The log is off; only the periodic probe finds out.
    Silent,
}

/// A start as the poller and the daemon saw it, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Start {
    /// From the poller's first 200 to the event; negative if the daemon's probe was faster.
    delay: f64,
    /// Time between the poller's last other answer and its first 200, which is its precision.
    resolution: f64,
    /// Age of the event when the poller began its last request without a 200; negative if the event is younger.
    early: f64,
}

/// Measures starts with and without log lines.
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
    let starts_of = |model: &Path, runs: usize, log_mode| -> Result<Vec<Start>, Error> {
        let home = programs::empty_folder()?;
        let port = ports::free_ports(1)?[0];
        let sections = sections(&llama_server, model, port, log_mode);
        let daemon = MeasuredDaemon::start(&programs.daemon, home.path(), &sections)?;
        let starts = (0..runs).map(|_| start(&daemon, port)).collect::<Result<_, _>>()?;
        daemon.stop()?;
        Ok(starts)
    };
    for log_mode in [LogMode::Lines, LogMode::Silent] {
        let mut starts = Vec::new();
        for (model, runs) in &models {
            starts.extend(starts_of(model, *runs, log_mode)?);
        }
        figures.extend(figures_of(log_mode, &starts));
    }
    leave_closed_connections().map_err(|error| {
        Error::missing(format!("the closed connections: {error}"), "look at net.ipv4.ip_local_port_range")
    })?;
    let starts = starts_of(&models[0].0, effort.pick(20, 4), LogMode::Lines)?;
    figures.push(
        READY_IN_A_CROWD.figure(starts.iter().map(|start| start.delay), starts.iter().map(|start| start.resolution)),
    );
    Ok(figures)
}

/// Makes connections that the kernel keeps for a minute after their end, as a busy machine has them.
fn leave_closed_connections() -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    for _ in 0..CLOSED_CONNECTIONS {
        let client = TcpStream::connect(listener.local_addr()?)?;
        let accepted = listener.accept()?;
        // The end that closes first is kept.
        drop(client);
        drop(accepted);
    }
    Ok(())
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

/// Starts the server, observes it with the poller and through events, and stops it.
fn start(daemon: &MeasuredDaemon, port: u16) -> Result<Start, Error> {
    let poller = HealthPoller::begin(port);
    daemon.ask(&["start", "measured", "--wait", "--timeout", "120s"])?;
    let observation = poller.observation();
    daemon.ask(&["stop", "measured", "--wait", "--timeout", "60s"])?;
    let events = daemon.events()?;
    let ready = events.iter().rev().find(|event| event["event"]["type"] == "ReadyReached").and_then(at);
    match (observation, ready) {
        (Some(observation), Some(ready)) => Ok(compare(observation, ready)),
        _ => Err(Error::missing(
            "only one of poller and daemon saw the server ready",
            "run it again with `--only readiness`",
        )),
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
        LogMode::Lines => [READY_WITH_LINES, EARLY_WITH_LINES],
        LogMode::Silent => [READY_SILENT, EARLY_SILENT],
    };
    let of = |value: fn(&Start) -> f64| starts.iter().map(value);
    [
        delay.figure(of(|start| start.delay), of(|start| start.resolution)),
        early.figure(of(|start| start.early.max(0.0)), of(|start| start.resolution)),
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
        // Between two polls the daemon's probe may be the first to see the 200.
        let first = compare(observation, moment(101));
        assert_eq!((first.delay, first.early), (-1.0, -1.0));
        assert_eq!(compare(observation, moment(90)).early, 10.0);
        let figures = figures_of(LogMode::Lines, &[late, compare(observation, moment(90))]);
        assert_eq!(figures.map(|figure| figure.samples.percentile(99)), [1.0, 10.0]);
    }
}
