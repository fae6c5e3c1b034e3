//! Metrics of launches, read from the snapshot when an export is due.
//!
//! A gap in the events misses none of them, they cost nothing between two exports, and a server that is removed from the configuration has
//! no series any more.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use llama_warden_bus::Bus;
use llama_warden_events::ServerId;
use llama_warden_otlp_wire::Wire;
use llama_warden_state::{Histogram, ServerRecord, Snapshot};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval_at};

use super::collector::{DeliveryCount, SignalSender};

/// The field of a metric in `ScopeMetrics`.
const METRIC: u32 = 2;
/// Fields of a metric.
const GAUGE: u32 = 5;
const SUM: u32 = 7;
const HISTOGRAM: u32 = 9;
/// Values count from the beginning, not from the last export.
const CUMULATIVE: u64 = 2;

/// The times that points have.
#[derive(Debug, Clone, Copy)]
pub(super) struct MetricTimes {
    /// Since when counters count.
    pub(super) start: SystemTime,
    pub(super) now: SystemTime,
}

/// Exports the state at each interval, and a last time when `ended` comes.
pub(super) async fn send_all(
    sender: SignalSender,
    count: Arc<DeliveryCount>,
    every: Duration,
    bus: Bus,
    mut ended: oneshot::Receiver<()>,
) {
    let start = SystemTime::now();
    let mut due = interval_at(tokio::time::Instant::now() + every, every);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_last = false;
    while !is_last {
        is_last = tokio::select! {
            _ = due.tick() => false,
            _ = &mut ended => true,
        };
        count.take(1);
        sender.send(&written(&bus.snapshot(), MetricTimes { start, now: SystemTime::now() }), 1).await;
    }
}

/// Reports values of one server, each with the attribute beside the server's.
type Report<'a> = &'a mut dyn FnMut(u64, Option<(&'static str, &'static str)>);

/// The metrics of all servers, as `ScopeMetrics` holds them.
pub(super) fn written(snapshot: &Snapshot, times: MetricTimes) -> Wire {
    let mut writer = MetricWriter { snapshot, times, wire: Wire::default() };
    writer.counter(
        "llama_warden.server.launches",
        "{launch}",
        "Launches that began, and processes that were taken over",
        |server, report| report(server.counters.launches, None),
    );
    writer.counter("llama_warden.server.failures", "{failure}", "Failed launches, by reason", |server, report| {
        for reason in server.counters.failures.keys() {
            report(server.counters.failures.of(reason), Some(("error.type", reason.as_str())));
        }
    });
    writer.counter(
        "llama_warden.server.restarts",
        "{restart}",
        "Processes that the restart policy has started, by the failure before",
        |server, report| {
            for reason in server.counters.restarts.keys() {
                report(server.counters.restarts.of(reason), Some(("error.type", reason.as_str())));
            }
        },
    );
    writer.counter("llama_warden.server.exits", "{exit}", "Processes that ended, by outcome", |server, report| {
        for outcome in server.counters.exits.keys() {
            let attribute = ("llama_warden.exit.outcome", outcome.as_str());
            report(server.counters.exits.of(outcome), Some(attribute));
        }
    });
    writer.gauge("llama_warden.server.running", "1 while a process of the server runs, else 0", |server, report| {
        report(server.is_running().into(), None);
    });
    writer.gauge("llama_warden.server.ready", "1 while the server is ready, else 0", |server, report| {
        report(server.is_ready().into(), None);
    });
    writer.histogram("llama_warden.server.ready.duration", "Time from spawn to ready", |server| &server.ready_seconds);
    writer.histogram("llama_warden.server.stop.duration", "Time from the request to the reaped process", |server| {
        &server.stop_seconds
    });
    writer.wire
}

struct MetricWriter<'a> {
    snapshot: &'a Snapshot,
    times: MetricTimes,
    wire: Wire,
}

impl MetricWriter<'_> {
    fn counter(&mut self, name: &str, unit: &str, description: &str, read: fn(&ServerRecord, Report<'_>)) {
        let points = self.numbers(read);
        self.metric(SUM, name, unit, description, &points, |sum| {
            sum.varint(2, CUMULATIVE);
            sum.varint(3, 1);
        });
    }

    fn gauge(&mut self, name: &str, description: &str, read: fn(&ServerRecord, Report<'_>)) {
        let points = self.numbers(read);
        self.metric(GAUGE, name, "1", description, &points, |_| {});
    }

    fn histogram(&mut self, name: &str, description: &str, read: fn(&ServerRecord) -> &Histogram) {
        let mut points = Wire::default();
        for (id, server) in &self.snapshot.servers {
            let Some(totals) = read(server).totals() else { continue };
            points.message(1, |point| {
                point.time(2, self.times.start);
                point.time(3, self.times.now);
                point.fixed_64(4, totals.counts.iter().sum());
                point.double(5, totals.sum);
                totals.counts.iter().for_each(|count| point.fixed_64(6, *count));
                totals.bounds.iter().for_each(|bound| point.double(7, *bound));
                point.attribute(9, "llama_warden.server.id", ServerId::as_str(id));
            });
        }
        self.metric(HISTOGRAM, name, "s", description, &points, |histogram| histogram.varint(2, CUMULATIVE));
    }

    /// The points of a counter or gauge, in field 1.
    fn numbers(&self, read: fn(&ServerRecord, Report<'_>)) -> Wire {
        let mut points = Wire::default();
        for (id, server) in &self.snapshot.servers {
            read(server, &mut |number, attribute| {
                points.message(1, |point| {
                    point.time(2, self.times.start);
                    point.time(3, self.times.now);
                    point.fixed_64(6, number);
                    point.attribute(7, "llama_warden.server.id", ServerId::as_str(id));
                    if let Some((key, value)) = attribute {
                        point.attribute(7, key, value);
                    }
                });
            });
        }
        points
    }

    /// A metric without a point is left out.
    fn metric(
        &mut self,
        kind: u32,
        name: &str,
        unit: &str,
        description: &str,
        points: &Wire,
        further: impl FnOnce(&mut Wire),
    ) {
        if points.is_empty() {
            return;
        }
        self.wire.message(METRIC, |metric| {
            metric.text(1, name);
            metric.text(2, description);
            metric.text(3, unit);
            metric.message(kind, |data| {
                data.append(points);
                further(data);
            });
        });
    }
}
