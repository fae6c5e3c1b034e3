//! The terminator on a test bus, with the time paused.

#![expect(clippy::panic, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use llama_warden_bus::EventDraft;
use llama_warden_component_kit::{TestBus, compliance, next_command, server};
use llama_warden_events::{
    Event, FailureReason, HookCommand, HookOutcome, HookPoint, Incarnation, LaunchCommand, ProcessEnd, ReadyVia,
    RefusalReason, Refused, Signal, StopReason, TerminateCommand, Warning,
};
use llama_warden_terminator::Terminator;

const FIRST: Incarnation = Incarnation::new(1);

fn terminator(bus: &TestBus) -> Terminator {
    Terminator::build(&bus.context(""))
}

/// Of a server with a `pre-stop` command.
fn draining_terminator(bus: &TestBus) -> Terminator {
    let hooks = "hooks = { pre-stop = [\"drain\"], timeout = \"1m\" }";
    Terminator::build(&bus.context(&format!("[[servers]]\nid = \"a\"\nmodel = \"/m.gguf\"\n{hooks}")))
}

fn terminate(grace: Option<u64>) -> TerminateCommand {
    let grace = grace.map(Duration::from_secs);
    TerminateCommand::TerminateServer { server: server("a"), incarnation: FIRST, reason: StopReason::Requested, grace }
}

async fn running(bus: &TestBus) {
    bus.configure(&server("a")).await;
    let spawned = Event::ServerSpawned { pid: 1, start_ticks: 1, argv: [].into(), port: 8001 };
    for event in [Event::LaunchBegan { binary: "x".into() }, spawned] {
        bus.publish(EventDraft::incarnation(server("a"), FIRST, event)).await;
    }
}

fn exited() -> EventDraft {
    let end = ProcessEnd::Exited { code: 0 };
    EventDraft::incarnation(server("a"), FIRST, Event::ServerExited { end, swept: 0 })
}

