//! The whole fleet as a plain state machine: wishes and facts in, actions out.

use std::collections::BTreeMap;
use std::time::Duration;

use llama_warden_events::{
    CommandOutcome, Elapsed, Envelope, Event, Incarnation, RefusalReason, Refused, Seq, ServerId,
    StopReason, SuperviseCommand,
};
use llama_warden_state::Snapshot;

use crate::slot::{Slot, SlotAction};

/// Time kept at the end of a shutdown for KILL to be verified and the last facts to be written.
const RESERVE: Duration = Duration::from_secs(3);

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Have a server launched.
    Launch {
        /// Which.
        server: ServerId,
        /// As which launch.
        incarnation: Incarnation,
    },
    /// Have a launch ended.
    Terminate {
        /// Which.
        server: ServerId,
        /// Which launch.
        incarnation: Incarnation,
        /// Why.
        reason: StopReason,
        /// Time before KILL, where it is not the configured one.
        grace: Option<Duration>,
    },
    /// Tell how a command ended.
    Complete {
        /// The server that it was about; absent for the whole fleet.
        server: Option<ServerId>,
        /// The command.
        id: Seq,
        /// How.
        outcome: CommandOutcome,
    },
    /// Tell that the fleet begins to go down.
    AnnounceStopping {
        /// What asked for it.
        trigger: String,
    },
    /// Tell that the fleet is down.
    AnnounceStopped {
        /// Servers that are still there at the deadline.
        survivors: Vec<ServerId>,
    },
}

#[derive(Debug)]
struct Shutdown {
    ids: Vec<Seq>,
    /// When KILL is sent to whatever is left.
    force_at: Option<Elapsed>,
    deadline: Elapsed,
    announced: bool,
}

/// The fleet.
#[derive(Debug)]
pub struct Machine {
    slots: BTreeMap<ServerId, Slot>,
    shutdown: Option<Shutdown>,
    /// Longest time from the wish to shut down to the end.
    shutdown_limit: Duration,
}

impl Machine {
    /// A fleet of which nothing runs.
    pub fn new(servers: impl IntoIterator<Item = ServerId>, shutdown_limit: Duration) -> Self {
        let slots = servers.into_iter().map(|server| (server, Slot::new())).collect();
        Self { slots, shutdown: None, shutdown_limit }
    }

