//! The families about servers: one set of series per configured server.

use llama_warden_bus::OutputLane;
use llama_warden_events::{FailureReason, ReadyVia, ServerId, Signal, StreamName, Uptime};
use llama_warden_procfs::ProcessStat;
use llama_warden_state::{ExitOutcome, Phase, PhaseName, ServerRecord, Snapshot};

use crate::catalogue::{
    SERVER_BECAME_READY, SERVER_CPU, SERVER_EXITS, SERVER_FAILURES, SERVER_INFO, SERVER_LAUNCHES, SERVER_LOAD_PROGRESS,
    SERVER_OUTPUT_DROPPED, SERVER_OUTPUT_LINES, SERVER_PHASE, SERVER_READY, SERVER_READY_SECONDS,
    SERVER_RESIDENT_MEMORY, SERVER_RESTARTS, SERVER_RESTARTS_ABANDONED, SERVER_RUNNING, SERVER_SIGNALS,
    SERVER_START_TIME, SERVER_STOP_SECONDS, SERVER_UPTIME,
};
use crate::page::Page;
use crate::requests;

/// Signals of every ladder that have a series before they are first sent.
const USUAL_SIGNALS: [Signal; 2] = [Signal::TERM, Signal::KILL];

/// Adds every server of the snapshot as of `now`.
pub(crate) fn add(page: &mut Page, snapshot: &Snapshot, lane: &OutputLane, now: Uptime) {
    for (id, record) in &snapshot.servers {
        add_info(page, id, record);
        add_state(page, id, record, now);
        add_totals(page, id, record);
        add_process(page, id, record);
        add_output(page, id, lane);
        requests::add(page, id, lane.requests());
    }
}

fn add_info(page: &mut Page, id: &ServerId, record: &ServerRecord) {
    let card = &record.card;
    let model = card.model.as_deref().and_then(|path| path.file_name()).unwrap_or_default().to_string_lossy();
    let port = record.process.as_ref().map_or(card.port, |process| process.port);
    let port = if card.has_port() { port.to_string() } else { String::new() };
    let tier = card.tier.as_deref().unwrap_or_default();
    let detector = record.detector.as_deref().unwrap_or_default();
    let version = record.llama_version.as_deref().unwrap_or_default();
    page.value(&SERVER_INFO, &[id.as_str(), &model, tier, &port, detector, version], 1.0);
}

fn add_state(page: &mut Page, id: &ServerId, record: &ServerRecord, now: Uptime) {
    let server = id.as_str();
    page.value(&SERVER_RUNNING, &[server], record.is_running().into());
    page.value(&SERVER_READY, &[server], record.is_ready().into());
    for phase in PhaseName::ALL {
        page.value(&SERVER_PHASE, &[server, phase.as_str()], (record.phase.name() == phase).into());
    }
    let uptime = record.process.as_ref().map_or(0.0, |process| process.uptime(now).as_secs_f64());
    page.value(&SERVER_UPTIME, &[server], uptime);
    if let Some(process) = &record.process {
        page.value(&SERVER_START_TIME, &[server], process.spawned_at.as_unix_seconds());
    }
    page.value(&SERVER_LOAD_PROGRESS, &[server], load_progress(record));
}

fn load_progress(record: &ServerRecord) -> f64 {
    match record.phase {
        Phase::Loading { progress } => progress.unwrap_or(0.0),
        _ if record.is_running() && record.ready.is_some() => 1.0,
        _ => 0.0,
    }
}

