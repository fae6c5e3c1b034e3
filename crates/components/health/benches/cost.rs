//! Measures the cost of checking 100 ready servers: the processor time of the component alone, as a share of one core.
//!
//! The servers are listeners in a process of their own, which is this program once more. Run with
//! `cargo bench -p llama-warden-health`; it takes 30 seconds. The goal is 0.5 % at an interval of 10 s.

#![expect(clippy::expect_used, reason = "a benchmark that cannot measure has to end")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use llama_warden_bus::EventDraft;
use llama_warden_component_kit::{TestBus, card, fleet, server};
use llama_warden_config::Fleet;
use llama_warden_events::{Event, Incarnation, ReadyVia};
use llama_warden_health::Health;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

const SERVERS: usize = 100;
const INTERVAL: Duration = Duration::from_secs(10);
/// Intervals that are measured.
const ROUNDS: u32 = 2;

fn main() {
    if std::env::args().any(|argument| argument == "--servers") {
        runtime().block_on(serve());
    } else {
        runtime().block_on(measure());
    }
}

/// Everything on one thread, so that the kernel's count for that thread is the whole cost.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts a runtime")
}

/// Answers every request as a healthy llama-server does, on as many ports as there are servers.
async fn serve() {
    for _ in 0..SERVERS {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        println!("{}", listener.local_addr().expect("has an address").port());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                // The client may be gone at any time.
                let _ = stream.read(&mut request).await;
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}";
                let _ = stream.write_all(answer).await;
            }
        });
    }
    // Until it is killed.
    std::future::pending().await
}

async fn measure() {
    let program = std::env::current_exe().expect("knows itself");
    let mut servers = Command::new(program).arg("--servers").stdout(Stdio::piped()).spawn().expect("spawns");
    let lines = BufReader::new(servers.stdout.take().expect("is piped")).lines();
    let ports: Vec<u16> = lines.take(SERVERS).map(|line| line.expect("reads").parse().expect("a port")).collect();

    let fleet = watch::Sender::new(checked_servers());
    let mut bus = TestBus::new();
    let health = bus.run(Health::build(&bus.context_of(fleet.subscribe())));
    for (number, port) in ports.into_iter().enumerate() {
        let id = server(&format!("s{number}"));
        bus.publish(EventDraft::server(id.clone(), Event::ServerConfigured { card: card(&id).into() })).await;
        for event in [
            Event::LaunchBegan { binary: "llama-server".into() },
            Event::ServerSpawned { pid: servers.id(), start_ticks: 1, argv: [].into(), port },
            Event::ReadyReached { via: ReadyVia::Health, startup_seconds: 1.0 },
        ] {
            bus.publish(EventDraft::incarnation(id.clone(), Incarnation::new(1), event)).await;
        }
    }
    tokio::time::sleep(INTERVAL).await;
    let (before, began) = (cpu_time(), Instant::now());
    tokio::time::sleep(INTERVAL * ROUNDS).await;
    let (spent, passed) = (cpu_time() - before, began.elapsed());

    let well = bus.bus().watch().borrow().servers.values().filter(|record| record.health.is_some_and(|h| h.ok)).count();
    let looks = f64::from(ROUNDS) * SERVERS as f64;
    println!("{well} of {SERVERS} servers answered");
    println!("{:.0} µs for each look", spent.as_secs_f64() * 1e6 / looks);
    println!("{:.3} % of one core (goal 0.5 %)", 100.0 * spent.as_secs_f64() / passed.as_secs_f64());
    health.end().await;
    servers.kill().expect("kills");
    servers.wait().expect("reaps");
}

fn checked_servers() -> Fleet {
    let servers: String =
        (0..SERVERS).map(|number| format!("[[servers]]\nid = \"s{number}\"\nmodel = \"m{number}.gguf\"\n")).collect();
    fleet(&format!("[health]\ninterval = \"{}s\"\n{servers}", INTERVAL.as_secs()))
}

/// Time on a processor of this thread, to the nanosecond.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("reads");
    Duration::from_nanos(text.split(' ').next().and_then(|first| first.parse().ok()).expect("a number"))
}
