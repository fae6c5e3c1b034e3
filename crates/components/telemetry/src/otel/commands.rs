//! Spans of commands whose sender named its trace.
//!
//! A command's span is part of the sender's trace and lasts until the command is completed. What the command leads to has a trace of
//! its own, since a launch outlives many requests; its spans have a link to the command's.

use std::collections::VecDeque;
use std::time::SystemTime;

use llama_warden_events::{CommandOutcome, CommandSummary, Envelope, Event, Seq, ServerId, TraceParent, Uptime};
use opentelemetry::trace::SpanKind;

use super::context::SpanContext;
use super::span::{INCOMPLETE, OpenSpan, Tracer};

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
    span: OpenSpan,
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
        tracer: &Tracer,
        envelope: &Envelope,
        command: &CommandSummary,
        parent: TraceParent,
    ) {
        if self.open.len() == Self::OPEN
            && let Some(oldest) = self.open.pop_front()
        {
            oldest.abandon(tracer);
        }
        let (name, aim) = match command {
            CommandSummary::Start => ("command start", CommandAim::Launch),
            CommandSummary::Stop { .. } => ("command stop", CommandAim::Stop),
            CommandSummary::Restart { .. } => ("command restart", CommandAim::Both),
            _ => ("command", CommandAim::Other),
        };
        let at = SystemTime::from(envelope.at);
        let mut span = tracer.child(parent.into(), name, SpanKind::Server, at);
        if let Some(server) = &envelope.server {
            span.describe("llama_warden.server.id", server.as_str());
        }
        let (id, server, began) = (envelope.seq, envelope.server.clone(), envelope.elapsed);
        self.open.push_back(OpenCommand { id, server, aim, at, began, span });
    }

    /// Ends the command that an event completes.
    pub(super) fn complete(&mut self, tracer: &Tracer, envelope: &Envelope, outcome: &CommandOutcome) {
        let Some(index) = self.open.iter().position(|command| Some(command.id) == envelope.cause) else { return };
        let Some(mut command) = self.open.remove(index) else { return };
        if let CommandOutcome::Failed { reason, detail } = outcome {
            command.span.describe("error.type", reason.as_str());
            command.span.fail(&**detail);
        }
        command.span.describe("llama_warden.command.outcome", &*outcome.to_string());
        tracer.end(command.span, command.at + envelope.elapsed.since(command.began));
    }

    /// The open commands about a server that lead to such a step.
    pub(super) fn links(&self, server: &ServerId, aim: CommandAim) -> impl Iterator<Item = SpanContext> {
        let leads = move |command: &&OpenCommand| command.aim == aim || command.aim == CommandAim::Both;
        let about = self.open.iter().filter(move |command| command.server.as_ref() == Some(server));
        about.filter(leads).map(|command| command.span.context())
    }

    /// The span of the command that an event is about.
    pub(super) fn context_of(&self, envelope: &Envelope) -> Option<SpanContext> {
        let id = match envelope.event {
            Event::CommandAccepted { .. } => Some(envelope.seq),
            Event::CommandCompleted { .. } => envelope.cause,
            _ => None,
        }?;
        self.open.iter().find(|command| command.id == id).map(|command| command.span.context())
    }

    pub(super) fn abandon(&mut self, tracer: &Tracer) {
        self.open.drain(..).for_each(|command| command.abandon(tracer));
    }
}

impl OpenCommand {
    fn abandon(mut self, tracer: &Tracer) {
        self.span.describe(INCOMPLETE, true);
        tracer.end(self.span, SystemTime::now());
    }
}
