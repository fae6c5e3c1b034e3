//! Sending a command to its owner, and waiting until it is done.
//!
//! The owner accepts or refuses a command at once. An accepted command ends with a `CommandCompleted` event; waiting for it
//! never changes what the command does.

use std::time::Duration;

use http::StatusCode;
use llama_warden_api_types::ApiProblem;
use llama_warden_bus::{Accepted, CommandRequest, Delivery, Subscription};
use llama_warden_events::{
    CommandOutcome, CommandSet, Event, Incarnation, RefusalReason, Refused, Seq, ServerId, SuperviseCommand, Uptime,
};
use llama_warden_state::{PhaseName, ServerRecord, Snapshot};

use crate::app::AppState;

/// Longest time until a command is accepted or refused. A healthy owner answers at once; after this time it refuses the
/// command as expired.
pub(crate) const ACCEPT_TIMEOUT: Duration = Duration::from_secs(10);

/// The same for a command whose owner first reads files: the configuration, and the headers of all models.
pub(crate) const ACCEPT_TIMEOUT_WITH_FILES: Duration = Duration::from_secs(60);

/// Sends a command and returns when its owner has accepted it, at most `limit` later.
pub(crate) async fn send<C: CommandSet>(
    app: &AppState,
    request: impl Into<CommandRequest<C>>,
    limit: Duration,
) -> Result<Accepted, ApiProblem> {
    let request = request.into();
    let clock = app.bus.clock();
    let deadline = Uptime::new(clock.now().as_duration() + limit);
    // Biased towards the answer: a shutdown is accepted and cancels this component in the same moment.
    let answer = tokio::select! {
        biased;
        answer = app.commands.send(request.by(deadline)) => answer,
        () = clock.sleep_until(Some(deadline)) => {
            Err(Refused::new(RefusalReason::Expired, format!("the command was not accepted within {limit:?}")))
        }
        () = app.cancel.cancelled() => Err(Refused::new(RefusalReason::ShuttingDown, "the daemon is shutting down")),
    };
    answer.map_err(|refused| ApiProblem::refused(&refused))
}

/// The status of the answer to a command with this outcome; `None` is a command that is not done yet.
///
/// # Errors
/// If a later command overruled it, or its owner dropped it.
pub(crate) fn answer_status(outcome: Option<&CommandOutcome>) -> Result<StatusCode, ApiProblem> {
    match outcome {
        None => Ok(StatusCode::ACCEPTED),
        Some(CommandOutcome::Ready | CommandOutcome::Stopped | CommandOutcome::Failed { .. }) => Ok(StatusCode::OK),
        Some(CommandOutcome::Superseded { by }) => Err(ApiProblem::superseded(*by)),
        Some(CommandOutcome::Refused { reason }) => {
            Err(ApiProblem::refused(&Refused::new(*reason, "the command was accepted and could not be carried out")))
        }
    }
}

/// The state that a command aims at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CommandGoal {
    /// The server is ready.
    Ready(ServerId),
    /// The server is ready in a later launch than this one.
    ReadyAfter(ServerId, Incarnation),
    /// The server is down.
    Stopped(ServerId),
    /// No server is starting or stopping.
    Settled,
}

impl CommandGoal {
    /// The goal of `command`, which was sent in the state `before`.
    pub(crate) fn of(command: &SuperviseCommand, before: &Snapshot) -> Self {
        match command {
            SuperviseCommand::StartServer { server } => Self::Ready(server.clone()),
            SuperviseCommand::RestartServer { server, .. } => {
                let launch = before.servers.get(server).map_or(Incarnation::default(), |server| server.incarnation);
                Self::ReadyAfter(server.clone(), launch)
            }
            SuperviseCommand::StopServer { server, .. } | SuperviseCommand::UnloadServer { server } => {
                Self::Stopped(server.clone())
            }
            SuperviseCommand::WantServer { server, .. } => Self::Ready(server.clone()),
            SuperviseCommand::ActivateProfile { .. }
            | SuperviseCommand::ChangeBuild { .. }
            | SuperviseCommand::UnwantServer { .. }
            | SuperviseCommand::Reload { .. }
            | SuperviseCommand::HandOver { .. }
            | SuperviseCommand::ShutDown { .. } => Self::Settled,
        }
    }

