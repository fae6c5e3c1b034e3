//! Servers whose `/health` answers while requests for tokens hang.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use llama_warden_events::{Envelope, Event, FailureReason};
use llama_warden_stand_in::{Script, Wedge};
use llama_warden_tests::{TestDaemon, measured, sandbox};

fn is_of(event: &Envelope, id: &str) -> bool {
    event.server.as_ref().is_some_and(|server| server.as_str() == id)
}

/// Waits for the next failure of a server, which is that it is wedged, and returns the event.
async fn wedged(daemon: &TestDaemon, id: &str, after: &Envelope) -> Envelope {
    let failed = |event: &Envelope| is_of(event, id) && matches!(event.event, Event::ServerFailed { .. });
    let failed = daemon.event_after(after.seq, "it is found wedged", failed).await;
    assert!(matches!(failed.event, Event::ServerFailed { reason: FailureReason::Wedged, .. }), "{failed:?}");
    failed
}

/// Faults C38 and C39: of two servers whose requests hang, the one that uses no processor time is stopped and started again; the
/// one that computes is left alone.
#[test]
fn a_server_that_hangs_idle_is_restarted_and_one_that_computes_is_left_alone() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section("[restart]\ninitial-delay = \"50ms\"\nmax-delay = \"100ms\"\nmax-attempts = 100");
        fleet.section("[health]\ninterval = \"300ms\"\ntimeout = \"500ms\"\nfailures = 2\ninference = \"300ms\"");
        fleet.server("idle", Script { wedge: Wedge::Idle, ..Script::default() });
        fleet.server("busy", Script { wedge: Wedge::Busy, ..Script::default() });
        let daemon = sandbox.up(&fleet).await;
        let ready = daemon.ready("idle").await;
        let busy = daemon.ready("busy").await;
        let pid = daemon.report("busy").await.pid;
        let first = wedged(&daemon, "idle", &ready).await;
        measured("C38", "wedged server found after", first.elapsed.since(ready.elapsed));
        // By then the busy one has failed as many requests.
        let second = wedged(&daemon, "idle", &first).await;
        fleet.rewrite("idle", &Script::default());
        let again = |event: &Envelope| is_of(event, "idle") && matches!(event.event, Event::ReadyReached { .. });
        let third = daemon.event_after(second.seq, "it is ready again", again).await;
        let not_ok =
            |event: &Envelope| is_of(event, "busy") && matches!(event.event, Event::HealthProbed { ok: false, .. });
        daemon.event_after(busy.seq, "a request to the busy one hung too", not_ok).await;
        assert_eq!(daemon.count("busy", "ServerFailed").await, 0);
        let report = daemon.report("busy").await;
        assert_eq!((report.pid, report.is_ready, report.restarts), (pid, true, 0));
        measured("C39", "busy server left alone for at least", third.elapsed.since(busy.elapsed));
        let stopped = daemon.events_of("idle").await.iter().any(|event| matches!(event.event, Event::StopBegan { .. }));
        assert!(stopped, "the ladder stops it");
    });
}
