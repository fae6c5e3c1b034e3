//! The families about servers: one set of series per configured server.
//!
//! A server that was never launched has its description, `running`, `ready` and its phases. A series whose label is a value of a
//! closed set (a reason, an outcome, a signal) appears when that value is first counted.

use llama_warden_bus::OutputLane;
use llama_warden_events::{FailureReason, LaunchTraceId, ServerId, Uptime};
use llama_warden_procfs::ProcessTree;
use llama_warden_state::{Phase, PhaseName, ServerRecord, Snapshot};

use crate::catalogue::{
    SERVER_BECAME_READY, SERVER_CPU, SERVER_EXITS, SERVER_FAILURES, SERVER_INFO, SERVER_LAUNCHES, SERVER_LOAD_PROGRESS,
    SERVER_OUTPUT_DROPPED, SERVER_OUTPUT_LINES, SERVER_PHASE, SERVER_READY, SERVER_READY_SECONDS,
    SERVER_RESIDENT_MEMORY, SERVER_RESTARTS, SERVER_RESTARTS_ABANDONED, SERVER_RUNNING, SERVER_SIGNALS,
    SERVER_START_TIME, SERVER_STOP_SECONDS, SERVER_UPTIME,
};
use crate::requests;
use crate::server_families::{ServerFamilies, ServerReading};
use crate::text::{Exemplar, Page, SeriesWriter};

/// Whether observations come with the trace that shows how they came about, in the format that has exemplars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Exemplars {
    /// No: launches have no traces.
    #[default]
    None,
    /// With the ids of the traces of launches.
    TraceIds,
}

/// The time of a scrape, and what it shows beside the values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) now: Uptime,
    pub(crate) exemplars: Exemplars,
}

/// A server that was taken over became ready under an earlier daemon, with another trace.
fn ready_exemplar(snapshot: &Snapshot, id: &ServerId, record: &ServerRecord) -> Option<Exemplar> {
    let ready = record.ready.filter(|ready| !ready.is_adopted())?;
    let trace = LaunchTraceId::of(&snapshot.boot, id, record.incarnation);
    Some(Exemplar { value: ready.startup_seconds, trace })
}

/// Adds every server of the snapshot as of a moment.
pub(crate) fn add(page: &mut Page, snapshot: &Snapshot, lane: &OutputLane, moment: Moment) {
    // Read once for all servers.
    let is_any_running = snapshot.servers.values().any(|record| record.process.is_some());
    let processes = if is_any_running { ProcessTree::read() } else { ProcessTree::default() };
    let Moment { now, exemplars } = moment;
    let servers = snapshot.servers.iter().map(|(id, record)| {
        let ready_exemplar = ready_exemplar(snapshot, id, record).filter(|_| exemplars == Exemplars::TraceIds);
        ServerReading { ready_exemplar, ..ServerReading::read(id, record, lane, &processes) }
    });
    let servers: Vec<_> = servers.collect();
    let mut all = ServerFamilies { page, servers: &servers };
    all.each(&SERVER_INFO, add_info);
    all.value(&SERVER_RUNNING, |server| Some(server.record.is_running().into()));
    all.value(&SERVER_READY, |server| Some(server.record.is_ready().into()));
    all.each(&SERVER_PHASE, |writer, server| {
        for phase in PhaseName::ALL {
            writer.value(&[server.id, phase.as_str()], (server.record.phase.name() == phase).into());
        }
    });
    all.of_launched(&SERVER_UPTIME, |server| {
        server.record.process.as_ref().map_or(0.0, |process| process.uptime(now).as_secs_f64())
    });
    all.value(&SERVER_START_TIME, |server| Some(server.record.process.as_ref()?.spawned_at.as_unix_seconds()));
    all.of_launched(&SERVER_LOAD_PROGRESS, |server| load_progress(server.record));
    all.each(&SERVER_READY_SECONDS, |writer, server| {
        writer.histogram(&[server.id], &server.record.ready_seconds, server.ready_exemplar);
    });
    all.histogram(&SERVER_STOP_SECONDS, |server| Some(&server.record.stop_seconds));
    all.of_launched(&SERVER_LAUNCHES, |server| server.record.counters.launches as f64);
    all.tally(&SERVER_BECAME_READY, |counters| &counters.became_ready);
    all.tally(&SERVER_EXITS, |counters| &counters.exits);
    all.tally_from(&SERVER_FAILURES, Some(FailureReason::Unknown), |counters| &counters.failures);
    all.tally_from(&SERVER_RESTARTS, Some(FailureReason::Unknown), |counters| &counters.restarts);
    all.tally(&SERVER_RESTARTS_ABANDONED, |counters| &counters.restarts_abandoned);
    all.tally(&SERVER_SIGNALS, |counters| &counters.signals);
    all.value(&SERVER_RESIDENT_MEMORY, |server| Some(server.used?.resident_bytes as f64));
    all.value(&SERVER_CPU, |server| Some(server.used?.cpu_seconds));
    requests::add(&mut all);
    all.each(&SERVER_OUTPUT_LINES, |writer, server| {
        for (stream, counters) in server.output.iter().filter(|_| server.was_launched) {
            writer.value(&[server.id, stream.as_str()], counters.lines as f64);
        }
    });
    all.each(&SERVER_OUTPUT_DROPPED, |writer, server| {
        for (stream, counters) in server.output.iter().filter(|(_, counters)| counters.dropped > 0) {
            writer.value(&[server.id, stream.as_str()], counters.dropped as f64);
        }
    });
}