fn add_totals(page: &mut Page, id: &ServerId, record: &ServerRecord) {
    let server = id.as_str();
    let counters = &record.counters;
    page.histogram(&SERVER_READY_SECONDS, &[server], &record.ready_seconds);
    page.histogram(&SERVER_STOP_SECONDS, &[server], &record.stop_seconds);
    page.value(&SERVER_LAUNCHES, &[server], counters.launches as f64);
    for via in ReadyVia::ALL {
        page.value(&SERVER_BECAME_READY, &[server, via.as_str()], counters.became_ready.of(via) as f64);
    }
    for outcome in ExitOutcome::ALL {
        page.value(&SERVER_EXITS, &[server, outcome.as_str()], counters.exits.of(outcome) as f64);
    }
    for reason in FailureReason::ALL {
        page.value(&SERVER_FAILURES, &[server, reason.as_str()], counters.failures.of(reason) as f64);
        page.value(&SERVER_RESTARTS, &[server, reason.as_str()], counters.restarts.of(reason) as f64);
        let abandoned = counters.restarts_abandoned.of(reason) as f64;
        page.value(&SERVER_RESTARTS_ABANDONED, &[server, reason.as_str()], abandoned);
    }
    let unusual = counters.signals.keys().filter(|signal| !USUAL_SIGNALS.contains(signal));
    for signal in USUAL_SIGNALS.into_iter().chain(unusual) {
        page.value(&SERVER_SIGNALS, &[server, &signal.to_string()], counters.signals.of(signal) as f64);
    }
}

fn add_process(page: &mut Page, id: &ServerId, record: &ServerRecord) {
    let Some(process) = &record.process else { return };
    // The pid may have been reused; the start time shows that.
    let stat = ProcessStat::of(process.pid).filter(|stat| stat.start_ticks == process.start_ticks);
    if let Some(stat) = stat {
        page.value(&SERVER_RESIDENT_MEMORY, &[id.as_str()], stat.resident_bytes() as f64);
        page.value(&SERVER_CPU, &[id.as_str()], stat.cpu_seconds());
    }
}

