//! Builds spans from events.
//!
//! One trace per incarnation. `server start` lasts from the beginning of the launch until the server is ready, has failed,
//! or is asked to stop. Its child `launch` lasts until the process exists, its child `load` from then on. `server stop`
//! follows in the same trace and has an event for each signal. An exit that nobody requested is a `server exit` of no
//! duration.
//!
//! A command whose sender named its trace has a span there, to which the spans that it leads to have links.
//!
//! Times: a launch starts at the wall time of its first event. All later times add the time elapsed since then, so a clock
//! that is set back or forward does not change the length of a span.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use llama_warden_events::{
    ArgumentList, Envelope, Event, FailureReason, Incarnation, LaunchTraceId, ProcessEnd, Rung, ServerId, Signal,
    Uptime,
};
use llama_warden_traffic::FinishedRequest;
use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, Status, TraceContextExt, Tracer, TracerProvider,
};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, Span};

use super::collector::{self, CountedSpans, DeliveryCount, Exported};
use super::commands::{CommandAim, CommandSpans};
use super::ids::LaunchIds;
use super::settings::{BatchSettings, SignalSettings};
use super::{Export, SCOPE, count, requests};

pub(super) fn export(
    signal: &SignalSettings,
    batches: BatchSettings,
    ids: &LaunchIds,
    resource: Resource,
) -> Result<Export<SdkTracerProvider>, ExporterBuildError> {
    let count = Arc::new(DeliveryCount::new(Exported::Spans));
    let exporter = collector::span_exporter(signal, count.clone())?;
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(batches.queue)
        .with_max_export_batch_size(batches.batch)
        .with_scheduled_delay(batches.delay)
        .build();
    let queue = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
    let provider = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_id_generator(ids.clone())
        .with_span_processor(CountedSpans { queue, count: count.clone() })
        .build();
    Ok(Export { provider, count })
}

pub(super) fn recorder(provider: &SdkTracerProvider, ids: &LaunchIds) -> SpanRecorder {
    SpanRecorder {
        tracer: provider.tracer(SCOPE),
        ids: ids.clone(),
        launches: HashMap::new(),
        commands: CommandSpans::default(),
    }
}

/// Builds spans from events.
#[derive(Debug)]
pub(super) struct SpanRecorder {
    tracer: SdkTracer,
    ids: LaunchIds,
    launches: HashMap<ServerId, LaunchSpans>,
    commands: CommandSpans,
}

/// The spans of one incarnation.
#[derive(Debug)]
struct LaunchSpans {
    tracer: SdkTracer,
    incarnation: Incarnation,
    at: SystemTime,
    began: Uptime,
    /// Holds the span `server start`, the parent of all others, also after it has ended.
    start: Context,
    starting: bool,
    /// `launch`, then `load`.
    step: Option<Span>,
    stop: Option<Span>,
    failure: Option<FailureReason>,
}

impl SpanRecorder {
    /// Records an event. Events that are not about a launch or a traced command change nothing.
    pub(super) fn record(&mut self, envelope: &Envelope) {
        match &envelope.event {
            Event::CommandAccepted { command, trace: Some(parent) } => {
                self.commands.begin(&self.tracer, envelope, command, **parent);
            }
            Event::CommandCompleted { outcome } => self.commands.complete(envelope, outcome),
            _ => {}
        }
        let Some(server) = &envelope.server else { return };
        match (&envelope.event, envelope.incarnation) {
            (Event::LaunchBegan { binary }, Some(incarnation)) => {
                let links = self.commands.links(server, CommandAim::Launch);
                self.ids.set_next(LaunchTraceId::of(&envelope.boot, server, incarnation));
                let mut launch = LaunchSpans::begin(&self.tracer, envelope, links);
                let mut step = launch.child("launch", launch.at, Vec::new());
                step.set_attribute(KeyValue::new("process.executable.path", binary.to_string_lossy().into_owned()));
                launch.step = Some(step);
                if let Some(former) = self.launches.insert(server.clone(), launch) {
                    former.abandon();
                }
            }
            (Event::ServerRemoved, _) => {
                if let Some(launch) = self.launches.remove(server) {
                    launch.abandon();
                }
            }
            _ => {
                let Some(launch) = self.launches.get_mut(server) else { return };
                if envelope.incarnation.is_none_or(|incarnation| incarnation == launch.incarnation) {
                    launch.record(envelope, &self.commands);
                }
            }
        }
    }

