//! The terminator as a component: requests and ends in, signals and events out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use llama_warden_bus::{
    Accepted, BusClosed, CommandRequest, CommandSender, Delivery, EventDraft, PendingReply, Publisher, ReceivedCommand,
    Subscription,
};
use llama_warden_component::{Component, Ports};
use llama_warden_config::{Fleet, ServerSpec};
use llama_warden_events::{
    Envelope, Event, HookCommand, HookPoint, Incarnation, LaunchCommand, RefusalReason, Refused, Seq, ServerId, Signal,
    StopReason, TerminateCommand, Uptime, Warning,
};
use llama_warden_state::Snapshot;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::machine::{StopAction as Action, StopMachine as Stop, StopPlan as Plan};

/// For a server of which no configuration is known any more.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// Ends processes politely, then surely.
#[derive(Debug)]
pub struct Terminator {
    fleet: watch::Receiver<Fleet>,
}

/// Why the terminator ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TerminatorError {
    /// The bus is gone.
    #[error("could not publish the progress of a stop")]
    Bus(#[from] BusClosed),
    /// Nobody can ask any more.
    #[error("every sender of commands is gone")]
    NoSender,
}

impl Terminator {
    /// A terminator that takes grace and ladder of each server from `fleet`.
    pub const fn new(fleet: watch::Receiver<Fleet>) -> Self {
        Self { fleet }
    }
}

impl Component for Terminator {
    const NAME: &'static str = "terminator";
    type Command = TerminateCommand;
    type Error = TerminatorError;

    async fn run(self, mut ports: Ports<TerminateCommand>) -> Result<(), TerminatorError> {
        let mut desk = Desk {
            fleet: self.fleet,
            launches: BTreeMap::new(),
            events: ports.events.clone(),
            commands: ports.commands.clone(),
            deliveries: JoinSet::new(),
            pre_stops: JoinSet::new(),
        };
        desk.recall(&ports.subscription.snapshot());
        loop {
            let now = ports.clock.now();
            let next = desk.stops().filter_map(|(_, stop)| stop.machine.next_deadline()).min();
            tokio::select! {
                () = ports.cancel.cancelled() => return Ok(()),
                request = ports.inbox.recv() => match request {
                    Some(request) => {
                        // What the sender had heard of the launch was published before the request was sent.
                        desk.hear_all(&mut ports.subscription).await?;
                        desk.on_request(request, ports.clock.now()).await?;
                    }
                    None => return Err(TerminatorError::NoSender),
                },
                delivery = ports.subscription.next() => match delivery {
                    Some(delivery) => desk.hear(delivery).await?,
                    None => return Err(BusClosed.into()),
                },
                () = ports.clock.sleep_until(next), if next.is_some_and(|next| next > now) => {
                    desk.on_deadline(ports.clock.now()).await?;
                }
                () = std::future::ready(()), if next.is_some_and(|next| next <= now) => desk.on_deadline(now).await?,
                Some(delivered) = desk.deliveries.join_next() => {
                    if let Ok(Err(refused)) = delivered {
                        // The process ended before the signal came; its end is on the way as an event.
                        tracing::debug!(%refused, "signal not delivered");
                    }
                }
                Some(asked) = desk.pre_stops.join_next() => {
                    if let Ok((server, incarnation, Err(refused))) = asked {
                        desk.on_pre_stop_refused(server, incarnation, refused, ports.clock.now()).await?;
                    }
                }
            }
        }
    }
}

/// The latest launch of a server.
#[derive(Debug)]
struct Launch {
    incarnation: Incarnation,
    /// What it was launched by, for a server that leaves the configuration while it runs.
    spec: Option<Arc<ServerSpec>>,
    life: Life,
    /// Only such a server has something that a `pre-stop` command could end in peace.
    was_ready: bool,
    /// Of the few that are being stopped.
    stop: Option<Box<OpenStop>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    BeforeSpawn,
    Running,
    Over,
}

#[derive(Debug)]
struct OpenStop {
    machine: Stop,
    cause: Option<Seq>,
}

struct Desk {
    fleet: watch::Receiver<Fleet>,
    launches: BTreeMap<ServerId, Launch>,
    events: Publisher,
    commands: CommandSender,
    deliveries: JoinSet<Result<Accepted, Refused>>,
    /// Whether the commands that were asked for will be run; how they ended is told by events.
    pre_stops: JoinSet<(ServerId, Incarnation, Result<Accepted, Refused>)>,
}

impl Desk {
    fn stops(&self) -> impl Iterator<Item = (&ServerId, &OpenStop)> {
        self.launches.iter().filter_map(|(server, launch)| launch.stop.as_deref().map(|stop| (server, stop)))
    }