fn add_info(writer: &mut SeriesWriter<'_>, server: &ServerReading<'_>) {
    let (record, card) = (server.record, &server.record.card);
    let model = card.model.as_deref().and_then(|path| path.file_name()).unwrap_or_default().to_string_lossy();
    let port = record.process.as_ref().map_or(card.port, |process| process.port);
    let port = if card.has_port() { port.to_string() } else { String::new() };
    let tier = card.tier.as_deref().unwrap_or_default();
    let detector = record.detector.as_deref().unwrap_or_default();
    let version = record.llama_version.as_deref().unwrap_or_default();
    writer.value(&[server.id, &model, tier, &port, detector, version], 1.0);
}

fn load_progress(record: &ServerRecord) -> f64 {
    match record.phase {
        Phase::Loading { progress } => progress.unwrap_or(0.0),
        _ if record.is_running() && record.ready.is_some() => 1.0,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use llama_warden_bus::{OutputKey, wall_time};
    use llama_warden_events::{Event, Incarnation, ProcessEnd, Rung, Signal, StopReason, StreamName};
    use llama_warden_procfs::ProcessStat;

    use super::*;
    use crate::accept::Format;
    use crate::builder::SnapshotBuilder;

    fn text(snapshot: &Snapshot, lane: &OutputLane, now: Uptime) -> String {
        let mut page = Page::new(Format::Text, 0);
        add(&mut page, snapshot, lane, Moment { now, exemplars: Exemplars::None });
        page.finish()
    }

    #[test]
    fn the_trace_of_a_launch_stands_at_its_time_to_ready_in_openmetrics_alone() {
        let mut builder = SnapshotBuilder::default();
        builder.configure("a");
        builder.launch("a", 1);
        builder.become_ready("a", 1);
        let snapshot = &builder.snapshot;
        let exemplars = |format, exemplars| {
            let mut page = Page::new(format, 0);
            add(&mut page, snapshot, &OutputLane::default(), Moment { now: snapshot.elapsed, exemplars });
            let text = page.finish();
            text.lines()
                .filter(|line| line.contains(" # "))
                .filter(|line| !line.starts_with('#'))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let found = exemplars(Format::OpenMetrics, Exemplars::TraceIds);
        let trace = LaunchTraceId::of(&snapshot.boot, &SnapshotBuilder::id("a"), Incarnation::new(1));
        let value = snapshot.servers["a"].ready.expect("is ready").startup_seconds;
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("llama_warden_server_ready_seconds_bucket{server=\"a\",le="), "{found:?}");
        assert!(found[0].ends_with(&format!(" 1 # {{trace_id=\"{trace}\"}} {value}")), "{found:?}");
        for (format, wanted) in [(Format::Text, Exemplars::TraceIds), (Format::OpenMetrics, Exemplars::None)] {
            assert_eq!(exemplars(format, wanted), Vec::<String>::new());
        }
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
            ("llama_warden_server_signals_total{server=\"a\",signal=\"KILL\"}", None),
            ("llama_warden_server_ready_seconds_count{server=\"a\"}", Some(1.0)),
            ("llama_warden_server_stop_seconds_count{server=\"a\"}", Some(1.0)),
        ];
        for (series, expected) in expected {
            assert_eq!(value(&text, series), expected, "{series}\n{text}");
        }
    }

    #[test]
    fn a_server_that_was_never_launched_has_what_it_is_and_its_phase_alone() {
        let mut builder = SnapshotBuilder::default();
        builder.configure("a");
        let text = text(&builder.snapshot, &OutputLane::default(), builder.snapshot.elapsed);
        let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let families: BTreeSet<_> = samples.iter().filter_map(|line| line.split('{').next()).collect();
        let expected = ["info", "phase", "ready", "running"].map(|name| format!("llama_warden_server_{name}"));
        assert_eq!(families.into_iter().collect::<Vec<_>>(), expected);
        assert!(samples.iter().map(|line| line.len() + 1).sum::<usize>() <= 1024);
    }

    #[test]
    fn the_sum_of_failures_and_restarts_is_there_from_the_first_launch_on_and_no_reason_is_counted_twice() {
        let mut builder = SnapshotBuilder::default();
        builder.configure("a");
        builder.launch("a", 1);
        let sums = |builder: &SnapshotBuilder| {
            let text = text(&builder.snapshot, &OutputLane::default(), builder.snapshot.elapsed);
            ["failures", "restarts"].map(|name| {
                let start = format!("llama_warden_server_{name}_total{{server=\"a\",");
                let values = text.lines().filter(|line| line.starts_with(&start)).map(|line| {
                    line.rsplit_once(' ').and_then(|(_, value)| value.parse::<f64>().ok()).expect("a value")
                });
                values.fold(None, |sum: Option<f64>, value| Some(sum.unwrap_or_default() + value))
            })
        };
        assert_eq!(sums(&builder), [Some(0.0), Some(0.0)]);
        let failed = |reason| Event::ServerFailed { reason, detail: String::new(), lines: [].into() };
        builder.apply("a", 1, failed(FailureReason::Crashed));
        builder.apply("a", 1, Event::ServerExited { end: ProcessEnd::Exited { code: 1 }, swept: 0 });
        builder.launch("a", 2);
        builder.apply("a", 2, failed(FailureReason::Unknown));
        assert_eq!(sums(&builder), [Some(2.0), Some(0.0)]);
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

    #[test]
    fn memory_and_processor_time_behind_a_wrapper_are_those_of_its_children() {
        use std::io::{BufRead as _, BufReader};
        use std::process::{Command, Stdio};
        // The child holds 16 MiB in a variable, another one has computed and ended; their parent waits.
        let held = "big=$(head -c 16777216 /dev/zero | tr '\\0' x); echo held; read -r end <&3";
        let script =
            format!("exec 3<&0; i=0; (while [ $i -lt 200000 ]; do i=$((i+1)); done); ({held}; : ${{#big}}) & wait");
        let mut wrapper = Command::new("/bin/sh");
        let mut wrapper =
            wrapper.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("spawns");
        let mut line = String::new();
        BufReader::new(wrapper.stdout.take().expect("piped")).read_line(&mut line).expect("is read");
        let own = ProcessStat::of(wrapper.id()).expect("runs");
        let mut builder = SnapshotBuilder::default();
        builder.configure("a");
        builder.spawn("a", 1, own.pid, own.start_ticks);
        let text = text(&builder.snapshot, &OutputLane::default(), builder.snapshot.elapsed);
        let memory = value(&text, "llama_warden_server_resident_memory_bytes{server=\"a\"}");
        let cpu = value(&text, "llama_warden_server_cpu_seconds_total{server=\"a\"}");
        // The end of its input ends the child, and that the wrapper.
        drop(wrapper.stdin.take());
        wrapper.wait().expect("is reaped");
        assert!(memory > Some(f64::from(16 << 20)), "{memory:?}");
        assert!(cpu > Some(own.cpu_seconds()), "{cpu:?} and {own:?}");
    }
}