    /// The span that an event is about: the command's, or the start of its launch.
    pub(super) fn context_of(&self, envelope: &Envelope) -> Option<SpanContext> {
        let launch = || {
            let launch = self.launches.get(envelope.server.as_ref()?)?;
            let is_same = envelope.incarnation? == launch.incarnation;
            is_same.then(|| launch.start.span().span_context().clone())
        };
        self.commands.context_of(envelope).or_else(launch)
    }

    /// Makes the spans of a request that has ended.
    pub(super) fn record_request(&self, request: &FinishedRequest) {
        let launch = request.server.as_ref().and_then(|server| self.launches.get(server));
        let launch =
            launch.filter(|launch| request.waited_for_launch && request.incarnation == Some(launch.incarnation));
        let link = launch.map(|launch| Link::with_context(launch.start.span().span_context().clone()));
        requests::record(&self.tracer, request, link);
    }

    /// Ends all open spans and marks them as incomplete, because the events that would have ended them were missed.
    pub(super) fn abandon(&mut self) {
        self.commands.abandon();
        for (_, launch) in self.launches.drain() {
            launch.abandon();
        }
    }
}

impl Drop for SpanRecorder {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl LaunchSpans {
    fn begin(tracer: &SdkTracer, envelope: &Envelope, links: Vec<Link>) -> Self {
        let incarnation = envelope.incarnation.unwrap_or_default();
        let server = envelope.server.as_ref().map_or_else(|| "".into(), ServerId::shared);
        let at = SystemTime::from(envelope.at);
        let attributes = [
            KeyValue::new("llama_warden.server.id", server),
            KeyValue::new("llama_warden.server.incarnation", count(incarnation.get())),
        ];
        let start =
            SpanBuilder::from_name("server start").with_start_time(at).with_attributes(attributes).with_links(links);
        Self {
            tracer: tracer.clone(),
            incarnation,
            at,
            began: envelope.elapsed,
            start: Context::new().with_span(tracer.build_with_context(start, &Context::new())),
            starting: true,
            step: None,
            stop: None,
            failure: None,
        }
    }

    fn record(&mut self, envelope: &Envelope, commands: &CommandSpans) {
        let now = self.at + envelope.elapsed.since(self.began);
        match &envelope.event {
            Event::BinaryIdentified(identity) => {
                if let Some(version) = &identity.version {
                    self.describe(KeyValue::new("llama_warden.llama.version", version.clone()));
                }
            }
            Event::DetectorChosen { detector, .. } => {
                self.describe(KeyValue::new("llama_warden.detector", detector.clone()));
            }
            Event::ServerSpawned { pid, argv, port, .. } => self.spawned(*pid, argv, *port, now),
            Event::ServerWarned { warning, .. } => {
                let attributes = vec![KeyValue::new("llama_warden.warning", warning.as_str())];
                self.start.span().add_event_with_timestamp("warning", now, attributes);
            }
            Event::ReadyReached { via, .. } => {
                self.describe(KeyValue::new("llama_warden.ready.via", via.as_str()));
                self.settle("ready", now);
            }
            Event::ServerFailed { reason, detail, .. } => self.failed(*reason, detail, now),
            Event::StopBegan { reason, grace_seconds } => {
                self.settle("stopped", now);
                let links = envelope.server.as_ref().map(|server| commands.links(server, CommandAim::Stop));
                let mut stop = self.child("server stop", now, links.unwrap_or_default());
                stop.set_attribute(KeyValue::new("llama_warden.stop.reason", reason.as_str()));
                stop.set_attribute(KeyValue::new("llama_warden.stop.grace_seconds", *grace_seconds));
                stop.set_attributes(self.failure.map(error_type));
                self.stop = Some(stop);
            }
            Event::SignalDelivered { signal, rung } => self.signalled(*signal, *rung, now),
            Event::ServerExited { end, .. } => self.exited(*end, now),
            Event::ServerStopped { forced, .. } => {
                if let Some(mut stop) = self.stop.take() {
                    stop.set_attribute(KeyValue::new("llama_warden.stop.forced", *forced));
                    stop.end_with_timestamp(now);
                }
            }
            _ => {}
        }
    }

