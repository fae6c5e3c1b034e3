//! The host turns the failure of one component into an orderly end of all.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use llama_warden_bus::{CommandSetId, Delivery, EventDraft, Incoming, OwnerError, Publisher};
use llama_warden_component::{Component, CompositionError, Host, HostError, HostSettings, Ports};
use llama_warden_config::{ConfigProblem, Location};
use llama_warden_events::{BootId, CommandSet, Event, LaunchCommand, NoCommand, Seq, SuperviseCommand};

/// Owns a set of commands and does as its script says.
struct Actor<C> {
    script: Script,
    set: std::marker::PhantomData<fn() -> C>,
}

#[derive(Clone, Copy)]
enum Script {
    Wait,
    Fail,
    Panic,
    EndEarly,
    StopWhenAsked,
    EndWhenStopped,
    FailAtEnd,
    PanicAtEnd,
    Stay,
    Flood,
    FloodAside,
}

#[derive(Debug, thiserror::Error)]
#[error("it broke")]
struct Broken;

fn actor<C>(script: Script) -> Actor<C> {
    Actor { script, set: std::marker::PhantomData }
}

/// Publishes as fast as it can, until nothing is taken any more.
async fn flood(events: &Publisher) {
    let noise = EventDraft::daemon(Event::extension("guest", "Noise", "more of it"));
    while events.publish(noise.clone()).await.is_ok() {}
}

impl<C: CommandSet> Component for Actor<C> {
    const NAME: &'static str = C::NAME;
    type Command = C;
    type Error = Broken;

    async fn run(self, mut ports: Ports<C>) -> Result<(), Broken> {
        match self.script {
            Script::Fail => return Err(Broken),
            Script::Panic => panic!("boom"),
            Script::EndEarly => return Ok(()),
            Script::Wait => ports.cancel.cancelled().await,
            Script::EndWhenStopped => loop {
                let incoming = ports.inbox.next().await.map_err(|_| Broken)?;
                let Incoming::Delivery(Delivery::Event(envelope)) = incoming else { continue };
                if let Event::DaemonStopped { .. } = envelope.event {
                    break;
                }
            },
            Script::FailAtEnd => {
                ports.cancel.cancelled().await;
                return Err(Broken);
            }
            Script::PanicAtEnd => {
                ports.cancel.cancelled().await;
                panic!("boom");
            }
            Script::Stay => std::future::pending().await,
            Script::Flood => flood(&ports.events).await,
            Script::FloodAside => {
                let events = ports.events.clone();
                tokio::spawn(async move { flood(&events).await });
                ports.cancel.cancelled().await;
            }
            Script::StopWhenAsked => {
                loop {
                    if let Incoming::Command(command) = ports.inbox.next().await.map_err(|_| Broken)? {
                        command.accept(None);
                        break;
                    }
                }
                let stopped = Event::DaemonStopped { survivors: vec![] };
                ports.events.publish(EventDraft::daemon(stopped)).await.map_err(|_| Broken)?;
                ports.cancel.cancelled().await;
            }
        }
        Ok(())
    }
}

fn host() -> Host {
    Host::new(HostSettings {
        boot: BootId::from_random(1),
        events_kept: 64,
        drain: Duration::from_secs(10),
        cancel: Duration::from_secs(10),
    })
}

fn composed(guest: Script) -> Host {
    let mut host = host();
    host.add(actor::<LaunchCommand>(Script::Wait)).expect("first owner");
    host.add(actor::<SuperviseCommand>(Script::StopWhenAsked)).expect("first owner");
    host.add(actor::<NoCommand>(guest)).expect("owns nothing");
    host
}

#[tokio::test]
async fn a_missing_owner_is_an_error_at_start() {
    let mut host = host();
    host.add(actor::<LaunchCommand>(Script::Wait)).expect("first owner");
    assert_eq!(
        host.start().map(|_| ()).expect_err("incomplete"),
        CompositionError::Owner(OwnerError::NoOwner { set: "supervise", sender: "host" })
    );
}

/// Sends commands that it hopes somebody owns.
struct Sender;

impl Component for Sender {
    const NAME: &'static str = "sender";
    const SENDS: &'static [CommandSetId] = &[CommandSetId::of::<LaunchCommand>()];
    type Command = NoCommand;
    type Error = Broken;

    async fn run(self, ports: Ports<NoCommand>) -> Result<(), Broken> {
        ports.cancel.cancelled().await;
        Ok(())
    }
}

#[tokio::test]
async fn a_component_whose_commands_nobody_owns_is_an_error_at_start_that_names_it() {
    let mut host = host();
    host.add(actor::<SuperviseCommand>(Script::Wait)).expect("first owner");
    host.add(Sender).expect("owns nothing");
    host.check().expect_err("incomplete before anything runs");
    let error = host.start().map(|_| ()).expect_err("incomplete");
    assert_eq!(error, CompositionError::Owner(OwnerError::NoOwner { set: "launch", sender: "sender" }));
}

mod other {
    /// Another component of the same name, from another module.
    pub(super) struct Sender;
}

impl Component for other::Sender {
    const NAME: &'static str = "sender";
    type Command = NoCommand;
    type Error = Broken;

