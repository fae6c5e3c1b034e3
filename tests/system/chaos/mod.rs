//! Thirty clients of the router, while servers are killed, restarted, stopped, started and evicted, profiles are switched and the
//! configuration is loaded anew: each request has a whole answer or an error of the closed set, and no server goes with a request in
//! flight to make room.
//!
//! The seed is printed; `LLAMA_WARDEN_TEST_SEED` sets it, and `LLAMA_WARDEN_TEST_SECONDS` the time. The seed decides what is done; when
//! a request meets it, the machine decides.

mod clients;

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use llama_warden_events::{Envelope, Event, Incarnation, StopReason};
use llama_warden_stand_in::Script;
use llama_warden_tests::{
    Endpoint, Sandbox, TestDaemon, TestFleet, TestRequest, WAIT_LIMIT, eventually, sandbox_within,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use clients::{AskedRecord, ChaosClient, Seen, lock};

const CLIENTS: usize = 30;
const SERVERS: usize = 5;
/// Time of the test where nobody sets another.
const SECONDS: f64 = 30.0;
/// How much later than the router a client may see the last data of a stream.
const LATE: Duration = Duration::from_secs(1);

/// Room for two of the servers; short limits, so that much happens.
const SECTIONS: &str = "max-loaded = 2\nevict-busy-after = \"300ms\"\nqueue-timeout = \"20s\"\ndrain = \"1s\"\nttl = \"3s\"\n\
    [restart]\ninitial-delay = \"20ms\"\nmax-delay = \"200ms\"\nmax-attempts = 1000\nstable-after = \"1s\"\n\
    [stop]\ngrace = \"3s\"\n\
    [profiles.some]\nservers = [\"s0\", \"s1\"]\n[profiles.others]\nservers = [\"s2\"]\n";

#[test]
fn every_request_ends_well_or_with_a_known_error_whatever_happens_to_servers() {
    let number = |name: &str| env::var(name).ok().map(|value| value.parse::<f64>().expect("a number"));
    let seconds = number("LLAMA_WARDEN_TEST_SECONDS").unwrap_or(SECONDS);
    let seed = match env::var("LLAMA_WARDEN_TEST_SEED") {
        Ok(seed) => seed.parse().expect("a number"),
        Err(_) => fastrand::u64(..),
    };
    println!("LLAMA_WARDEN_TEST_SEED={seed}");
    let time = Duration::from_secs_f64(seconds);
    sandbox_within(time + 4 * WAIT_LIMIT, async |sandbox| {
        let chaos = Chaos::begin(sandbox, seed).await;
        chaos.run(time).await;
    });
}

struct Chaos {
    fleet: TestFleet,
    daemon: TestDaemon,
    router: Endpoint,
    rng: Rng,
    seed: u64,
    kills: u32,
}

impl Chaos {
    async fn begin(sandbox: &Sandbox, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let router = sandbox.file("router.sock");
        let mut fleet = sandbox.fleet();
        fleet.section(&format!("[router]\nlisten = '{}'\n{SECTIONS}", router.display()));
        for number in 0..SERVERS {
            let script = random_script(&mut rng);
            fleet.server_with(&format!("s{number}"), script, "enabled = false");
        }
        let daemon = sandbox.up(&fleet).await;
        Self { fleet, daemon, router: Endpoint::Unix(router), rng, seed, kills: 0 }
    }

    async fn run(mut self, time: Duration) {
        let (seen, is_over) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let servers = (0..SERVERS).map(|number| format!("s{number}")).collect();
                let (router, seen, rng) = (self.router.clone(), seen.clone(), self.rng.fork());
                tokio::spawn(ChaosClient { router, servers, seen, rng }.run(is_over.clone()))
            })
            .collect();
        let end = Instant::now() + time;
        while Instant::now() < end && lock(&seen.violations).is_empty() {
            self.act().await;
            // The pause is part of the randomness, not a wait for something. A server makes room only after it was ready for five
            // seconds, for which some pauses are long.
            let pause = if self.rng.u8(..20) == 0 { 5_000..7_000 } else { 20..400 };
            sleep(Duration::from_millis(self.rng.u64(pause))).await;
        }
        is_over.store(true, Ordering::Relaxed);
        for client in clients {
            client.await.expect("a client does not panic");
        }
        self.check(&seen).await;
    }

    /// Does one random thing. Refusals are answers.
    async fn act(&mut self) {
        let server = format!("s{}", self.rng.usize(..SERVERS));
        match self.rng.u8(..24) {
            0..=6 => self.kill(&server).await,
            7..=9 => drop(self.daemon.command(&server, "restart").await),
            10 => drop(self.daemon.command(&server, "restart?force=true").await),
            11 => drop(self.daemon.command(&server, "stop").await),
            12..=16 => drop(self.daemon.command(&server, "start").await),
            17..=18 => self.reload().await,
            19 => drop(self.daemon.post("/api/v1/profiles/some/activate").await),
            20 => drop(self.daemon.post("/api/v1/profiles/others/activate").await),
            21 => drop(self.daemon.send(TestRequest::get("/api/v1/status")).await),
            _ => self.fleet.rewrite(&server, &random_script(&mut self.rng)),
        }
    }

    async fn kill(&mut self, server: &str) {
        let pid = self.daemon.report(server).await.pid.and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid {
            // It may be gone by now; its number is not in use again so soon.
            self.kills += u32::from(kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok());
        }
    }

    /// Half of the changes stop a server.
    async fn reload(&mut self) {
        let server = format!("s{}", self.rng.usize(..SERVERS));
        let display = self.rng.u32(..1000);
        match self.rng.bool() {
            true => self.fleet.section(&format!("# change {display}")),
            false => self.fleet.replace_keys(&server, &format!("enabled = false\nenv = {{ CHANGE = \"{display}\" }}")),
        };
        self.fleet.write();
        self.daemon.post("/api/v1/reload").await;
    }

    async fn check(&mut self, seen: &Seen) {
        let seed = self.seed;
        let (violations, errors) = (lock(&seen.violations), lock(&seen.errors));
        assert!(violations.is_empty(), "seed {seed}: {}", violations.join("\n"));
        let seq = self.daemon.status().await.seq;
        self.daemon.event_stream().replay(seq).await;
        let events = self.daemon.event_stream().events();
        let stops: Vec<GentleStop> = events.iter().filter_map(GentleStop::of).collect();
        let records = lock(&seen.records);
        for record in records.iter() {
            if let Some(problem) = cut_by(record, &stops, &events) {
                panic!("seed {seed}: {problem}: {record:?}");
            }
        }
        let whole = seen.whole.load(Ordering::Relaxed);
        let left = seen.left.load(Ordering::Relaxed);
        println!(
            "{whole} whole answers, {left} clients left, {} kills, {} gentle stops, errors {errors:?}",
            self.kills,
            stops.len()
        );
        assert!(whole > 100 && left > 0 && self.kills > 0 && !stops.is_empty(), "seed {seed}: too little happened");
        self.check_rest().await;
    }

    /// Nothing is in flight, waits, or is held any more.
    async fn check_rest(&self) {
        const GAUGES: [&str; 5] = [
            "llama_warden_router_requests_in_flight",
            "llama_warden_router_requests_waiting",
            "llama_warden_router_requests_detached",
            "llama_warden_router_body_bytes",
            "llama_warden_router_connections",
        ];
        let mut left = Vec::new();
        let is_rest = eventually("every gauge is zero", WAIT_LIMIT, async || {
            let metrics = self.daemon.metrics().await;
            let samples = metrics.lines().filter(|line| GAUGES.iter().any(|gauge| line.starts_with(gauge)));
            left = samples.filter(|line| !line.ends_with(" 0")).map(str::to_owned).collect();
            left.is_empty()
        });
        is_rest.await;
    }
}