    /// The outcome of the command if `snapshot` satisfies the goal.
    fn reached(&self, snapshot: &Snapshot) -> Option<CommandOutcome> {
        let (reached, outcome) = match self {
            Self::Ready(server) => (snapshot.servers.get(server)?.is_ready(), CommandOutcome::Ready),
            Self::ReadyAfter(server, launch) => {
                let server = snapshot.servers.get(server)?;
                (server.is_ready() && server.incarnation > *launch, CommandOutcome::Ready)
            }
            Self::Stopped(server) => {
                let server = snapshot.servers.get(server)?;
                (!server.is_running() && server.phase.name().is_settled_down(), CommandOutcome::Stopped)
            }
            Self::Settled => (snapshot.servers.values().all(|server| is_settled(server)), CommandOutcome::Ready),
        };
        reached.then_some(outcome)
    }
}

fn is_settled(server: &ServerRecord) -> bool {
    match server.phase.name() {
        PhaseName::Launching | PhaseName::Starting | PhaseName::Loading | PhaseName::Stopping => false,
        // An enabled server that is idle is about to start.
        PhaseName::Idle => !server.card.enabled,
        PhaseName::Ready | PhaseName::Unready | PhaseName::BackingOff | PhaseName::Exited | PhaseName::Failed => true,
    }
}

/// Waits for the end of one accepted command.
pub(crate) struct CommandWaiter {
    /// A subscription that began before the command could complete.
    pub(crate) events: Subscription,
    /// The `seq` of its `CommandAccepted` event, which is the cause of its `CommandCompleted`.
    pub(crate) command: Seq,
    pub(crate) goal: CommandGoal,
}

impl CommandWaiter {
    /// The outcome of the command; `None` if it is not done within `limit`, or the daemon shuts down first.
    pub(crate) async fn within(self, app: &AppState, limit: Duration) -> Option<CommandOutcome> {
        let clock = app.bus.clock();
        let deadline = Uptime::new(clock.now().as_duration() + limit);
        // Biased towards the outcome: a command that is done at the deadline is reported as done.
        tokio::select! {
            biased;
            outcome = self.wait() => outcome,
            () = clock.sleep_until(Some(deadline)) => None,
            () = app.cancel.cancelled() => None,
        }
    }

    async fn wait(mut self) -> Option<CommandOutcome> {
        while let Some(delivery) = self.events.next().await {
            match delivery {
                Delivery::Event(envelope) => {
                    if let Event::CommandCompleted { outcome } = &envelope.event
                        && envelope.cause == Some(self.command)
                    {
                        return Some(outcome.clone());
                    }
                }
                // The gap may contain the completion. The state at its end shows at least whether the goal is reached; a
                // state from before the command would show the goal of an earlier one.
                Delivery::Gap { snapshot, .. } if snapshot.seq > self.command => {
                    if let Some(outcome) = self.goal.reached(&snapshot) {
                        return Some(outcome);
                    }
                }
                Delivery::Gap { .. } => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use llama_warden_bus::{Bus, EventDraft};
    use llama_warden_events::{BootId, ReadyVia};

    use super::*;

    #[tokio::test]
    async fn a_completion_that_fell_into_a_gap_is_read_from_the_state() {
        let (bus, events) = Bus::start(BootId::from_random(1), 2);
        let server = ServerId::new("a").expect("valid");
        let subscriptions = [(); 3].map(|()| bus.subscribe("api"));
        let card = llama_warden_component_kit::card(&server);
        events
            .publish_acked(EventDraft::server(server.clone(), Event::ServerConfigured { card: card.into() }))
            .await
            .expect("open");
        for event in [
            Event::LaunchBegan { binary: "llama-server".into() },
            Event::ServerSpawned { pid: 1, start_ticks: 1, argv: [].into(), port: 8001 },
            Event::ReadyReached { via: ReadyVia::Health, startup_seconds: 0.1 },
        ] {
            events
                .publish_acked(EventDraft::incarnation(server.clone(), Incarnation::new(1), event))
                .await
                .expect("open");
        }
        drop(events);
        let goals = [
            CommandGoal::Ready(server.clone()),
            CommandGoal::ReadyAfter(server.clone(), Incarnation::new(1)),
            CommandGoal::Settled,
        ];
        let mut outcomes = Vec::new();
        for (events, goal) in subscriptions.into_iter().zip(goals) {
            outcomes.push(CommandWaiter { events, command: Seq::new(1), goal }.wait().await);
        }
        let ready = Some(CommandOutcome::Ready);
        assert_eq!(outcomes, [ready.clone(), None, ready], "a restart is not done by the launch before it");
    }
}