    async fn run(self, _: Ports<NoCommand>) -> Result<(), Broken> {
        Ok(())
    }
}

#[tokio::test]
async fn two_components_of_one_name_are_an_error_that_names_both() {
    let mut host = host();
    host.add(Sender).expect("owns nothing");
    let error = host.add(other::Sender).expect_err("the name is taken").to_string();
    assert!(error.contains("`sender`: host::Sender and host::other::Sender"), "{error}");
}

#[tokio::test]
async fn a_panic_while_a_component_is_built_is_an_error_that_names_it() {
    let mut host = host();
    let build = || -> Sender { panic!("no file") };
    let error = host.add_built(build).expect_err("it panics").to_string();
    assert!(error.contains("component `sender` cannot be built: panicked: no file"), "{error}");
    host.add_built(|| Sender).expect("its name is free");
}

#[tokio::test]
async fn a_component_that_cannot_be_built_is_an_error_with_its_place() {
    let mut host = host();
    let location = Location::File("warden.toml".into());
    let problem = Box::new(ConfigProblem::error(&location, "no file", "write one"));
    for (error, place) in [
        (BuildError::Settings(problem.clone()), Some(problem)),
        (BuildError::Other(std::io::ErrorKind::NotFound.into()), None),
    ] {
        let built = host.add_built(|| -> Result<Sender, BuildError> { Err(error) });
        let Err(CompositionError::NotBuilt { name: "sender", error, place: told }) = built else { panic!("{built:?}") };
        assert_eq!(told, place);
        assert!(error.starts_with("cannot begin: "), "{error}");
    }
    host.add_built(|| Ok::<_, BuildError>(Sender)).expect("its name is free");
}

#[derive(Debug, thiserror::Error)]
#[error("cannot begin")]
enum BuildError {
    Settings(#[source] Box<ConfigProblem>),
    Other(#[source] std::io::Error),
}

/// The end of a host that was asked to stop, with this guest.
async fn stopped(guest: Script) -> Result<(), HostError> {
    let host = composed(guest);
    let commands = host.commands();
    let running = host.start().expect("complete");
    let trigger = "test".to_owned();
    commands.send(SuperviseCommand::ShutDown { trigger, force: false }).await.expect("accepted");
    running.join().await
}

#[tokio::test]
async fn the_host_ends_well_when_the_fleet_is_down() {
    assert_eq!(stopped(Script::Wait).await, Ok(()));
}

#[tokio::test]
async fn a_component_that_ends_with_the_fleet_does_not_end_early() {
    for _ in 0..20 {
        assert_eq!(stopped(Script::EndWhenStopped).await, Ok(()));
    }
}

#[tokio::test]
async fn an_error_or_a_panic_while_components_end_is_not_swallowed() {
    for (script, told) in [(Script::FailAtEnd, "it broke"), (Script::PanicAtEnd, "panicked: boom")] {
        let failed = HostError { component: "none", error: told.to_owned() };
        assert_eq!(stopped(script).await, Err(failed));
    }
}

#[tokio::test(start_paused = true)]
async fn a_component_that_ignores_its_end_is_dropped_in_time() {
    assert_eq!(stopped(Script::Stay).await, Ok(()));
}

/// Fault S13. Time stands still while anything goes on, so that a flood is one on a slow machine too.
#[tokio::test(start_paused = true)]
async fn an_error_a_panic_an_early_end_and_a_flood_all_drain_the_fleet_and_are_told() {
    let flood = "published more than 10000 events of its own within a second";
    for (script, told) in [
        (Script::Fail, "it broke"),
        (Script::Panic, "panicked: boom"),
        (Script::EndEarly, "ended by itself"),
        (Script::Flood, flood),
        (Script::FloodAside, flood),
    ] {
        let host = composed(script);
        let bus = host.bus().clone();
        let error = host.start().expect("complete").join().await.expect_err("a component failed");
        assert_eq!((error.component, error.error.as_str()), ("none", told));
        let snapshot = bus.snapshot();
        assert_eq!(snapshot.daemon.failed_component, Some(("none".to_owned(), told.to_owned())));
        assert_eq!(snapshot.events.get("DaemonStopped"), Some(&1), "the supervisor was asked to stop the fleet");
        assert!(snapshot.seq >= Seq::new(2));
    }
}

#[tokio::test]
async fn a_failed_supervisor_still_lets_everybody_end() {
    let mut host = host();
    host.add(actor::<LaunchCommand>(Script::Wait)).expect("first owner");
    host.add(actor::<SuperviseCommand>(Script::Fail)).expect("first owner");
    let error = host.start().expect("complete").join().await.expect_err("the supervisor failed");
    assert_eq!(error.component, "supervise");
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_answers_nothing_delays_the_end_by_the_drain_and_no_more() {
    let mut host = host();
    host.add(actor::<SuperviseCommand>(Script::Wait)).expect("first owner");
    host.add(actor::<NoCommand>(Script::Fail)).expect("owns nothing");
    let running = host.start().expect("complete");
    let ended = tokio::time::timeout(Duration::from_secs(60), running.join()).await.expect("ends by itself");
    assert_eq!(ended.expect_err("the guest failed").component, "none");
}