fn add_output(page: &mut Page, id: &ServerId, lane: &OutputLane) {
    for stream in StreamName::ALL {
        let counters = lane.counters(id, stream);
        page.value(&SERVER_OUTPUT_LINES, &[id.as_str(), stream.as_str()], counters.lines as f64);
        page.value(&SERVER_OUTPUT_DROPPED, &[id.as_str(), stream.as_str()], counters.dropped as f64);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use llama_warden_bus::{OutputKey, wall_time};
    use llama_warden_events::{Event, Incarnation, ProcessEnd, Rung, StopReason};
    use prometheus::TextEncoder;

    use super::*;
    use crate::builder::SnapshotBuilder;

    fn text(snapshot: &Snapshot, lane: &OutputLane, now: Uptime) -> String {
        let mut page = Page::default();
        add(&mut page, snapshot, lane, now);
        TextEncoder::new().encode_to_string(&page.into_families()).expect("encodes")
    }

    /// The value of the series that begins with `series`.
    fn value(text: &str, series: &str) -> Option<f64> {
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    fn stop(builder: &mut SnapshotBuilder, server: &str) {
        let rung = Rung { index: 0, signal: Signal::TERM };
        builder.apply(server, 1, Event::StopBegan { reason: StopReason::Requested, grace_seconds: 10.0 });
        builder.apply(server, 1, Event::SignalDelivered { signal: Signal::TERM, rung });
        builder.apply(server, 1, Event::ServerExited { end: ProcessEnd::Exited { code: 0 }, swept: 0 });
        let end = Event::ServerStopped { reason: StopReason::Requested, forced: false, stop_seconds: 0.02 };
        builder.apply(server, 1, end);
    }

    #[test]
    fn the_series_of_a_small_fleet_read_as_documented() {
        let mut builder = SnapshotBuilder::default();
        builder.configure("ready");
        builder.configure("waiting");
        builder.launch("ready", 1);
        builder.become_ready("ready", 1);
        let lane = OutputLane::default();
        let key = OutputKey {
            server: SnapshotBuilder::id("ready"),
            incarnation: Incarnation::new(1),
            stream: StreamName::Stderr,
        };
        let mut sink = lane.open(&key, 4096);
        sink.push(wall_time(), b"main: server is listening");
        insta::assert_snapshot!(text(&builder.snapshot, &lane, Uptime::new(Duration::from_secs(127))));
    }

    #[test]
    fn counters_survive_a_stop() {
        let mut builder = SnapshotBuilder::default();
        builder.configure("a");
        builder.launch("a", 1);
        builder.become_ready("a", 1);
        stop(&mut builder, "a");
        let text = text(&builder.snapshot, &OutputLane::default(), builder.snapshot.elapsed);
        let expected = [
            ("llama_warden_server_running{server=\"a\"}", Some(0.0)),
            ("llama_warden_server_uptime_seconds{server=\"a\"}", Some(0.0)),
            ("llama_warden_server_start_time_seconds{server=\"a\"}", None),
            ("llama_warden_server_load_progress_ratio{server=\"a\"}", Some(0.0)),
            ("llama_warden_server_launches_total{server=\"a\"}", Some(1.0)),
            ("llama_warden_server_became_ready_total{server=\"a\",via=\"stderr\"}", Some(1.0)),
            ("llama_warden_server_exits_total{server=\"a\",outcome=\"stopped\"}", Some(1.0)),
            ("llama_warden_server_signals_total{server=\"a\",signal=\"TERM\"}", Some(1.0)),
            ("llama_warden_server_signals_total{server=\"a\",signal=\"KILL\"}", Some(0.0)),
            ("llama_warden_server_ready_seconds_count{server=\"a\"}", Some(1.0)),
            ("llama_warden_server_stop_seconds_count{server=\"a\"}", Some(1.0)),
        ];
        for (series, expected) in expected {
            assert_eq!(value(&text, series), expected, "{series}\n{text}");
        }
    }

    #[test]
    fn a_removed_server_loses_its_series() {
        let mut builder = SnapshotBuilder::default();
        builder.configure("kept");
        builder.configure("removed");
        builder.apply("removed", None, Event::ServerRemoved);
        let text = text(&builder.snapshot, &OutputLane::default(), builder.snapshot.elapsed);
        assert!(text.contains("server=\"kept\"") && !text.contains("server=\"removed\""), "{text}");
    }

    #[test]
    fn exactly_one_phase_holds() {
        let mut builder = SnapshotBuilder::default();
        builder.configure("a");
        let check = |builder: &SnapshotBuilder, phase: &str| {
            let text = text(&builder.snapshot, &OutputLane::default(), builder.snapshot.elapsed);
            let series: Vec<_> = text.lines().filter(|line| line.starts_with("llama_warden_server_phase{")).collect();
            assert_eq!(series.len(), PhaseName::ALL.len());
            assert_eq!(series.iter().filter(|line| line.ends_with(" 1")).count(), 1, "{series:#?}");
            assert_eq!(
                value(&text, &format!("llama_warden_server_phase{{server=\"a\",phase=\"{phase}\"}}")),
                Some(1.0)
            );
        };
        check(&builder, "idle");
        builder.launch("a", 1);
        check(&builder, "starting");
        builder.apply("a", 1, Event::LoadProgressed { ratio: Some(0.5) });
        check(&builder, "loading");
        builder.become_ready("a", 1);
        check(&builder, "ready");
    }

    #[test]
    fn load_progress_rises_from_zero_to_one() {
        let mut builder = SnapshotBuilder::default();
        builder.configure("a");
        let progress = |builder: &SnapshotBuilder| load_progress(&builder.snapshot.servers["a"]);
        builder.launch("a", 1);
        assert_eq!(progress(&builder), 0.0);
        builder.apply("a", 1, Event::LoadProgressed { ratio: None });
        assert_eq!(progress(&builder), 0.0);
        builder.apply("a", 1, Event::LoadProgressed { ratio: Some(0.25) });
        assert_eq!(progress(&builder), 0.25);
        builder.become_ready("a", 1);
        assert_eq!(progress(&builder), 1.0);
        builder.apply("a", 1, Event::ReadyLost { detail: String::new() });
        assert_eq!(progress(&builder), 1.0);
    }

    #[test]
    fn memory_and_processor_time_are_those_of_the_very_process() {
        let own = ProcessStat::of_self().expect("readable");
        let memory = |start_ticks| {
            let mut builder = SnapshotBuilder::default();
            builder.configure("a");
            builder.spawn("a", 1, std::process::id(), start_ticks);
            let text = text(&builder.snapshot, &OutputLane::default(), builder.snapshot.elapsed);
            let cpu = value(&text, "llama_warden_server_cpu_seconds_total{server=\"a\"}");
            value(&text, "llama_warden_server_resident_memory_bytes{server=\"a\"}").zip(cpu)
        };
        assert!(memory(own.start_ticks).is_some_and(|(bytes, _)| bytes > 100_000.0));
        assert_eq!(memory(own.start_ticks + 1), None);
    }
}
