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
use std::time::SystemTime;

use llama_warden_events::{
    ArgumentList, Envelope, Event, FailureReason, Incarnation, LaunchTraceId, ProcessEnd, Rung, ServerId, Signal,
    Uptime,
};
use llama_warden_otlp_wire::AttributeValue;
use llama_warden_traffic::FinishedRequest;
use opentelemetry::trace::{SpanKind, TraceId};

use super::commands::{CommandAim, CommandSpans};
use super::context::SpanContext;
use super::requests;
use super::span::{INCOMPLETE, OpenSpan, Tracer};

/// The field of an attribute in a span's event.
const ATTRIBUTE: u32 = 3;

const ERROR_TYPE: &str = "error.type";

/// Builds spans from events.
#[derive(Debug)]
pub(super) struct SpanRecorder {
    tracer: Tracer,
    launches: HashMap<ServerId, LaunchSpans>,
    commands: CommandSpans,
}

/// The spans of one incarnation.
#[derive(Debug)]
struct LaunchSpans {
    tracer: Tracer,
    incarnation: Incarnation,
    at: SystemTime,
    began: Uptime,
    /// The span `server start`, the parent of all others, also after it has ended.
    start: SpanContext,
    starting: Option<OpenSpan>,
    /// `launch`, then `load`.
    step: Option<OpenSpan>,
    stop: Option<OpenSpan>,
    failure: Option<FailureReason>,
}

impl SpanRecorder {
    pub(super) fn new(tracer: Tracer) -> Self {
        Self { tracer, launches: HashMap::new(), commands: CommandSpans::default() }
    }