fn signal(command: &LaunchCommand) -> Signal {
    match command {
        LaunchCommand::DeliverSignal { signal, .. } => *signal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_term_then_kill_then_told() {
    let mut bus = TestBus::new();
    let mut launcher = bus.own::<LaunchCommand>();
    running(&bus).await;
    let component = bus.run(terminator(&bus));
    bus.commands().send(terminate(Some(4))).await.expect("accepted");

    let request = next_command(&mut launcher).await;
    assert_eq!(signal(&request.command), Signal::TERM);
    request.accept(None);
    assert!(matches!(
        bus.wait_for(|event| matches!(event, Event::StopBegan { .. })).await.event,
        Event::StopBegan { grace_seconds: 4.0, .. }
    ));

    let before = tokio::time::Instant::now();
    let request = next_command(&mut launcher).await;
    assert_eq!((signal(&request.command), before.elapsed().as_secs()), (Signal::KILL, 4));
    request.accept(None);

    bus.publish(exited()).await;
    let stopped = bus.wait_for(|event| matches!(event, Event::ServerStopped { .. })).await;
    assert!(matches!(stopped.event, Event::ServerStopped { forced: true, .. }));
    component.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_outlives_kill_is_reported() {
    let mut bus = TestBus::new();
    let mut launcher = bus.own::<LaunchCommand>();
    running(&bus).await;
    let component = bus.run(terminator(&bus));
    bus.commands().send(terminate(Some(0))).await.expect("accepted");
    assert_eq!(signal(&next_command(&mut launcher).await.command), Signal::KILL);
    let failed = bus.wait_for(|event| matches!(event, Event::ServerFailed { .. })).await;
    assert!(matches!(failed.event, Event::ServerFailed { reason: FailureReason::Unkillable, .. }));
    component.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_of_a_launch_that_is_over_is_refused() {
    let mut bus = TestBus::new();
    let _launcher = bus.own::<LaunchCommand>();
    running(&bus).await;
    bus.publish(exited()).await;
    let component = bus.run(terminator(&bus));
    let refused = bus.commands().send(terminate(None)).await.expect_err("over");
    assert_eq!(refused.reason, RefusalReason::StaleIncarnation);
    component.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_launch_that_fails_before_it_has_a_process_ends_its_stop() {
    let mut bus = TestBus::new();
    let mut launcher = bus.own::<LaunchCommand>();
    bus.configure(&server("a")).await;
    bus.publish(EventDraft::incarnation(server("a"), FIRST, Event::LaunchBegan { binary: "x".into() })).await;
    let component = bus.run(terminator(&bus));
    bus.commands().send(terminate(None)).await.expect("accepted");
    next_command(&mut launcher).await.accept(None);
    let failed = Event::ServerFailed { reason: FailureReason::PortInUse, detail: String::new(), lines: vec![] };
    bus.publish(EventDraft::incarnation(server("a"), FIRST, failed)).await;
    bus.wait_for(|event| matches!(event, Event::ServerStopped { forced: false, .. })).await;
    component.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_gap_that_swallowed_the_exit_still_ends_the_stop() {
    let mut bus = TestBus::keeping(2);
    let mut launcher = bus.own::<LaunchCommand>();
    running(&bus).await;
    let component = bus.run(terminator(&bus));
    bus.commands().send(terminate(None)).await.expect("accepted");
    next_command(&mut launcher).await.accept(None);
    bus.publisher().publish(exited()).await.expect("open");
    for _ in 0..8 {
        bus.publisher()
            .publish(EventDraft::daemon(Event::DaemonStopping { trigger: "noise".into() }))
            .await
            .expect("open");
    }
    bus.see(|snapshot| snapshot.servers["a"].stop_seconds.count() == 1).await;
    component.end().await;
}

async fn ready(bus: &TestBus) {
    running(bus).await;
    let reached = Event::ReadyReached { via: ReadyVia::Health, startup_seconds: 1.0 };
    bus.publish(EventDraft::incarnation(server("a"), FIRST, reached)).await;
}

fn drained() -> EventDraft {
    let event = Event::HookCompleted { hook: HookPoint::PreStop, outcome: HookOutcome::Succeeded, seconds: 1.0 };
    EventDraft::incarnation(server("a"), FIRST, event)
}

#[tokio::test(start_paused = true)]
async fn the_first_signal_waits_for_the_pre_stop_command() {
    let mut bus = TestBus::new();
    let (mut launcher, mut hooks) = (bus.own::<LaunchCommand>(), bus.own::<HookCommand>());
    ready(&bus).await;
    let component = bus.run(draining_terminator(&bus));
    bus.commands().send(terminate(Some(8))).await.expect("accepted");
    let request = next_command(&mut hooks).await;
    let (reason, limit) = (StopReason::Requested, Duration::from_secs(4));
    let expected = HookCommand::RunPreStop { server: server("a"), incarnation: FIRST, reason, limit };
    assert_eq!(request.command, expected);
    request.accept(None);
    let before = tokio::time::Instant::now();
    let publisher = bus.publisher().clone();
    tokio::spawn(async move {
        // await: the time that the command takes, on a paused clock.
        tokio::time::sleep(Duration::from_secs(1)).await;
        publisher.publish(drained()).await
    });
    for (expected, seconds) in [(Signal::TERM, 1), (Signal::KILL, 8)] {
        let request = next_command(&mut launcher).await;
        assert_eq!((signal(&request.command), before.elapsed().as_secs()), (expected, seconds));
        request.accept(None);
    }
    component.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_goes_on_without_a_pre_stop_command_that_does_not_end_or_is_not_run() {
    for (is_accepted, seconds) in [(true, 4), (false, 0)] {
        let mut bus = TestBus::new();
        let (mut launcher, mut hooks) = (bus.own::<LaunchCommand>(), bus.own::<HookCommand>());
        ready(&bus).await;
        let component = bus.run(draining_terminator(&bus));
        bus.commands().send(terminate(Some(8))).await.expect("accepted");
        let request = next_command(&mut hooks).await;
        let before = tokio::time::Instant::now();
        match is_accepted {
            true => request.accept(None),
            false => request.refuse(Refused::new(RefusalReason::QueueFull, "too many")),
        }
        let request = next_command(&mut launcher).await;
        assert_eq!((signal(&request.command), before.elapsed().as_secs()), (Signal::TERM, seconds));
        if !is_accepted {
            let warned = bus.wait_for(|event| matches!(event, Event::ServerWarned { .. })).await;
            assert!(matches!(warned.event, Event::ServerWarned { warning: Warning::HookFailed, .. }));
        }
        component.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_owner_of_commands_holds_up_no_stop() {
    let mut bus = TestBus::new();
    let mut launcher = bus.own::<LaunchCommand>();
    drop(bus.own::<HookCommand>());
    ready(&bus).await;
    let component = bus.run(draining_terminator(&bus));
    bus.commands().send(terminate(None)).await.expect("accepted");
    let before = tokio::time::Instant::now();
    assert_eq!(signal(&next_command(&mut launcher).await.command), Signal::TERM);
    assert_eq!(before.elapsed(), Duration::ZERO);
    component.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_never_ready_gets_its_first_signal_at_once() {
    let mut bus = TestBus::new();
    let (mut launcher, mut hooks) = (bus.own::<LaunchCommand>(), bus.own::<HookCommand>());
    running(&bus).await;
    let component = bus.run(draining_terminator(&bus));
    bus.commands().send(terminate(None)).await.expect("accepted");
    assert_eq!(signal(&next_command(&mut launcher).await.command), Signal::TERM);
    let asked = tokio::time::timeout(Duration::from_secs(1), hooks.recv()).await;
    assert!(asked.is_err(), "{asked:?}");
    component.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_gap_that_swallowed_the_end_of_the_pre_stop_command_lets_the_stop_go_on() {
    let mut bus = TestBus::keeping(2);
    let (mut launcher, mut hooks) = (bus.own::<LaunchCommand>(), bus.own::<HookCommand>());
    ready(&bus).await;
    let component = bus.run(draining_terminator(&bus));
    bus.commands().send(terminate(Some(1000))).await.expect("accepted");
    next_command(&mut hooks).await.accept(None);
    let before = tokio::time::Instant::now();
    bus.publisher().publish(drained()).await.expect("open");
    for _ in 0..8 {
        bus.publisher()
            .publish(EventDraft::daemon(Event::DaemonStopping { trigger: "noise".into() }))
            .await
            .expect("open");
    }
    assert_eq!(signal(&next_command(&mut launcher).await.command), Signal::TERM);
    assert_eq!(before.elapsed(), Duration::ZERO);
    component.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_terminator_complies() {
    compliance::check(terminator).await;
}
