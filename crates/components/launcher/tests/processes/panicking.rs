//! A daemon in which another component panics as soon as a server runs.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use llama_warden_bus::{Bus, Delivery, EventDraft, Incoming};
use llama_warden_component::{Component, Host, HostError, HostSettings, Ports};
use llama_warden_component_kit::card;
use llama_warden_config::Fleet;
use llama_warden_events::{
    BootId, CommandSet, Event, HookCommand, Incarnation, LaunchCommand, NoCommand, SuperviseCommand, TerminateCommand,
};
use llama_warden_launcher::Launcher;
use tokio::sync::watch;

use crate::fixture::{id, server_in, settings};

/// Accepts its commands and does nothing, so that it is left to the launcher's own end to stop the server.
struct Idle<C>(std::marker::PhantomData<fn() -> C>);

impl<C: CommandSet> Component for Idle<C> {
    const NAME: &'static str = C::NAME;
    type Command = C;
    type Error = Infallible;

    async fn run(self, ports: Ports<C>) -> Result<(), Infallible> {
        let (_, mut commands) = ports.inbox.split();
        loop {
            tokio::select! {
                command = commands.recv() => command.accept(None),
                () = ports.cancel.cancelled() => return Ok(()),
            }
        }
    }
}

/// Panics when a server runs.
struct Guest;

impl Component for Guest {
    const NAME: &'static str = "guest";
    type Command = NoCommand;
    type Error = Infallible;

    async fn run(self, mut ports: Ports<NoCommand>) -> Result<(), Infallible> {
        while let Ok(incoming) = ports.inbox.next().await {
            if let Incoming::Delivery(Delivery::Event(envelope)) = incoming
                && matches!(envelope.event, Event::ServerSpawned { .. })
            {
                panic!("boom");
            }
        }
        Ok(())
    }
}

/// Runs the daemon to its end, and returns why it ended and which events it published.
pub async fn daemon(folder: &Path) -> (HostError, Bus) {
    let mut host = Host::new(HostSettings {
        boot: BootId::from_random(7),
        events_kept: 64,
        drain: Duration::from_millis(200),
        cancel: Duration::from_secs(10),
    });
    let server = server_in(folder, "a", "trap '' TERM; while :; do read never < /dev/zero; done");
    let (_fleet, fleet) = watch::channel(Fleet::new(vec![server]));
    let launcher = Launcher::new(fleet, host.lane().clone(), settings(host.bus(), &[("PATH", "/usr/bin:/bin")], None));
    host.add(launcher).expect("first owner");
    host.add(Idle::<TerminateCommand>(std::marker::PhantomData)).expect("first owner");
    host.add(Idle::<HookCommand>(std::marker::PhantomData)).expect("first owner");
    host.add(Idle::<SuperviseCommand>(std::marker::PhantomData)).expect("first owner");
    host.add(Guest).expect("owns nothing");
    let configured = Event::ServerConfigured { card: card(&id()).into() };
    host.publisher().publish(EventDraft::server(id(), configured)).await.expect("open");
    let (commands, bus) = (host.commands(), host.bus().clone());
    let running = host.start().expect("complete");
    let launch = LaunchCommand::LaunchServer { server: id(), incarnation: Incarnation::new(1) };
    commands.send(launch).await.expect("accepted");
    let error = running.join().await.expect_err("a component panicked");
    (error, bus)
}