    /// Starts these servers, all at once.
    pub fn start_all<'a>(&mut self, servers: impl IntoIterator<Item = &'a ServerId>) -> Vec<Action> {
        let mut actions = Vec::new();
        for server in servers {
            self.with_slot(server, &mut actions, |slot, actions| slot.start(None, actions));
        }
        actions
    }

    /// Whether a command must be refused, and why.
    pub fn refusal(&self, command: &SuperviseCommand) -> Option<Refused> {
        let (server, is_stop) = match command {
            SuperviseCommand::ShutDown { .. } => return None,
            SuperviseCommand::StopServer { server, .. } => (server, true),
            SuperviseCommand::StartServer { server } | SuperviseCommand::RestartServer { server, .. } => (server, false),
        };
        if !self.slots.contains_key(server) {
            let known: Vec<_> = self.slots.keys().map(ServerId::as_str).collect();
            let detail = format!("no server `{server}` is configured; there are: {}", known.join(", "));
            return Some(Refused::new(RefusalReason::UnknownServer, detail));
        }
        if self.shutdown.is_some() && !is_stop {
            return Some(Refused::new(RefusalReason::ShuttingDown, "the daemon is shutting down"));
        }
        None
    }

    /// Takes up an accepted command. Its id is the `seq` of its `CommandAccepted`.
    pub fn on_command(&mut self, command: SuperviseCommand, id: Seq, now: Elapsed) -> Vec<Action> {
        let mut actions = Vec::new();
        match command {
            SuperviseCommand::StartServer { server } => {
                self.with_slot(&server, &mut actions, |slot, actions| slot.start(Some(id), actions));
            }
            SuperviseCommand::StopServer { server, grace, force } => {
                let grace = if force { Some(Duration::ZERO) } else { grace };
                self.with_slot(&server, &mut actions, |slot, actions| {
                    slot.stop(Some(id), StopReason::Requested, grace, actions);
                });
            }
            SuperviseCommand::RestartServer { server, grace, force } => {
                let grace = if force { Some(Duration::ZERO) } else { grace };
                self.with_slot(&server, &mut actions, |slot, actions| slot.restart(id, grace, actions));
            }
            SuperviseCommand::ShutDown { trigger, force } => self.shut_down(trigger, force, id, now, &mut actions),
        }
        actions
    }

    /// Takes a fact in.
    pub fn on_event(&mut self, envelope: &Envelope) -> Vec<Action> {
        let mut actions = Vec::new();
        let (Some(server), Some(incarnation)) = (&envelope.server, envelope.incarnation) else { return actions };
        match &envelope.event {
            Event::LaunchBegan { .. } => {
                self.with_slot(server, &mut actions, |slot, actions| slot.on_launch_began(incarnation, actions));
            }
            Event::ServerSpawned { .. } => {
                self.with_slot(server, &mut actions, |slot, _| slot.on_spawned(incarnation));
            }
            Event::ReadyReached { .. } => {
                self.with_slot(server, &mut actions, |slot, actions| slot.on_ready(incarnation, actions));
            }
            Event::ServerFailed { reason, detail, .. } => {
                self.with_slot(server, &mut actions, |slot, actions| {
                    slot.on_failed(incarnation, *reason, detail, actions);
                });
            }
            Event::StopBegan { .. } => {
                self.with_slot(server, &mut actions, |slot, _| slot.on_stop_began(incarnation));
            }
            Event::ServerExited { .. } => {
                self.with_slot(server, &mut actions, |slot, actions| slot.on_exited(incarnation, actions));
            }
            Event::ServerStopped { .. } => {
                self.with_slot(server, &mut actions, |slot, actions| slot.on_stopped(incarnation, actions));
            }
            _ => {}
        }
        self.finish_shutdown(&mut actions);
        actions
    }

    /// The launcher did not take a launch.
    pub fn on_launch_refused(&mut self, server: &ServerId, incarnation: Incarnation, refused: &Refused) -> Vec<Action> {
        let mut actions = Vec::new();
        self.with_slot(server, &mut actions, |slot, actions| {
            slot.on_launch_refused(incarnation, refused.to_string(), actions);
        });
        self.finish_shutdown(&mut actions);
        actions
    }

    /// Facts were missed; the snapshot contains them.
    pub fn on_gap(&mut self, snapshot: &Snapshot) -> Vec<Action> {
        let mut actions = Vec::new();
        for (server, record) in &snapshot.servers {
            self.with_slot(server, &mut actions, |slot, actions| slot.recall(record, actions));
        }
        self.finish_shutdown(&mut actions);
        actions
    }

    /// When [`Self::on_deadline`] has something to do.
    pub fn next_deadline(&self) -> Option<Elapsed> {
        let shutdown = self.shutdown.as_ref().filter(|shutdown| !shutdown.announced)?;
        Some(shutdown.force_at.unwrap_or(shutdown.deadline))
    }

    /// Near the shutdown deadline what is left is killed; at the deadline the daemon ends and names what is left.
    pub fn on_deadline(&mut self, now: Elapsed) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(shutdown) = self.shutdown.as_mut().filter(|shutdown| !shutdown.announced) else { return actions };
        if shutdown.force_at.is_some_and(|force_at| force_at <= now) {
            shutdown.force_at = None;
            self.stop_all(true, &mut actions);
        } else if shutdown.deadline <= now {
            shutdown.announced = true;
            let left = self.slots.iter().filter(|(_, slot)| !slot.is_down());
            let survivors = left.map(|(server, _)| server.clone()).collect();
            actions.push(Action::AnnounceStopped { survivors });
        }
        self.finish_shutdown(&mut actions);
        actions
    }

    fn shut_down(&mut self, trigger: String, force: bool, id: Seq, now: Elapsed, actions: &mut Vec<Action>) {
        match &mut self.shutdown {
            Some(shutdown) => shutdown.ids.push(id),
            None => {
                let after = |wait: Duration| Elapsed::new(now.as_duration().saturating_add(wait));
                self.shutdown = Some(Shutdown {
                    ids: vec![id],
                    force_at: Some(after(self.shutdown_limit.saturating_sub(RESERVE))),
                    deadline: after(self.shutdown_limit),
                    announced: false,
                });
                actions.push(Action::AnnounceStopping { trigger });
            }
        }
        self.stop_all(force, actions);
        self.finish_shutdown(actions);
    }

    fn stop_all(&mut self, force: bool, actions: &mut Vec<Action>) {
        let servers: Vec<_> = self.slots.keys().cloned().collect();
        for server in servers {
            self.with_slot(&server, actions, |slot, actions| {
                slot.stop(None, StopReason::Shutdown, force.then_some(Duration::ZERO), actions);
            });
        }
    }

    fn finish_shutdown(&mut self, actions: &mut Vec<Action>) {
        let Some(shutdown) = &mut self.shutdown else { return };
        if shutdown.announced || !self.slots.values().all(Slot::is_down) {
            return;
        }
        shutdown.announced = true;
        for id in shutdown.ids.drain(..) {
            actions.push(Action::Complete { server: None, id, outcome: CommandOutcome::Stopped });
        }
        actions.push(Action::AnnounceStopped { survivors: Vec::new() });
    }

    fn with_slot(
        &mut self,
        server: &ServerId,
        actions: &mut Vec<Action>,
        work: impl FnOnce(&mut Slot, &mut Vec<SlotAction>),
    ) {
        let Some(slot) = self.slots.get_mut(server) else { return };
        let mut wanted = Vec::new();
        work(slot, &mut wanted);
        actions.extend(wanted.into_iter().map(|action| {
            let server = server.clone();
            match action {
                SlotAction::Launch(incarnation) => Action::Launch { server, incarnation },
                SlotAction::Terminate { incarnation, reason, grace } => {
                    Action::Terminate { server, incarnation, reason, grace }
                }
                SlotAction::Complete { id, outcome } => Action::Complete { server: Some(server), id, outcome },
            }
        }));
    }
}
