//! The duties of every component: it ends when it is cancelled, survives a gap, ignores a launch that is not the latest, and is
//! silent after its end.
//!
//! ```ignore
//! #[tokio::test(start_paused = true)]
//! async fn the_pager_is_a_good_component() {
//!     compliance::check(|bus| Pager::build(&bus.context("")).expect("its table")).await;
//! }
//! ```
//!
//! The clock must be paused: it moves on only when every task waits, so that the suite knows when a component has done all that
//! it will do.

use std::time::Duration;

use llama_warden_bus::EventDraft;
use llama_warden_component::Component;
use llama_warden_events::{
    Event, FailureReason, HookOutcome, HookPoint, Incarnation, ProcessEnd, ReadyVia, Seq, ServerId, StopReason,
};

use crate::{TestBus, server};

/// The launch that is over before the tests begin, and the one that is the latest.
const STALE: Incarnation = Incarnation::new(1);
const LATEST: Incarnation = Incarnation::new(2);

/// Longer than a component waits for anything that it does by itself at once, and shorter than its policies.
const SETTLE: Duration = Duration::from_millis(10);

/// Runs the whole suite, each part with a component of its own.
///
/// # Panics
/// If the component does not comply.
pub async fn check<C: Component>(mut make: impl FnMut(&TestBus) -> C) {
    ends_when_cancelled(&mut make).await;
    survives_a_gap(&mut make).await;
    ignores_a_stale_launch(&mut make).await;
    is_silent_after_its_end(&mut make).await;
}

async fn ends_when_cancelled<C: Component>(make: &mut impl FnMut(&TestBus) -> C) {
    let mut bus = TestBus::new();
    let component = make(&bus);
    let running = bus.run(component);
    let id = server("a");
    begin(&bus, &id, LATEST).await;
    settle().await;
    // Fails the test if the component does not end in time, or ends with an error.
    running.end().await;
}

async fn survives_a_gap<C: Component>(make: &mut impl FnMut(&TestBus) -> C) {
    let mut bus = TestBus::keeping(4);
    let component = make(&bus);
    let running = bus.run(component);
    let id = server("a");
    begin(&bus, &id, STALE).await;
    settle().await;
    // More than the ring keeps, without a pause in which the component could read: the end of one launch and the start of the
    // next are in the snapshot only.
    let mut drafts: Vec<_> = life(&id, STALE).into_iter().collect();
    drafts.extend([began(&id, LATEST), spawned(&id, LATEST)]);
    drafts.extend((0..32).map(|_| EventDraft::server(id.clone(), lost_lines())));
    for draft in drafts {
        bus.publisher().publish(draft).await.unwrap_or_else(|error| panic!("{error}"));
    }
    settle().await;
    running.end().await;
}

async fn ignores_a_stale_launch<C: Component>(make: &mut impl FnMut(&TestBus) -> C) {
    let mut bus = TestBus::new();
    let id = server("a");
    begin(&bus, &id, STALE).await;
    for draft in life(&id, STALE) {
        bus.publish(draft).await;
    }
    let component = make(&bus);
    let running = bus.run(component);
    settle().await;
    begin(&bus, &id, LATEST).await;
    settle().await;
    let mut published = Vec::new();
    for draft in life(&id, STALE) {
        published.push(bus.publish(draft).await);
    }
    settle().await;
    let own = |seq: Seq| published.contains(&seq);
    for envelope in bus.history() {
        let is_late = published.first().is_some_and(|first| envelope.seq > *first);
        assert!(
            !is_late || own(envelope.seq) || envelope.incarnation != Some(STALE),
            "`{}` acts on a launch that is not the latest: {envelope:?}",
            C::NAME
        );
    }
    running.end().await;
}

async fn is_silent_after_its_end<C: Component>(make: &mut impl FnMut(&TestBus) -> C) {
    let mut bus = TestBus::new();
    let component = make(&bus);
    let running = bus.run(component);
    let id = server("a");
    begin(&bus, &id, LATEST).await;
    settle().await;
    running.end().await;
    let last = bus.bus().latest_seq();
    let mut published = Vec::new();
    for draft in life(&id, LATEST) {
        published.push(bus.publish(draft).await);
    }
    settle().await;
    for envelope in bus.history().into_iter().filter(|envelope| envelope.seq > last) {
        assert!(published.contains(&envelope.seq), "`{}` publishes after its end: {envelope:?}", C::NAME);
    }
}

/// Lets every task run until all of them wait.
async fn settle() {
    tokio::time::sleep(SETTLE).await;
}

async fn begin(bus: &TestBus, id: &ServerId, incarnation: Incarnation) {
    bus.configure(id).await;
    bus.publish(began(id, incarnation)).await;
    bus.publish(spawned(id, incarnation)).await;
}

fn began(id: &ServerId, incarnation: Incarnation) -> EventDraft {
    EventDraft::incarnation(id.clone(), incarnation, Event::LaunchBegan { binary: "llama-server".into() })
}

/// A process id that no process has: above the kernel's largest.
fn spawned(id: &ServerId, incarnation: Incarnation) -> EventDraft {
    let event = Event::ServerSpawned { pid: 0x7fff_fff0, start_ticks: 1, argv: [].into(), port: 1 };
    EventDraft::incarnation(id.clone(), incarnation, event)
}

/// Everything that can happen to a launch after its spawn, up to its end.
fn life(id: &ServerId, incarnation: Incarnation) -> [EventDraft; 6] {
    let (detail, lines) = (String::new(), Vec::new());
    [
        Event::ReadyReached { via: ReadyVia::Health, startup_seconds: 1.0 },
        Event::ServerFailed { reason: FailureReason::Crashed, detail, lines },
        Event::StopBegan { reason: StopReason::Requested, grace_seconds: 1.0 },
        Event::HookCompleted { hook: HookPoint::PreStop, outcome: HookOutcome::Succeeded, seconds: 0.0 },
        Event::ServerExited { end: ProcessEnd::Exited { code: 0 }, swept: 0 },
        Event::ServerStopped { reason: StopReason::Requested, forced: false, stop_seconds: 1.0 },
    ]
    .map(|event| EventDraft::incarnation(id.clone(), incarnation, event))
}

fn lost_lines() -> Event {
    Event::OutputLost { stream: llama_warden_events::StreamName::Stderr, consumer: "test".to_owned(), lines: 1 }
}
