//! Commands on their way: taken up or refused at once, done later.
//!
//! What an accepted command came to is told by its `CommandCompleted` event. Waiting for it never changes what the command
//! does.

use std::time::Duration;

use llama_warden_bus::{Accepted, CommandRequest, Delivery, Subscription};
use llama_warden_events::{
    CommandOutcome, Event, Incarnation, RefusalReason, Refused, Seq, ServerId, SuperviseCommand, Uptime,
};
use llama_warden_state::{PhaseName, ServerRecord, Snapshot};

use crate::endpoints::App;
use llama_warden_api_types::ApiProblem;

/// Longest time until a command is taken up or refused. Its owner works on it at once, so this is never reached by a
/// daemon in health; after it the owner refuses the command as expired.
pub(crate) const ACCEPT_TIMEOUT: Duration = Duration::from_secs(10);

/// The same for a command that has files read first: the configuration, and the headers of all models.
pub(crate) const ACCEPT_TIMEOUT_WITH_FILES: Duration = Duration::from_secs(60);

/// Sends a command and returns when it is taken up, at most `limit` later.
pub(crate) async fn send(app: &App, command: SuperviseCommand, limit: Duration) -> Result<Accepted, ApiProblem> {
    let clock = app.bus.clock();
    let deadline = Uptime::new(clock.now().as_duration() + limit);
    // Biased: the answer to a shutdown and the end that it brings about can come in the same moment.
    let answer = tokio::select! {
        biased;
        answer = app.commands.send(CommandRequest::new(command).by(deadline)) => answer,
        () = clock.sleep_until(Some(deadline)) => {
            Err(Refused::new(RefusalReason::Expired, format!("the command was not taken up within {limit:?}")))
        }
        () = app.cancel.cancelled() => Err(Refused::new(RefusalReason::ShuttingDown, "the daemon is ending")),
    };
    answer.map_err(|refused| ApiProblem::refused(&refused))
}

/// What a command wants to be true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CommandGoal {
    /// The server is ready.
    Ready(ServerId),
    /// The server is ready in a later launch than this one.
    ReadyAfter(ServerId, Incarnation),
    /// The server is down.
    Stopped(ServerId),
    /// No server is on its way up or down.
    Settled,
}

impl CommandGoal {
    pub(crate) fn of(command: &SuperviseCommand, before: &Snapshot) -> Self {
        match command {
            SuperviseCommand::StartServer { server } => Self::Ready(server.clone()),
            SuperviseCommand::RestartServer { server, .. } => {
                let launch = before.servers.get(server).map_or(Incarnation::default(), |server| server.incarnation);
                Self::ReadyAfter(server.clone(), launch)
            }
            SuperviseCommand::StopServer { server, .. } => Self::Stopped(server.clone()),
            SuperviseCommand::ActivateProfile { .. }
            | SuperviseCommand::Reload { .. }
            | SuperviseCommand::ShutDown { .. } => Self::Settled,
        }
    }

    /// How the command ended, if the goal is reached.
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
        PhaseName::Idle => !server.card.enabled,
        PhaseName::Ready | PhaseName::Unready | PhaseName::BackingOff | PhaseName::Exited | PhaseName::Failed => true,
    }
}

/// Waits for the end of one command.
pub(crate) struct CommandWaiter {
    pub(crate) events: Subscription,
    pub(crate) command: Seq,
    pub(crate) goal: CommandGoal,
}

impl CommandWaiter {
    /// How the command ended; `None` when the time, the daemon or the bus came to an end before.
    pub(crate) async fn within(self, app: &App, limit: Duration) -> Option<CommandOutcome> {
        let clock = app.bus.clock();
        let deadline = Uptime::new(clock.now().as_duration() + limit);
        // Biased, as above: what is done is told as done.
        tokio::select! {
            biased;
            outcome = self.wait() => outcome,
            () = clock.sleep_until(Some(deadline)) => None,
            () = app.cancel.cancelled() => None,
        }
    }

    /// The event itself may fall into a gap; then the state in which the gap ends tells whether the goal is reached.
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
