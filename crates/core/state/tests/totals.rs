//! Totals go on under the next daemon.

#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use std::path::PathBuf;
use std::sync::Arc;

use llama_warden_events::{
    BootId, Envelope, Event, ExitOutcome, FailureReason, Incarnation, ReadyVia, Seq, ServerCard, ServerId,
    ServerTotals, Signal, Timestamp, Uptime,
};
use llama_warden_state::{ServerRecord, Snapshot};

fn server() -> ServerId {
    ServerId::new("a").expect("valid")
}

fn apply(snapshot: &mut Snapshot, incarnation: Option<u64>, event: Event) {
    snapshot.apply(&Envelope {
        seq: snapshot.seq.next(),
        boot: BootId::from_random(1),
        at: Timestamp::from_unix_microseconds(0),
        elapsed: Uptime::default(),
        server: Some(server()),
        incarnation: incarnation.map(Incarnation::new),
        cause: None::<Seq>,
        event,
    });
}

#[test]
fn totals_go_on_from_what_earlier_daemons_have_counted() {
    let card = Arc::new(ServerCard::default());
    let mut before = ServerRecord::new(card.clone(), Uptime::default());
    before.counters.launches = 3;
    before.counters.became_ready.add(ReadyVia::Health, 2);
    before.counters.exits.count(ExitOutcome::Crashed);
    before.counters.failures.count(FailureReason::Crashed);
    before.counters.restarts.count(FailureReason::Crashed);
    before.counters.restarts_abandoned.count(FailureReason::Stalled);
    before.counters.signals.count(Signal::TERM);
    before.ready_seconds.observe(1.5);
    before.stop_seconds.observe(700.0);
    let told = serde_json::to_string(&before.totals()).expect("serializes");
    let totals: ServerTotals = serde_json::from_str(&told).expect("the same");

    let mut snapshot = Snapshot::new(BootId::from_random(1));
    apply(&mut snapshot, None, Event::ServerConfigured { card });
    apply(&mut snapshot, None, Event::TotalsRestored { totals: totals.clone().into() });
    let counted = |record: &ServerRecord| {
        (record.counters.clone(), [&record.ready_seconds, &record.stop_seconds].map(Clone::clone))
    };
    assert_eq!(counted(&snapshot.servers[&server()]), counted(&before));
    apply(&mut snapshot, Some(7), Event::LaunchBegan { binary: PathBuf::new() });
    assert_eq!((snapshot.servers[&server()].counters.launches, snapshot.anomalies), (4, 0));
    apply(&mut snapshot, None, Event::TotalsRestored { totals: totals.into() });
    let launches = snapshot.servers[&server()].counters.launches;
    assert_eq!((launches, snapshot.anomalies), (4, 1), "what was counted meanwhile stays");
}