/// A stop of a ready server that must wait until nothing is in flight, whatever else happens.
struct GentleStop {
    server: String,
    incarnation: Option<Incarnation>,
    at: SystemTime,
}

impl GentleStop {
    fn of(event: &Envelope) -> Option<Self> {
        let Event::StopBegan { reason: StopReason::Evicted | StopReason::Idle, .. } = event.event else { return None };
        let server = event.server.as_ref()?.as_str().to_owned();
        Some(Self { server, incarnation: event.incarnation, at: event.at.into() })
    }
}

/// How a gentle stop has cut this request, if one has.
fn cut_by(record: &AskedRecord, stops: &[GentleStop], events: &[Envelope]) -> Option<String> {
    let stops = || stops.iter().filter(|stop| stop.server == record.server);
    if let Some((first, last)) = record.data
        && let Some(stop) = stops().find(|stop| first < stop.at && stop.at + LATE < last)
    {
        return Some(format!("its stream went on after the stop of {:?} at {:?}", stop.incarnation, stop.at));
    }
    if !record.is_lost {
        return None;
    }
    // It was lost with one of the launches that ended in its time.
    let is_gentle = |incarnation| stops().any(|stop| stop.incarnation == incarnation);
    let mut ends = events.iter().filter(|event| {
        let at = SystemTime::from(event.at);
        event.server.as_ref().is_some_and(|server| server.as_str() == record.server)
            && matches!(event.event, Event::ServerExited { .. })
            && record.begun <= at
            && at <= record.ended + LATE
    });
    match ends.any(|event| !is_gentle(event.incarnation)) {
        true => None,
        false => Some("it was lost with a launch that was stopped to make room, or with none".to_owned()),
    }
}

fn random_script(rng: &mut Rng) -> Script {
    Script { load_ms: rng.u64(..300), token_ms: rng.u64(..20), ..Script::default() }
}
