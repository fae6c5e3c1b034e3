//! The loop of a component.

#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use llama_warden_bus::{BusClosed, Delivery, EventDraft, Inbox, Publisher, ReceivedCommand};
use llama_warden_component::{Component, Ports, Worker, next_task};
use llama_warden_component_kit::{TestBus, compliance, server};
use llama_warden_events::{Event, SuperviseCommand, Uptime};
use llama_warden_state::Snapshot;
use tokio::task::{JoinError, JoinSet};

/// Publishes what wakes it.
struct Echo;

struct EchoWorker {
    events: Publisher,
    deadline: Option<Uptime>,
    tasks: JoinSet<&'static str>,
    unread: u64,
}

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct EchoError(#[from] BusClosed);

impl Component for Echo {
    const NAME: &'static str = "echo";
    type Command = SuperviseCommand;
    type Error = EchoError;

    async fn run(self, ports: Ports<SuperviseCommand>) -> Result<(), EchoError> {
        let worker = EchoWorker { events: ports.events.clone(), deadline: None, tasks: JoinSet::new(), unread: 0 };
        ports.drive(worker).await
    }
}

impl EchoWorker {
    async fn say(&self, kind: &str) -> Result<(), EchoError> {
        Ok(self.events.publish(EventDraft::daemon(Event::extension("echo", kind, ()))).await?)
    }
}

impl Worker for EchoWorker {
    type Command = SuperviseCommand;
    type Error = EchoError;
    type Input = Result<&'static str, JoinError>;

    async fn on_start(&mut self, snapshot: &Snapshot, now: Uptime) -> Result<(), EchoError> {
        // A deadline that has passed already is met at once.
        self.deadline = Some(now);
        self.say(&format!("Started{}", snapshot.servers.len())).await
    }

    async fn on_event(&mut self, delivery: Delivery, _: Uptime) -> Result<(), EchoError> {
        if let Delivery::Event(envelope) = delivery
            && let Event::ServerRemoved = envelope.event
        {
            self.tasks.spawn(async { "TaskEnded" });
        }
        Ok(())
    }

    async fn on_command(&mut self, command: ReceivedCommand<SuperviseCommand>, _: Uptime) -> Result<(), EchoError> {
        command.accept(None);
        self.say("CommandReceived").await
    }

    fn next_deadline(&self) -> Option<Uptime> {
        self.deadline
    }

    async fn on_deadline(&mut self, _: Uptime) -> Result<(), EchoError> {
        self.deadline = None;
        self.say("DeadlineMet").await
    }

    async fn next_input(&mut self) -> Self::Input {
        next_task(&mut self.tasks).await
    }

    async fn on_input(&mut self, ended: Self::Input, _: Uptime) -> Result<(), EchoError> {
        self.say(ended.expect("it does not panic")).await
    }

    async fn on_cancel(&mut self, inbox: &mut Inbox<SuperviseCommand>) -> Result<(), EchoError> {
        while inbox.try_next_event().is_some() {
            self.unread += 1;
        }
        self.say("Cancelled").await
    }
}

fn says(kind: &'static str) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Extension(extension) if extension.kind == kind)
}

#[tokio::test(start_paused = true)]
async fn a_worker_is_woken_by_its_start_deadlines_commands_events_tasks_and_its_end() {
    let mut bus = TestBus::new();
    bus.configure(&server("a")).await;
    let running = bus.run(Echo);
    bus.wait_for(says("Started1")).await;
    bus.wait_for(says("DeadlineMet")).await;
    let trigger = "test".to_owned();
    bus.commands().send(SuperviseCommand::Reload { trigger, force: false }).await.expect("accepted");
    bus.wait_for(says("CommandReceived")).await;
    bus.publish(EventDraft::server(server("a"), Event::ServerRemoved)).await;
    bus.wait_for(says("TaskEnded")).await;
    running.end().await;
    bus.wait_for(says("Cancelled")).await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_met_when_it_comes_and_not_before() {
    /// Says when its only deadline is met.
    struct Alarm;
    struct AlarmWorker(Publisher, Option<Uptime>);
    impl Component for Alarm {
        const NAME: &'static str = "alarm";
        type Command = llama_warden_events::NoCommand;
        type Error = EchoError;
        async fn run(self, ports: Ports<Self::Command>) -> Result<(), EchoError> {
            let due = ports.clock.now().as_duration() + Duration::from_secs(5);
            let worker = AlarmWorker(ports.events.clone(), Some(Uptime::new(due)));
            ports.drive(worker).await
        }
    }
    impl Worker for AlarmWorker {
        type Command = llama_warden_events::NoCommand;
        type Error = EchoError;
        type Input = ();
        async fn on_event(&mut self, _: Delivery, _: Uptime) -> Result<(), EchoError> {
            Ok(())
        }
        fn next_deadline(&self) -> Option<Uptime> {
            self.1
        }
        async fn on_deadline(&mut self, now: Uptime) -> Result<(), EchoError> {
            self.1 = None;
            let event = Event::extension("alarm", "Rang", now.as_duration().as_secs());
            Ok(self.0.publish(EventDraft::daemon(event)).await?)
        }
    }
    let mut bus = TestBus::new();
    let running = bus.run(Alarm);
    let rang = bus.wait_for(says("Rang")).await;
    let Event::Extension(event) = &rang.event else { unreachable!("awaited") };
    assert_eq!(event.data, 5);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_complies() {
    compliance::check(|_| Echo).await;
}