    fn spawned(&mut self, pid: u32, argv: &ArgumentList, port: u16, now: SystemTime) {
        let arguments = argv.iter().map(|argument| StringValue::from(argument.to_owned())).collect();
        self.describe(KeyValue::new("process.pid", i64::from(pid)));
        self.describe(KeyValue::new("process.command_args", Value::Array(Array::String(arguments))));
        self.describe(KeyValue::new("server.port", i64::from(port)));
        if let Some(program) = argv.iter().next() {
            self.describe(KeyValue::new("process.executable.path", program.to_owned()));
        }
        if let Some(mut launching) = self.step.take() {
            launching.end_with_timestamp(now);
        }
        // If a stop was requested during the launch, the server does not load.
        self.step = self.starting.then(|| self.child("load", now, Vec::new()));
    }

    fn failed(&mut self, reason: FailureReason, detail: &str, now: SystemTime) {
        self.failure = Some(reason);
        let error = error_type(reason);
        let status = Status::error(detail.to_owned());
        for span in self.step.iter_mut().chain(&mut self.stop) {
            span.set_attribute(error.clone());
            span.set_status(status.clone());
        }
        self.describe(error);
        self.start.span().set_status(status);
        self.settle("failed", now);
    }

    fn signalled(&mut self, signal: Signal, rung: Rung, now: SystemTime) {
        if let Some(stop) = &mut self.stop {
            let attributes = vec![
                KeyValue::new("llama_warden.signal", signal.to_string()),
                KeyValue::new("llama_warden.rung", i64::from(rung.index)),
            ];
            stop.add_event_with_timestamp("signal", now, attributes);
        }
    }

    fn exited(&mut self, end: ProcessEnd, now: SystemTime) {
        let attribute = match end {
            ProcessEnd::Exited { code } => Some(KeyValue::new("process.exit.code", i64::from(code))),
            ProcessEnd::Signaled { signal, .. } => Some(KeyValue::new("llama_warden.exit.signal", signal.to_string())),
            ProcessEnd::OutOfMemory => Some(KeyValue::new("llama_warden.exit.signal", end.to_string())),
            ProcessEnd::Unknown => None,
        };
        if let Some(stop) = &mut self.stop {
            stop.set_attributes(attribute);
        } else if let Some(mut step) = self.step.take() {
            // The event of the failure follows. It says why the process ended, and ends the start.
            step.set_attributes(attribute);
            step.set_status(Status::error(end.to_string()));
            step.end_with_timestamp(now);
        } else {
            let mut exit = self.child("server exit", now, Vec::new());
            exit.set_attributes(attribute);
            if !end.is_success() {
                exit.set_status(Status::error(end.to_string()));
            }
            exit.end_with_timestamp(now);
        }
    }

    /// Ends the current step, and the start with its outcome: `ready`, `failed` or `stopped`. Only the first outcome counts.
    fn settle(&mut self, outcome: &'static str, now: SystemTime) {
        if let Some(mut step) = self.step.take() {
            step.end_with_timestamp(now);
        }
        if std::mem::replace(&mut self.starting, false) {
            self.describe(KeyValue::new("llama_warden.start.outcome", outcome));
            self.start.span().end_with_timestamp(now);
        }
    }

    fn abandon(self) {
        let incomplete = KeyValue::new("llama_warden.incomplete", true);
        for mut span in self.step.into_iter().chain(self.stop) {
            span.set_attribute(incomplete.clone());
            span.end();
        }
        if self.starting {
            let start = self.start.span();
            start.set_attribute(incomplete);
            start.end();
        }
    }

    fn describe(&self, attribute: KeyValue) {
        self.start.span().set_attribute(attribute);
    }

    fn child(&self, name: &'static str, now: SystemTime, links: Vec<Link>) -> Span {
        let builder = SpanBuilder::from_name(name).with_start_time(now).with_links(links);
        self.tracer.build_with_context(builder, &self.start)
    }
}

fn error_type(reason: FailureReason) -> KeyValue {
    KeyValue::new("error.type", reason.as_str())
}
