//! How long a page about a thousand servers takes and how long it is, and how long servers that hang hold up a look at fifty.
//!
//! `cargo bench -p llama-warden-metrics --bench scrape -- ROUNDS`. Prints a label, a value and its baseline on each line:
//! * `render`: milliseconds of processor time for the page, beside those for reading `/proc/PID/stat` as often and copying the page
//!   once. One thread renders it and waits for nothing, so on a machine with nothing else to do they are the time that passes;
//! * `running`, `waiting`: KiB on the page of a running and of a never launched server, beside the KiB of their label `server` alone;
//! * `hanging`: milliseconds for asking fifty servers of which five hang, beside the deadline.

#![expect(clippy::expect_used, reason = "a panic says that there is no figure")]

#[path = "../tests/servers/fixture.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod fixture;

use std::hint::black_box;
use std::time::{Duration, Instant};

use llama_warden_bus::{Bus, EventDraft, OutputKey, OutputLane, wall_time};
use llama_warden_component_kit::{card, server};
use llama_warden_events::{BinaryIdentity, BootId, Event, Incarnation, ReadyVia, ServerId, StreamName};
use llama_warden_metrics::{Exporter, ScrapeOutcome};
use llama_warden_procfs::ProcessStat;
use nix::time::{ClockId, clock_gettime};

use fixture::{ScrapeFixture, ScrapeReaction, ScrapedServer, ServerPlan};

const SERVERS: usize = 1000;
const DEADLINE: Duration = Duration::from_millis(500);

fn main() {
    let rounds = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok());
    let Some(rounds) = rounds else {
        println!("nothing is measured without ROUNDS");
        return;
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        render(rounds).await;
        hanging(rounds.min(5)).await;
    });
}

async fn render(rounds: usize) {
    let empty = page_bytes(0, false).await.1;
    let (exporter, running) = page_bytes(SERVERS, true).await;
    let (_, waiting) = page_bytes(SERVERS, false).await;
    let per_server = |bytes: usize| (bytes - empty) as f64 / SERVERS as f64 / 1024.0;
    let label = "{server=\"s0000\"}".len() as f64 / 1024.0;
    println!("running {} {label}", per_server(running));
    println!("waiting {} {label}", per_server(waiting));
    let page = exporter.render(None, None).body;
    for _ in 0..rounds {
        let began = processor_time();
        black_box(exporter.render(None, None));
        let ours = processor_time() - began;
        let began = processor_time();
        for _ in 0..SERVERS {
            black_box(ProcessStat::of(std::process::id()));
        }
        black_box(page.clone());
        println!("render {} {}", milliseconds(ours), milliseconds(processor_time() - began));
    }
}

/// What this thread has used so far.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// An exporter of this many servers, all ready or none launched, and the bytes of its page.
async fn page_bytes(servers: usize, are_ready: bool) -> (Exporter, usize) {
    let (bus, publisher) = Bus::start(BootId::from_random(1), 64);
    let lane = OutputLane::default();
    let own = ProcessStat::of_self().expect("readable");
    for number in 0..servers {
        let id = server(&format!("s{number:04}"));
        let configured = EventDraft::server(id.clone(), Event::ServerConfigured { card: card(&id).into() });
        let launch = if are_ready { launch(&id, own) } else { Vec::new() };
        for draft in [configured].into_iter().chain(launch) {
            publisher.publish_acked(draft).await.expect("open");
        }
        if are_ready {
            let key = OutputKey { server: id, incarnation: Incarnation::new(1), stream: StreamName::Stderr };
            lane.requests().set_prints(&key.server, key.incarnation, true);
            lane.open(&key, 4096).push(wall_time(), b"main: server is listening");
        }
    }
    let exporter = Exporter::new(bus, lane, "1.2.3").expect("valid families");
    let bytes = exporter.render(None, None).body.len();
    (exporter, bytes)
}

/// A launch whose process is this one, so that `/proc` is read for it.
fn launch(id: &ServerId, own: ProcessStat) -> Vec<EventDraft> {
    let identity = BinaryIdentity {
        binary: "/bin/llama-server".into(),
        version: Some("b11669".into()),
        build: Some(11_669),
        options: [].into(),
    };
    let spawned = Event::ServerSpawned { pid: own.pid, start_ticks: own.start_ticks, argv: [].into(), port: 8001 };
    let events = [
        Event::LaunchBegan { binary: "/bin/llama-server".into() },
        Event::BinaryIdentified(identity.into()),
        spawned,
        Event::ReadyReached { via: ReadyVia::Stderr, startup_seconds: 4.5 },
    ];
    events.into_iter().map(|event| EventDraft::incarnation(id.clone(), Incarnation::new(1), event)).collect()
}

async fn hanging(rounds: usize) {
    let mut fakes = Vec::new();
    for number in 0..50 {
        let fake = match number % 10 {
            0 => ScrapedServer::start(&[("/props", ScrapeReaction::Hang)]).await,
            _ => ScrapedServer::with_metrics("llamacpp:prompt_tokens_total 1\n").await,
        };
        fakes.push((format!("s{number}"), fake));
    }
    for _ in 0..rounds {
        // A new fixture: answers of a moment ago would be given again.
        let servers: Vec<_> = fakes.iter().map(|(id, fake)| (id.as_str(), fake, ServerPlan::default())).collect();
        let fixture = ScrapeFixture::ready(&servers).await;
        let began = Instant::now();
        let own = fixture.scraper.ask(DEADLINE).await;
        let took = began.elapsed();
        let answered = fakes.iter().filter(|(id, _)| own.outcome(id) == Some(ScrapeOutcome::Ok)).count();
        // Without every answer, there is no figure.
        if answered == 45 {
            println!("hanging {} {}", milliseconds(took), milliseconds(DEADLINE));
        }
    }
}
