//! Spans of commands whose sender named its trace.
//!
//! A command's span is part of the sender's trace and lasts until the command is completed. What the command leads to has a trace of
//! its own, since a launch outlives many requests; its spans have a link to the command's.

use std::collections::VecDeque;
use std::time::SystemTime;

use llama_warden_events::{CommandOutcome, CommandSummary, Envelope, Event, Seq, ServerId, TraceParent, Uptime};
use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId,
    TraceState, Tracer,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, Span};

/// The open spans of commands.
#[derive(Debug, Default)]
pub(super) struct CommandSpans {
    open: VecDeque<OpenCommand>,
}

#[derive(Debug)]
struct OpenCommand {
    id: Seq,
    server: Option<ServerId>,
    aim: CommandAim,
    at: SystemTime,
    began: Uptime,
    span: Span,
}

/// What a command leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommandAim {
    Launch,
    Stop,
    Both,
    Other,
}

impl CommandSpans {
    /// Most commands that are open at once; the oldest is given up for the next. A command ends by an event, which may be missed.
    const OPEN: usize = 256;

    pub(super) fn begin(
        &mut self,
        tracer: &SdkTracer,
        envelope: &Envelope,
        command: &CommandSummary,
        parent: TraceParent,
    ) {
        if self.open.len() == Self::OPEN
            && let Some(oldest) = self.open.pop_front()
        {
            oldest.abandon();
        }
        let (name, aim) = match command {
            CommandSummary::Start => ("command start", CommandAim::Launch),
            CommandSummary::Stop { .. } => ("command stop", CommandAim::Stop),
            CommandSummary::Restart { .. } => ("command restart", CommandAim::Both),
            _ => ("command", CommandAim::Other),
        };
        let at = SystemTime::from(envelope.at);
        let attributes = envelope.server.iter().map(|server| KeyValue::new("llama_warden.server.id", server.shared()));
        let builder =
            SpanBuilder::from_name(name).with_kind(SpanKind::Server).with_start_time(at).with_attributes(attributes);
        let span = tracer.build_with_context(builder, &Context::new().with_remote_span_context(remote(parent)));
        let (id, server, began) = (envelope.seq, envelope.server.clone(), envelope.elapsed);
        self.open.push_back(OpenCommand { id, server, aim, at, began, span });
    }

    /// Ends the command that an event completes.
    pub(super) fn complete(&mut self, envelope: &Envelope, outcome: &CommandOutcome) {
        let Some(index) = self.open.iter().position(|command| Some(command.id) == envelope.cause) else { return };
        let Some(mut command) = self.open.remove(index) else { return };
        if let CommandOutcome::Failed { reason, detail } = outcome {
            command.span.set_attribute(KeyValue::new("error.type", reason.as_str()));
            command.span.set_status(Status::error(detail.clone()));
        }
        command.span.set_attribute(KeyValue::new("llama_warden.command.outcome", outcome.to_string()));
        command.span.end_with_timestamp(command.at + envelope.elapsed.since(command.began));
    }

    /// Links to the open commands about a server that lead to such a step.
    pub(super) fn links(&self, server: &ServerId, aim: CommandAim) -> Vec<Link> {
        let leads = |command: &&OpenCommand| command.aim == aim || command.aim == CommandAim::Both;
        let about = self.open.iter().filter(|command| command.server.as_ref() == Some(server));
        about.filter(leads).map(|command| Link::with_context(command.span.span_context().clone())).collect()
    }

    /// The span of the command that an event is about.
    pub(super) fn context_of(&self, envelope: &Envelope) -> Option<SpanContext> {
        let id = match envelope.event {
            Event::CommandAccepted { .. } => Some(envelope.seq),
            Event::CommandCompleted { .. } => envelope.cause,
            _ => None,
        }?;
        self.open.iter().find(|command| command.id == id).map(|command| command.span.span_context().clone())
    }

    pub(super) fn abandon(&mut self) {
        self.open.drain(..).for_each(OpenCommand::abandon);
    }
}

impl OpenCommand {
    fn abandon(mut self) {
        self.span.set_attribute(KeyValue::new("llama_warden.incomplete", true));
        self.span.end();
    }
}

pub(super) fn remote(parent: TraceParent) -> SpanContext {
    SpanContext::new(
        TraceId::from(parent.trace_id()),
        SpanId::from(parent.span_id()),
        TraceFlags::new(parent.flags()),
        true,
        TraceState::default(),
    )
}
