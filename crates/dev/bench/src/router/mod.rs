//! Measures what the router adds to a request, beside nginx in front of the same servers: as a bare proxy, which the budgets are about,
//! and with Lua that chooses the server by the model, which reads bodies as the router does.
//!
//! Direct requests, both of nginx and the router take turns of a second or two, in which a shared machine stays much the same. All run on one
//! processor core: over two, a latency is that of the hypervisor.
//!
//! What a request costs is processor time of the whole daemon, divided by the requests or by the events of streams: on a shared machine
//! that is what stays the same.
//!
//! The servers are stand-ins that write no lines, so that the daemon does nothing else.

mod cold;
mod streams;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use llama_warden_measured::load::{CORE, Load, LoadReport};
use llama_warden_measured::nginx::{NamedServer, Nginx};
use llama_warden_test_parts::error::{Error, OnPath};
use llama_warden_test_parts::shell;
use tempfile::TempDir;

use crate::daemon::MeasuredDaemon;
use crate::figure::{Figure, FigureTarget};
use crate::ports;
use crate::programs::{self, Programs, quoted};
use crate::targets::{
    ROUTER_ADDS, ROUTER_DENSE, ROUTER_IDLE_MEMORY, ROUTER_IDLE_WAKEUPS, ROUTER_LARGE, ROUTER_LARGE_BY_MODEL,
    ROUTER_PACED, ROUTER_SMALL, ROUTER_SMALL_BY_MODEL, SCANNER_IMAGE, SCANNER_TEXT,
};
use crate::{Effort, pairs, procfs};

/// A load, and what it measures.
struct Scenario {
    target: FigureTarget,
    /// The same beside an nginx that chooses by the model.
    by_model: Option<FigureTarget>,
    /// The server that is asked: one that answers at once, or one with a pause of a millisecond before each token.
    server: usize,
    connections: u32,
    body: String,
    /// Events of one answer; 1 where it is no stream.
    events: f64,
}

const SERVERS: [(&str, u32); 2] = [("quick", 0), ("paced", 1)];