    /// Records an event. Events that are not about a launch or a traced command change nothing.
    pub(super) fn record(&mut self, envelope: &Envelope) {
        match &envelope.event {
            Event::CommandAccepted { command, trace: Some(parent) } => {
                self.commands.begin(&self.tracer, envelope, command, **parent);
            }
            Event::CommandCompleted { outcome } => self.commands.complete(&self.tracer, envelope, outcome),
            _ => {}
        }
        let Some(server) = &envelope.server else { return };
        match (&envelope.event, envelope.incarnation) {
            (Event::LaunchBegan { binary }, Some(incarnation)) => {
                let mut launch = LaunchSpans::begin(&self.tracer, envelope, server, incarnation);
                if let Some(start) = &mut launch.starting {
                    self.commands.links(server, CommandAim::Launch).for_each(|command| start.link(command));
                }
                let mut step = launch.child("launch", launch.at);
                step.describe("process.executable.path", &*binary.to_string_lossy());
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
            is_same.then_some(launch.start)
        };
        self.commands.context_of(envelope).or_else(launch)
    }

    /// Makes the spans of a request that has ended.
    pub(super) fn record_request(&self, request: &FinishedRequest) {
        let launch = request.server.as_ref().and_then(|server| self.launches.get(server));
        let launch =
            launch.filter(|launch| request.waited_for_launch && request.incarnation == Some(launch.incarnation));
        requests::record(&self.tracer, request, launch.map(|launch| launch.start));
    }

    /// Ends all open spans and marks them as incomplete, because the events that would have ended them were missed.
    pub(super) fn abandon(&mut self) {
        self.commands.abandon(&self.tracer);
        for (_, launch) in self.launches.drain() {
            launch.abandon();
        }
    }
}

impl LaunchSpans {
    fn begin(tracer: &Tracer, envelope: &Envelope, server: &ServerId, incarnation: Incarnation) -> Self {
        let at = SystemTime::from(envelope.at);
        let trace = TraceId::from(LaunchTraceId::of(&envelope.boot, server, incarnation).as_number());
        let mut start = tracer.root(trace, "server start", SpanKind::Internal, at);
        start.describe("llama_warden.server.id", server.as_str());
        start.describe("llama_warden.server.incarnation", incarnation.get());
        Self {
            tracer: tracer.clone(),
            incarnation,
            at,
            began: envelope.elapsed,
            start: start.context(),
            starting: Some(start),
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
                    self.describe("llama_warden.llama.version", &**version);
                }
            }
            Event::DetectorChosen { detector, .. } => {
                self.describe("llama_warden.detector", &**detector);
            }
            Event::ServerSpawned { pid, argv, port, .. } => self.spawned(*pid, argv, *port, now),
            Event::ServerWarned { warning, .. } => {
                if let Some(start) = &mut self.starting {
                    start.event("warning", now, |event| {
                        event.attribute(ATTRIBUTE, "llama_warden.warning", warning.as_str());
                    });
                }
            }
            Event::ReadyReached { via, .. } => {
                self.describe("llama_warden.ready.via", via.as_str());
                self.settle("ready", now);
            }
            Event::ServerFailed { reason, detail, .. } => self.failed(*reason, detail, now),
            Event::StopBegan { reason, grace_seconds } => {
                self.settle("stopped", now);
                let mut stop = self.child("server stop", now);
                if let Some(server) = &envelope.server {
                    commands.links(server, CommandAim::Stop).for_each(|command| stop.link(command));
                }
                stop.describe("llama_warden.stop.reason", reason.as_str());
                stop.describe("llama_warden.stop.grace_seconds", *grace_seconds);
                if let Some(failure) = self.failure {
                    stop.describe(ERROR_TYPE, failure.as_str());
                }
                self.stop = Some(stop);
            }
            Event::SignalDelivered { signal, rung } => self.signalled(*signal, *rung, now),
            Event::ServerExited { end, .. } => self.exited(*end, now),
            Event::ServerStopped { forced, .. } => {
                if let Some(mut stop) = self.stop.take() {
                    stop.describe("llama_warden.stop.forced", *forced);
                    self.tracer.end(stop, now);
                }
            }
            _ => {}
        }
    }

    fn spawned(&mut self, pid: u32, argv: &ArgumentList, port: u16, now: SystemTime) {
        if let Some(start) = &mut self.starting {
            start.describe("process.pid", i64::from(pid));
            start.describe_by_texts("process.command_args", argv.iter());
            start.describe("server.port", i64::from(port));
            if let Some(program) = argv.iter().next() {
                start.describe("process.executable.path", program);
            }
        }
        if let Some(launching) = self.step.take() {
            self.tracer.end(launching, now);
        }
        // If a stop was requested during the launch, the server does not load.
        self.step = self.starting.is_some().then(|| self.child("load", now));
    }

    fn failed(&mut self, reason: FailureReason, detail: &str, now: SystemTime) {
        self.failure = Some(reason);
        for span in self.starting.iter_mut().chain(&mut self.step).chain(&mut self.stop) {
            span.describe(ERROR_TYPE, reason.as_str());
            span.fail(detail);
        }
        self.settle("failed", now);
    }

    fn signalled(&mut self, signal: Signal, rung: Rung, now: SystemTime) {
        if let Some(stop) = &mut self.stop {
            stop.event("signal", now, |event| {
                event.attribute(ATTRIBUTE, "llama_warden.signal", &*signal.to_string());
                event.attribute(ATTRIBUTE, "llama_warden.rung", i64::from(rung.index));
            });
        }
    }

    fn exited(&mut self, end: ProcessEnd, now: SystemTime) {
        let describe = |span: &mut OpenSpan| match end {
            ProcessEnd::Exited { code } => span.describe("process.exit.code", i64::from(code)),
            ProcessEnd::Signaled { signal, .. } => span.describe("llama_warden.exit.signal", &*signal.to_string()),
            ProcessEnd::OutOfMemory => span.describe("llama_warden.exit.signal", &*end.to_string()),
            ProcessEnd::Unknown => {}
        };
        if let Some(stop) = &mut self.stop {
            describe(stop);
        } else if let Some(mut step) = self.step.take() {
            // The event of the failure follows. It says why the process ended, and ends the start.
            describe(&mut step);
            step.fail(end.to_string());
            self.tracer.end(step, now);
        } else {
            let mut exit = self.child("server exit", now);
            describe(&mut exit);
            if !end.is_success() {
                exit.fail(end.to_string());
            }
            self.tracer.end(exit, now);
        }
    }

    /// Ends the current step, and the start with its outcome: `ready`, `failed` or `stopped`. Only the first outcome counts.
    fn settle(&mut self, outcome: &'static str, now: SystemTime) {
        if let Some(step) = self.step.take() {
            self.tracer.end(step, now);
        }
        if let Some(mut start) = self.starting.take() {
            start.describe("llama_warden.start.outcome", outcome);
            self.tracer.end(start, now);
        }
    }

    fn abandon(self) {
        for mut span in self.step.into_iter().chain(self.stop).chain(self.starting) {
            span.describe(INCOMPLETE, true);
            self.tracer.end(span, SystemTime::now());
        }
    }

    /// Describes the start while it lasts.
    fn describe<'a>(&mut self, key: &str, value: impl Into<AttributeValue<'a>>) {
        if let Some(start) = &mut self.starting {
            start.describe(key, value);
        }
    }

    fn child(&self, name: &'static str, now: SystemTime) -> OpenSpan {
        self.tracer.child(self.start, name, SpanKind::Internal, now)
    }
}
