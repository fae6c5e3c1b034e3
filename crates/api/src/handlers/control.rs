//! Changing: start, stop, restart, shut down.
//!
//! A command is accepted or refused at once. With `?wait` the answer comes when the command's `CommandCompleted` fact
//! does, or when the time is over; the wait never changes what the command does.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use llama_warden_bus::{Accepted, Delivery, Order, Subscription};
use llama_warden_events::{
    CommandOutcome, Elapsed, Event, Incarnation, RefusalReason, Refused, Seq, ServerId, SuperviseCommand,
};
use llama_warden_state::{ServerRecord, Snapshot};
use serde::Deserialize;

use super::{App, KnownServer, json};
use crate::query::{Options, Span, Switch};
use crate::{CommandAnswer, Problem, ShutdownAnswer};

/// Longest time until a command is taken up or refused. Its owner works on it at once, so this is never reached by a
/// daemon in health; after it the owner refuses the command as expired.
const TAKE_UP: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartOptions {
    wait: Option<Span>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StopOptions {
    wait: Option<Span>,
    grace: Option<Span>,
    force: Option<Switch>,
}

impl StopOptions {
    fn is_forced(&self) -> bool {
        self.force.is_some_and(|force| force.0)
    }

    fn grace(&self) -> Option<Duration> {
        self.grace.map(|grace| grace.0)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShutdownOptions {
    force: Option<Switch>,
}

pub(crate) async fn start(
    State(app): State<App>,
    KnownServer(server): KnownServer,
    Options(options): Options<StartOptions>,
) -> Result<Response, Problem> {
    let command = SuperviseCommand::StartServer { server: server.clone() };
    perform(app, server, command, options.wait).await
}

pub(crate) async fn stop(
    State(app): State<App>,
    KnownServer(server): KnownServer,
    Options(options): Options<StopOptions>,
) -> Result<Response, Problem> {
    let (grace, force) = (options.grace(), options.is_forced());
    let command = SuperviseCommand::StopServer { server: server.clone(), grace, force };
    perform(app, server, command, options.wait).await
}

pub(crate) async fn restart(
    State(app): State<App>,
    KnownServer(server): KnownServer,
    Options(options): Options<StopOptions>,
) -> Result<Response, Problem> {
    let (grace, force) = (options.grace(), options.is_forced());
    let command = SuperviseCommand::RestartServer { server: server.clone(), grace, force };
    perform(app, server, command, options.wait).await
}

pub(crate) async fn shut_down(
    State(app): State<App>,
    Options(options): Options<ShutdownOptions>,
) -> Result<Response, Problem> {
    let force = options.force.is_some_and(|force| force.0);
    let command = SuperviseCommand::ShutDown { trigger: "POST /api/v1/shutdown".to_owned(), force };
    let accepted = send(&app, command).await?;
    Ok(json(StatusCode::ACCEPTED, &ShutdownAnswer { command: accepted.id }))
}

async fn perform(
    app: App,
    server: ServerId,
    command: SuperviseCommand,
    wait: Option<Span>,
) -> Result<Response, Problem> {
    // Before the command is sent, so that its completion cannot be missed.
    let facts = app.bus.subscribe("api");
    let goal = Goal::of(&command, &facts.snapshot());
    let accepted = send(&app, command).await?;
    let outcome = match (wait, accepted.id) {
        (Some(wait), Some(command)) => {
            let clock = app.bus.clock();
            let deadline = Elapsed::new(clock.now().as_duration() + wait.0);
            let completion = Completion { facts, command, server: &server, goal };
            // Biased, as below: what is done is told as done.
            tokio::select! {
                biased;
                outcome = completion.wait() => outcome,
                () = clock.sleep_until(Some(deadline)) => None,
                () = app.cancel.cancelled() => None,
            }
        }
        _ => None,
    };
    let status = match &outcome {
        None => StatusCode::ACCEPTED,
        Some(CommandOutcome::Ready | CommandOutcome::Stopped) => StatusCode::OK,
        Some(CommandOutcome::Failed { reason, detail }) => return Err(Problem::failed(&server, *reason, detail)),
        Some(CommandOutcome::Superseded { by }) => return Err(Problem::superseded(*by)),
        Some(CommandOutcome::Refused { reason }) => {
            return Err(Problem::refused(&Refused::new(*reason, "the command was given up after it was taken up")));
        }
    };
    let server = app.detail(&app.bus.snapshot(), &server)?;
    Ok(json(status, &CommandAnswer { command: accepted.id, outcome, server }))
}

async fn send(app: &App, command: SuperviseCommand) -> Result<Accepted, Problem> {
    let clock = app.bus.clock();
    let deadline = Elapsed::new(clock.now().as_duration() + TAKE_UP);
    // Biased: the answer to a shutdown and the end that it brings about can come in the same moment.
    let answer = tokio::select! {
        biased;
        answer = app.commands.send(Order::new(command).by(deadline)) => answer,
        () = clock.sleep_until(Some(deadline)) => {
            Err(Refused::new(RefusalReason::Expired, format!("the command was not taken up within {TAKE_UP:?}")))
        }
        () = app.cancel.cancelled() => Err(Refused::new(RefusalReason::ShuttingDown, "the daemon is ending")),
    };
    answer.map_err(|refused| Problem::refused(&refused))
}

/// What a command wants the server to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    Ready,
    /// Ready in a later launch than this one.
    ReadyAfter(Incarnation),
    Stopped,
}

impl Goal {
    fn of(command: &SuperviseCommand, before: &Snapshot) -> Self {
        match command {
            SuperviseCommand::StartServer { .. }
            | SuperviseCommand::ActivateProfile { .. }
            | SuperviseCommand::Reload { .. } => Self::Ready,
            SuperviseCommand::RestartServer { server, .. } => {
                Self::ReadyAfter(before.servers.get(server).map_or(Incarnation::default(), |server| server.incarnation))
            }
            SuperviseCommand::StopServer { .. } | SuperviseCommand::ShutDown { .. } => Self::Stopped,
        }
    }

    /// Whether a server is there.
    fn reached(self, server: &ServerRecord) -> Option<CommandOutcome> {
        let (reached, outcome) = match self {
            Self::Ready => (server.is_ready(), CommandOutcome::Ready),
            Self::ReadyAfter(launch) => (server.is_ready() && server.incarnation > launch, CommandOutcome::Ready),
            Self::Stopped => (!server.is_running() && server.phase.name().is_settled_down(), CommandOutcome::Stopped),
        };
        reached.then_some(outcome)
    }
}

/// Waits for the end of one command.
struct Completion<'a> {
    facts: Subscription,
    command: Seq,
    server: &'a ServerId,
    goal: Goal,
}

impl Completion<'_> {
    /// How the command ended; `None` when the bus closed before. The fact itself may fall into a gap; then the state in
    /// which the gap ends tells whether the goal is reached.
    async fn wait(mut self) -> Option<CommandOutcome> {
        while let Some(delivery) = self.facts.next().await {
            match delivery {
                Delivery::Event(envelope) => {
                    if let Event::CommandCompleted { outcome } = &envelope.event
                        && envelope.cause == Some(self.command)
                    {
                        return Some(outcome.clone());
                    }
                }
                Delivery::Gap { snapshot, .. } => {
                    let server = snapshot.servers.get(self.server).filter(|_| snapshot.seq > self.command);
                    if let Some(outcome) = server.and_then(|server| self.goal.reached(server)) {
                        return Some(outcome);
                    }
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use llama_warden_bus::{Bus, Fact};
    use llama_warden_events::{BootId, ReadyVia, ServerCard};

    use super::*;

    #[tokio::test]
    async fn a_completion_that_fell_into_a_gap_is_read_from_the_state() {
        let (bus, facts) = Bus::start(BootId::from_random(1), 2);
        let server = ServerId::new("a").expect("valid");
        let subscriptions = [bus.subscribe("api"), bus.subscribe("api")];
        let card = ServerCard {
            display_name: "A".to_owned(),
            model: None,
            port: 8001,
            host: "127.0.0.1".to_owned(),
            tier: None,
            thinking: false,
            enabled: true,
        };
        facts.publish_acked(Fact::server(server.clone(), Event::ServerConfigured { card })).await.expect("open");
        for event in [
            Event::LaunchBegan { binary: "llama-server".into() },
            Event::ServerSpawned { pid: 1, start_ticks: 1, argv: Vec::new(), port: 8001 },
            Event::ReadyReached { via: ReadyVia::Health, startup_seconds: 0.1 },
        ] {
            facts.publish_acked(Fact::incarnation(server.clone(), Incarnation(1), event)).await.expect("open");
        }
        drop(facts);
        let goals = [Goal::Ready, Goal::ReadyAfter(Incarnation(1))];
        let mut outcomes = Vec::new();
        for (facts, goal) in subscriptions.into_iter().zip(goals) {
            outcomes.push(Completion { facts, command: Seq(1), server: &server, goal }.wait().await);
        }
        assert_eq!(outcomes, [Some(CommandOutcome::Ready), None], "a restart is not done by the launch before it");
    }
}