    async fn hear_all(&mut self, events: &mut Subscription) -> Result<(), TerminatorError> {
        while let Some(delivery) = events.try_next() {
            self.hear(delivery).await?;
        }
        Ok(())
    }

    async fn hear(&mut self, delivery: Delivery) -> Result<(), TerminatorError> {
        match delivery {
            Delivery::Event(envelope) => self.on_event(&envelope).await,
            Delivery::Gap { snapshot, .. } => self.on_gap(&snapshot).await,
        }
    }

    async fn on_request(
        &mut self,
        request: ReceivedCommand<TerminateCommand>,
        now: Uptime,
    ) -> Result<(), TerminatorError> {
        let TerminateCommand::TerminateServer { server, incarnation, reason, grace } = request.command.clone();
        let cause = request.cause;
        // The request may overtake the events about the launch that it names, but never the other way round.
        let spec = self.fleet.borrow().get(server.as_str()).cloned();
        let launch = self.launches.entry(server.clone()).or_insert_with(|| Launch::new(incarnation, spec.clone()));
        if launch.incarnation < incarnation {
            *launch = Launch::new(incarnation, spec.clone());
        }
        if launch.incarnation > incarnation || launch.life == Life::Over {
            let detail = format!("launch {incarnation} of `{server}` is over");
            request.refuse(Refused::new(RefusalReason::StaleIncarnation, detail));
            return Ok(());
        }
        request.accept(None);
        let actions = match &mut launch.stop {
            Some(stop) => stop.machine.join(grace, now),
            None => {
                let (machine, actions) = Stop::begin(launch.plan(spec.as_deref(), reason, grace), now);
                launch.stop = Some(Box::new(OpenStop { machine, cause }));
                actions
            }
        };
        self.perform(&server, incarnation, cause, actions).await
    }

    async fn on_event(&mut self, envelope: &Envelope) -> Result<(), TerminatorError> {
        let (Some(server), Some(incarnation)) = (&envelope.server, envelope.incarnation) else { return Ok(()) };
        if let Event::LaunchBegan { .. } = envelope.event {
            let known = self.launches.get(server).map(|launch| launch.incarnation);
            if known.is_none_or(|known| known < incarnation) {
                let spec = self.fleet.borrow().get(server.as_str()).cloned();
                self.launches.insert(server.clone(), Launch::new(incarnation, spec));
            }
            return Ok(());
        }
        if let Event::HookCompleted { hook: HookPoint::PreStop, .. } = envelope.event {
            return self.on_pre_stop_over(server, incarnation, envelope.elapsed).await;
        }
        let Some(launch) = self.launches.get_mut(server).filter(|launch| launch.incarnation == incarnation) else {
            return Ok(());
        };
        let over = match (&envelope.event, launch.life) {
            (Event::ServerSpawned { .. }, _) => {
                launch.life = Life::Running;
                false
            }
            (Event::ReadyReached { .. }, _) => {
                launch.was_ready = true;
                false
            }
            // A failure before there is a process is the end of the launch.
            (Event::ServerFailed { .. }, Life::BeforeSpawn) | (Event::ServerExited { .. }, _) => true,
            _ => false,
        };
        if !over {
            return Ok(());
        }
        launch.life = Life::Over;
        let Some(stop) = launch.stop.take() else { return Ok(()) };
        let stopped = stop.machine.finish(envelope.elapsed);
        let event =
            EventDraft::incarnation(server.clone(), incarnation, stopped).because(stop.cause.or(Some(envelope.seq)));
        Ok(self.events.publish(event).await?)
    }

    async fn on_deadline(&mut self, now: Uptime) -> Result<(), TerminatorError> {
        let due: Vec<_> = self
            .launches
            .iter_mut()
            .filter_map(|(server, launch)| {
                let stop = launch.stop.as_mut()?;
                let actions = stop.machine.on_deadline(now);
                (!actions.is_empty()).then(|| (server.clone(), launch.incarnation, stop.cause, actions))
            })
            .collect();
        for (server, incarnation, cause, actions) in due {
            self.perform(&server, incarnation, cause, actions).await?;
        }
        Ok(())
    }

    async fn on_pre_stop_over(
        &mut self,
        server: &ServerId,
        incarnation: Incarnation,
        now: Uptime,
    ) -> Result<(), TerminatorError> {
        let launch = self.launches.get_mut(server).filter(|launch| launch.incarnation == incarnation);
        let Some(stop) = launch.and_then(|launch| launch.stop.as_mut()) else { return Ok(()) };
        let (cause, actions) = (stop.cause, stop.machine.on_pre_stop_over(now));
        self.perform(server, incarnation, cause, actions).await
    }