fn scenarios() -> [Scenario; 4] {
    let whole = |bytes: usize| {
        let body = |text: &str| {
            format!(r#"{{"model": "quick", "messages": [{{"role": "user", "content": "{text}"}}], "max_tokens": 8}}"#)
        };
        body(&"x".repeat(bytes - body("").len()))
    };
    let stream = |server: &str, tokens: u32| {
        format!(r#"{{"model": "{server}", "messages": [], "stream": true, "max_tokens": {tokens}}}"#)
    };
    let scenario = |(target, by_model), (server, connections), body, events| Scenario {
        target,
        by_model,
        server,
        connections,
        body,
        events,
    };
    // The last token, the end, and the head.
    let events = |tokens: u32| f64::from(tokens + 3);
    [
        scenario((ROUTER_SMALL, Some(ROUTER_SMALL_BY_MODEL)), (0, 32), whole(300), 1.0),
        scenario((ROUTER_LARGE, Some(ROUTER_LARGE_BY_MODEL)), (0, 32), whole(64 << 10), 1.0),
        scenario((ROUTER_PACED, None), (1, 8), stream("paced", 100), events(100)),
        scenario((ROUTER_DENSE, None), (0, 8), stream("quick", 1000), events(1000)),
    ]
}

/// Measures everything that the router has a bar for.
///
/// # Errors
/// When nginx or wrk cannot be provided, or the daemon does not do what it is told.
pub fn measure(programs: &Programs, effort: Effort) -> Result<Vec<Figure>, Error> {
    let mut figures = beside_nginx(programs, effort)?;
    figures.extend(cold::measure(programs, effort)?);
    figures.push(streams::measure(programs, effort)?);
    figures.extend(idle(programs, effort)?);
    let printed = programs::run_crate_bench("llama-warden-body-scan", "scan", &[effort.pick("25", "3").as_ref()])?;
    figures.push(pairs::figure(SCANNER_TEXT, &printed, "text"));
    figures.push(pairs::figure(SCANNER_IMAGE, &printed, "image"));
    Ok(figures)
}

/// The processor time of one request or event, in microseconds: samples of each of those that take turns.
#[derive(Debug, Default)]
struct Costs {
    ours: Vec<f64>,
    bare: Vec<f64>,
    by_model: Vec<f64>,
}

/// A daemon with a router, and its servers.
struct RouterOfTwo {
    home: TempDir,
    daemon: MeasuredDaemon,
    router: u16,
    servers: [u16; 2],
    loads: Vec<Load>,
}

impl RouterOfTwo {
    /// Starts them, and waits until both servers are ready.
    fn start(programs: &Programs) -> Result<Self, Error> {
        let home = programs::empty_folder()?;
        let ports = ports::free_ports(3)?;
        let (router, servers) = (ports[0], [ports[1], ports[2]]);
        let mut sections = format!(
            "[llama-server]\nbinary = {}\n[health]\ninterval = \"1h\"\n\
             [router]\nlisten = \"127.0.0.1:{router}\"\nmax-loaded = 0\nconcurrency = 64\n",
            quoted(&programs.stand_in)
        );
        for ((id, token_ms), port) in SERVERS.iter().zip(servers) {
            sections += &server(home.path(), id, *token_ms, port)?;
        }
        let daemon = MeasuredDaemon::start(&programs.daemon, home.path(), &sections)?;
        daemon.wait_until_idle()?;
        daemon.ask(&["wait", SERVERS[0].0, SERVERS[1].0])?;
        let loads = scenarios().into_iter().map(|scenario| Load::write(home.path(), &scenario.body));
        let loads = loads.collect::<Result<_, _>>()?;
        Ok(Self { home, daemon, router, servers, loads })
    }
}

/// Sends the requests of each scenario to a router for `time`, and returns how many they were.
///
/// # Errors
/// When wrk cannot be provided, or the daemon does not do what it is told.
pub fn load(programs: &Programs, time: Duration) -> Result<u64, Error> {
    let RouterOfTwo { home: _home, daemon, router, loads, .. } = RouterOfTwo::start(programs)?;
    let mut requests = 0.0;
    for (scenario, load) in scenarios().iter().zip(&loads) {
        requests += load.run(router, scenario.connections, time)?.requests;
    }
    daemon.stop()?;
    Ok(requests as u64)
}

fn beside_nginx(programs: &Programs, effort: Effort) -> Result<Vec<Figure>, Error> {
    let RouterOfTwo { home, daemon, router, servers, loads } = RouterOfTwo::start(programs)?;
    let ports = ports::free_ports(3)?;
    let (proxies, chooser) = ([ports[0], ports[1]], ports[2]);
    let nginx = Nginx::bare(home.path(), &proxies.into_iter().zip(servers).collect::<Vec<_>>())?;
    let named = SERVERS.iter().zip(servers).map(|((model, _), port)| NamedServer { model, port });
    // Debian may have no module for this version of nginx. The budgets need none.
    let by_model = Nginx::by_model(home.path(), chooser, &named.collect::<Vec<_>>());
    let by_model = by_model
        .inspect_err(|error| {
            eprintln!("bench: no nginx chooses by the model, so the bare one alone is measured: {error}")
        })
        .ok();
    let started = [daemon.pid(), nginx.pid()].into_iter().chain(by_model.as_ref().map(Nginx::pid));
    for process in started.chain(procfs::processes_naming(home.path())) {
        pin(process)?;
    }
    let scenarios = scenarios();
    let time = Duration::from_secs(effort.pick(2, 1));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut costs: [Costs; 4] = Default::default();
    for _ in 0..effort.pick(10, 1) {
        let alone = |port| loads[0].run(port, 1, Duration::from_secs(1)).map(|LoadReport { p50, .. }| p50);
        // A latency differs more from one second to the next than a cost does.
        for _ in 0..effort.pick(2, 1) {
            let (direct, through_nginx, through_us) = (alone(servers[0])?, alone(proxies[0])?, alone(router)?);
            theirs.push(through_nginx - direct);
            ours.push(through_us - direct);
        }
        for ((scenario, load), costs) in scenarios.iter().zip(&loads).zip(&mut costs) {
            let cost = |pid, port| -> Result<f64, Error> {
                let before = procfs::processor_time(pid)?;
                let report = load.run(port, scenario.connections, time)?;
                let used = procfs::processor_time(pid)? - before;
                Ok(used.as_secs_f64() * 1e6 / (report.requests * scenario.events))
            };
            costs.bare.push(cost(nginx.pid(), proxies[scenario.server])?);
            costs.ours.push(cost(daemon.pid(), router)?);
            if let (Some(nginx), Some(_)) = (&by_model, scenario.by_model) {
                costs.by_model.push(cost(nginx.pid(), chooser)?);
            }
        }
    }
    daemon.stop()?;
    let mut figures = vec![ROUTER_ADDS.figure(ours, theirs)];
    for (scenario, Costs { ours, bare, by_model: chosen }) in scenarios.iter().zip(costs) {
        figures.push(scenario.target.figure(ours.iter().copied(), bare));
        let beside = scenario.by_model.filter(|_| by_model.is_some());
        figures.extend(beside.map(|target| target.figure(ours, chosen)));
    }
    Ok(figures)
}

/// A server as TOML, with its model and its script, which has it answer without a line of output.
fn server(folder: &Path, id: &str, token_ms: u32, port: u16) -> Result<String, Error> {
    let model = programs::model(folder, id, 0)?;
    let script = model.with_extension("gguf.stand-in.json");
    let text = format!(r#"{{"max_life_s": 1800, "silent": true, "token_ms": {token_ms}}}"#);
    fs::write(&script, text).on("write", &script)?;
    Ok(format!("[[servers]]\nid = \"{id}\"\nmodel = {}\nport = {port}\n", quoted(&model)))
}

/// Has every thread of a process run on [`CORE`], and those that it will start.
fn pin(pid: u32) -> Result<(), Error> {
    shell::read(Command::new("taskset").args(["--all-tasks", "--cpu-list", "--pid", CORE, &pid.to_string()])).map(drop)
}

/// What a router costs that nobody asks, beside a daemon without one.
fn idle(programs: &Programs, effort: Effort) -> Result<[Figure; 2], Error> {
    let window = Duration::from_secs(effort.pick(10, 3));
    let look = |section: &str| -> Result<(f64, f64), Error> {
        let home = programs::empty_folder()?;
        let daemon = MeasuredDaemon::start(&programs.daemon, home.path(), section)?;
        daemon.wait_until_idle()?;
        let before = procfs::sleeps(daemon.pid())?;
        // There is no event to wait for: the figure says that nothing happens in this time.
        std::thread::sleep(window);
        let sleeps = procfs::sleeps(daemon.pid())?.saturating_sub(before);
        let memory = procfs::memory(daemon.pid())?.anonymous;
        daemon.stop()?;
        Ok((memory as f64, sleeps as f64 * 10.0 / window.as_secs_f64()))
    };
    let (mut on, mut off) = (Vec::new(), Vec::new());
    for _ in 0..effort.pick(3, 1) {
        off.push(look("")?);
        on.push(look(&format!("[router]\nlisten = \"127.0.0.1:{}\"\n", ports::free_ports(1)?[0]))?);
    }
    let more = on.iter().zip(&off).map(|(on, off)| on.0 - off.0);
    Ok([
        ROUTER_IDLE_MEMORY.figure(more, off.iter().map(|off| off.0)),
        ROUTER_IDLE_WAKEUPS.figure(on.iter().map(|on| on.1), off.iter().map(|off| off.1)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_the_length_that_their_figures_name() {
        let [small, large, ..] = scenarios();
        assert_eq!((small.body.len(), large.body.len()), (300, 64 << 10));
    }
}
