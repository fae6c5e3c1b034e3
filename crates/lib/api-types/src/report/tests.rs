//! The notes of reports, from records as the fold leaves them.

use std::sync::Arc;
use std::time::Duration;

use super::*;

const NOW: Uptime = Uptime::new(Duration::from_secs(10));

/// A server in its third launch, with the failure of launch `failed_in`.
fn record(phase: Phase, failed: Option<(u64, FailureReason)>) -> ServerRecord {
    let failure = failed.map(|(launch, reason)| {
        Arc::new(FailureRecord {
            reason,
            detail: "why".to_owned(),
            at: Timestamp::new("2026-11-22T13:05:01Z".parse().expect("valid")),
            incarnation: Incarnation::new(launch),
            lines: Vec::new(),
        })
    });
    ServerRecord {
        phase,
        incarnation: Incarnation::new(3),
        failure: failure.clone().filter(|failure| failure.incarnation.get() == 3),
        last_failure: failure,
        ..ServerRecord::default()
    }
}

fn backing_off(max_attempts: Option<u32>) -> Phase {
    Phase::BackingOff { attempt: 2, max_attempts, until: Uptime::new(Duration::from_millis(13_400)) }
}

#[test]
fn a_note_says_what_happened_and_what_is_waited_for() {
    let (ready, exited) = (Phase::Ready { via: ReadyVia::Stderr }, Phase::Exited { end: ProcessEnd::Unknown });
    let failed = Phase::Failed { reason: FailureReason::Crashed };
    let crashed = |launch| Some((launch, FailureReason::Crashed));
    let by_hand = |record| ServerRecord { stopped_on_request: true, ..record };
    let ended = |launch| {
        let failure = record(ready, Some((launch, FailureReason::Ended))).last_failure?;
        Some(Arc::new(FailureRecord { detail: "ended by itself with exit code 0".to_owned(), ..(*failure).clone() }))
    };
    let cases = [
        (record(ready, None), None),
        (record(ready, crashed(1)), None),
        (record(ready, crashed(2)), Some("started again after crashed: why")),
        (
            ServerRecord { last_failure: ended(2), ..record(ready, None) },
            Some("started again after it ended by itself with exit code 0"),
        ),
        (record(backing_off(Some(5)), crashed(3)), Some("crashed: why; restart 2 of 5 in 3.4 s")),
        (
            record(backing_off(None), Some((3, FailureReason::ModelNotFound))),
            Some("waits for its model; next look in 3.4 s: why"),
        ),
        (
            ServerRecord { held: Some("needs 763 GiB; 22 GiB is available".to_owned()), ..record(exited, None) },
            Some("waits for memory: needs 763 GiB; 22 GiB is available"),
        ),
        (record(failed, crashed(3)), Some("crashed: why")),
        (
            ServerRecord { restart_abandoned: Some("6 failures".to_owned()), ..record(failed, crashed(3)) },
            Some("crashed: why; given up: 6 failures"),
        ),
        (
            ServerRecord {
                restart_abandoned: Some("later".to_owned()),
                ..record(failed, Some((3, FailureReason::BinaryBroken)))
            },
            Some("binary-broken: why; later"),
        ),
        (by_hand(record(failed, crashed(3))), Some("stopped by hand")),
        (by_hand(record(exited, None)), Some("stopped by hand")),
        (record(exited, None), None),
    ];
    for (record, expected) in cases {
        let id = ServerId::new("a").expect("valid");
        assert_eq!(ServerReport::of(&id, &record, NOW).note.as_deref(), expected, "{:?}", record.phase);
    }
}

#[test]
fn only_a_ready_server_sleeps() {
    let at = Timestamp::new("2026-11-22T13:05:01Z".parse().expect("valid"));
    let health = |is_sleeping| Some(HealthRecord { at, ok: true, latency_ms: 1.0, failures: 0, is_sleeping });
    let via = ReadyVia::Stderr;
    let of = |phase, is_sleeping| {
        let record = ServerRecord { health: health(is_sleeping), ..record(phase, None) };
        ServerReport::of(&ServerId::new("a").expect("valid"), &record, NOW)
    };
    let asleep = of(Phase::Ready { via }, true);
    assert!(asleep.is_ready && asleep.is_sleeping, "a request is answered");
    assert!(asleep.note.is_some_and(|note| note.contains("a request loads it again")));
    assert!(!of(Phase::Ready { via }, false).is_sleeping);
    assert!(!of(Phase::Unready { via }, true).is_sleeping);
}

#[test]
fn an_address_is_one_that_a_client_can_use() {
    for (host, url) in [
        ("127.0.0.1", "http://127.0.0.1:8001"),
        ("0.0.0.0", "http://127.0.0.1:8001"),
        ("::", "http://[::1]:8001"),
        ("[fe80::1]", "http://[fe80::1]:8001"),
        ("gpu-box", "http://gpu-box:8001"),
        ("127.0.0.1, /run/a.sock", "http://127.0.0.1:8001"),
        ("/run/a.sock", "unix:/run/a.sock"),
    ] {
        assert_eq!(base_url(host, 8001), url, "{host}");
    }
}