    async fn on_pre_stop_refused(
        &mut self,
        server: ServerId,
        incarnation: Incarnation,
        refused: Refused,
        now: Uptime,
    ) -> Result<(), TerminatorError> {
        let detail = format!("{}: {refused}", HookPoint::PreStop);
        let warned = Event::ServerWarned { warning: Warning::HookFailed, detail };
        self.events.publish(EventDraft::incarnation(server.clone(), incarnation, warned)).await?;
        self.on_pre_stop_over(&server, incarnation, now).await
    }

    async fn on_gap(&mut self, snapshot: &Snapshot) -> Result<(), TerminatorError> {
        let mut ended = Vec::new();
        let mut drained = Vec::new();
        for (server, launch) in &mut self.launches {
            let record = snapshot.servers.get(server);
            let running = record.is_some_and(|record| {
                record.incarnation == launch.incarnation && !record.phase.name().is_settled_down()
            });
            if !running {
                launch.life = Life::Over;
                ended.extend(launch.stop.take().map(|stop| (server.clone(), launch.incarnation, stop)));
            } else if record.is_some_and(|record| record.hooks.contains_key(&HookPoint::PreStop)) {
                drained.push((server.clone(), launch.incarnation));
            }
        }
        for (server, incarnation, stop) in ended {
            let stopped = stop.machine.finish(snapshot.elapsed);
            self.events.publish(EventDraft::incarnation(server, incarnation, stopped).because(stop.cause)).await?;
        }
        for (server, incarnation) in drained {
            self.on_pre_stop_over(&server, incarnation, snapshot.elapsed).await?;
        }
        self.recall(snapshot);
        Ok(())
    }

    /// Takes over what a snapshot says of launches that were not heard of.
    fn recall(&mut self, snapshot: &Snapshot) {
        for (server, record) in &snapshot.servers {
            let life = match record.phase.name() {
                phase if phase.is_settled_down() => Life::Over,
                _ if record.is_running() => Life::Running,
                _ => Life::BeforeSpawn,
            };
            let new = || Launch::new(record.incarnation, self.fleet.borrow().get(server.as_str()).cloned());
            let launch = self.launches.entry(server.clone()).or_insert_with(new);
            if launch.incarnation < record.incarnation {
                *launch = new();
            }
            if launch.incarnation == record.incarnation {
                launch.life = life;
                launch.was_ready = record.ready.is_some();
            }
        }
    }

    async fn perform(
        &mut self,
        server: &ServerId,
        incarnation: Incarnation,
        cause: Option<Seq>,
        actions: Vec<Action>,
    ) -> Result<(), TerminatorError> {
        for action in actions {
            match action {
                Action::Publish(event) => {
                    self.events
                        .publish(EventDraft::incarnation(server.clone(), incarnation, event).because(cause))
                        .await?;
                }
                Action::RunPreStop { reason, limit } => {
                    let command = HookCommand::RunPreStop { server: server.clone(), incarnation, reason, limit };
                    let (server, reply) =
                        (server.clone(), self.commands.post(CommandRequest::new(command).because(cause)));
                    self.pre_stops.spawn(async move { (server, incarnation, reply.await) });
                }
                Action::Deliver(rung) => {
                    let (server, signal) = (server.clone(), rung.signal);
                    let command = LaunchCommand::DeliverSignal { server, incarnation, signal, rung };
                    let reply: PendingReply = self.commands.post(CommandRequest::new(command).because(cause));
                    self.deliveries.spawn(reply);
                }
            }
        }
        Ok(())
    }
}

impl Launch {
    const fn new(incarnation: Incarnation, spec: Option<Arc<ServerSpec>>) -> Self {
        Self { incarnation, spec, life: Life::BeforeSpawn, was_ready: false, stop: None }
    }

    /// A stop by what is configured now, else by what it was launched by.
    fn plan(&self, configured: Option<&ServerSpec>, reason: StopReason, grace: Option<Duration>) -> Plan {
        let Some(spec) = configured.or(self.spec.as_deref()) else {
            let (grace, ladder) = (grace.unwrap_or(DEFAULT_GRACE), vec![Signal::TERM]);
            return Plan { reason, grace, ladder, pre_stop: None };
        };
        let has_command = spec.hooks.pre_stop.is_some() && self.was_ready;
        Plan {
            reason,
            grace: grace.unwrap_or(spec.stop.grace),
            ladder: spec.stop.ladder.clone(),
            pre_stop: has_command.then_some(spec.hooks.timeout),
        }
    }
}
