//! The event log: an envelope is read, written and read again to the same, and every sequence of events folds.

use llama_warden_api_types::{ServerDetail, StatusReport};
use llama_warden_event_log::replay;
use llama_warden_events::Envelope;
use llama_warden_state::Snapshot;
use llama_warden_telemetry::sentence;

/// Reads the input as an event log.
pub(crate) fn check(input: &[u8]) {
    let replayed = replay(input);
    if let Ok(snapshot) = &replayed {
        check_reports(snapshot);
    }
    let mut folded: Option<Snapshot> = None;
    for line in input.split(|byte| *byte == b'\n') {
        let Ok(envelope) = serde_json::from_slice::<Envelope>(line) else { continue };
        let written = serde_json::to_vec(&envelope).expect("an envelope is JSON");
        assert!(!written.contains(&b'\n'), "an envelope is one line");
        let again: Envelope = serde_json::from_slice(&written)
            .unwrap_or_else(|error| panic!("{} is written and not read: {error}", String::from_utf8_lossy(&written)));
        assert_eq!(again, envelope);
        let said = sentence(&envelope).text;
        assert!(!said.contains(['\n', '\r', '\u{1b}']), "a sentence is one line without control: {said:?}");
        // Any order, holes and repetitions included: the fold is total.
        folded.get_or_insert_with(|| Snapshot::new(envelope.boot)).apply(&envelope);
    }
    if let Some(snapshot) = &folded {
        check_reports(snapshot);
    }
}

/// The reports of a snapshot are JSON that reads as the same reports.
fn check_reports(snapshot: &Snapshot) {
    serde_json::to_string(snapshot).expect("a snapshot is JSON");
    let report = StatusReport::of(snapshot, snapshot.elapsed);
    let text = serde_json::to_string(&report).expect("a report is JSON");
    assert_eq!(serde_json::from_str::<StatusReport>(&text).expect("reads its own JSON"), report);
    assert!(report.ready_servers <= report.running_servers && report.running_servers <= report.total_servers);
    for (id, server) in &snapshot.servers {
        let detail = ServerDetail::of(id, server, snapshot.elapsed);
        let text = serde_json::to_string(&detail).expect("a report is JSON");
        assert_eq!(serde_json::from_str::<ServerDetail>(&text).expect("reads its own JSON"), detail);
    }
}
