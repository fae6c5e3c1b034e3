//! Metrics of launches.
//!
//! Counters and gauges are read from the snapshot when an export is due: a gap in the events misses none of them, and a server that is
//! removed from the configuration has no series any more. The two histograms are recorded from events.

use std::sync::Arc;
use std::time::Duration;

use llama_warden_bus::Bus;
use llama_warden_events::{Envelope, Event, ReadyVia, ServerId};
use llama_warden_state::{Histogram, ServerRecord};
use opentelemetry::metrics::{AsyncInstrument, Histogram as HistogramInstrument, Meter, MeterProvider};
use opentelemetry::{KeyValue, StringValue};
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};

use super::collector::{self, DeliveryCount, Exported};
use super::settings::SignalSettings;
use super::{Export, SCOPE};

/// Records what a histogram observes.
#[derive(Debug)]
pub(super) struct MetricRecorder {
    ready: HistogramInstrument<f64>,
    stop: HistogramInstrument<f64>,
}

pub(super) fn export(
    signal: &SignalSettings,
    interval: Duration,
    bus: Bus,
    resource: Resource,
) -> Result<Export<SdkMeterProvider>, ExporterBuildError> {
    let count = Arc::new(DeliveryCount::new(Exported::Metrics));
    let exporter = collector::metric_exporter(signal, count.clone())?;
    let reader = PeriodicReader::builder(exporter).with_interval(interval).build();
    let provider = SdkMeterProvider::builder().with_resource(resource).with_reader(reader).build();
    observe(&provider.meter(SCOPE), &bus);
    Ok(Export { provider, count })
}

pub(super) fn recorder(provider: &SdkMeterProvider) -> MetricRecorder {
    let meter = provider.meter(SCOPE);
    let histogram = |name: &'static str, description: &'static str, bounds: &[f64]| {
        meter.f64_histogram(name).with_unit("s").with_description(description).with_boundaries(bounds.to_vec()).build()
    };
    MetricRecorder {
        ready: histogram("llama_warden.server.ready.duration", "Time from spawn to ready", Histogram::READY_SECONDS),
        stop: histogram(
            "llama_warden.server.stop.duration",
            "Time from the request to the reaped process",
            Histogram::STOP_SECONDS,
        ),
    }
}

impl MetricRecorder {
    pub(super) fn record(&self, envelope: &Envelope) {
        let Some(server) = &envelope.server else { return };
        let server = || [server_attribute(server)];
        match &envelope.event {
            // A server that was taken over became ready long ago.
            Event::ReadyReached { via, startup_seconds } if *via != ReadyVia::Adopted => {
                self.ready.record(*startup_seconds, &server());
            }
            Event::ServerStopped { stop_seconds, .. } => self.stop.record(*stop_seconds, &server()),
            _ => {}
        }
    }
}

/// Reports values of one server, each with the attributes beside the server's.
type Report<'a, T> = &'a mut dyn FnMut(T, Option<KeyValue>);

/// Registers the counters and gauges. The meter keeps their callbacks.
fn observe(meter: &Meter, bus: &Bus) {
    let counter = |name: &'static str,
                   unit: &'static str,
                   description: &'static str,
                   read: fn(&ServerRecord, Report<'_, u64>)| {
        let bus = bus.clone();
        let callback = move |instrument: &dyn AsyncInstrument<u64>| each(&bus, instrument, read);
        meter.u64_observable_counter(name).with_unit(unit).with_description(description).with_callback(callback).build()
    };
    counter(
        "llama_warden.server.launches",
        "{launch}",
        "Launches that began, and processes that were taken over",
        |server, report| {
            report(server.counters.launches, None);
        },
    );
    counter("llama_warden.server.failures", "{failure}", "Failed launches, by reason", |server, report| {
        for reason in server.counters.failures.keys() {
            report(server.counters.failures.of(reason), Some(error_type(reason.as_str())));
        }
    });
    counter(
        "llama_warden.server.restarts",
        "{restart}",
        "Restarts by policy, by the failure before",
        |server, report| {
            for reason in server.counters.restarts.keys() {
                report(server.counters.restarts.of(reason), Some(error_type(reason.as_str())));
            }
        },
    );
    counter("llama_warden.server.exits", "{exit}", "Processes that ended, by outcome", |server, report| {
        for outcome in server.counters.exits.keys() {
            let attribute = KeyValue::new("llama_warden.exit.outcome", outcome.as_str());
            report(server.counters.exits.of(outcome), Some(attribute));
        }
    });
    let gauge = |name: &'static str, description: &'static str, read: fn(&ServerRecord, Report<'_, i64>)| {
        let bus = bus.clone();
        let callback = move |instrument: &dyn AsyncInstrument<i64>| each(&bus, instrument, read);
        meter.i64_observable_gauge(name).with_unit("1").with_description(description).with_callback(callback).build()
    };
    gauge("llama_warden.server.running", "1 while a process of the server runs, else 0", |server, report| {
        report(server.is_running().into(), None);
    });
    gauge("llama_warden.server.ready", "1 while the server is ready, else 0", |server, report| {
        report(server.is_ready().into(), None);
    });
}

fn each<T>(bus: &Bus, instrument: &dyn AsyncInstrument<T>, read: fn(&ServerRecord, Report<'_, T>)) {
    for (id, record) in &bus.snapshot().servers {
        let server = server_attribute(id);
        read(record, &mut |value, attribute| match attribute {
            Some(attribute) => instrument.observe(value, &[server.clone(), attribute]),
            None => instrument.observe(value, std::slice::from_ref(&server)),
        });
    }
}

fn server_attribute(server: &ServerId) -> KeyValue {
    KeyValue::new("llama_warden.server.id", StringValue::from(server.shared()))
}

fn error_type(reason: &'static str) -> KeyValue {
    KeyValue::new("error.type", reason)
}
