//! The terminator on a stage, with time held still.

#![expect(clippy::panic, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use llama_warden_bus::Fact;
use llama_warden_component_kit::{Stage, next_command, server};
use llama_warden_config::Fleet;
use llama_warden_events::{
    Event, FailureReason, Incarnation, LaunchCommand, ProcessEnd, RefusalReason, Signal, StopReason, TerminateCommand,
};
use llama_warden_terminator::Terminator;
use tokio::sync::watch;

const FIRST: Incarnation = Incarnation(1);

fn terminator() -> Terminator {
    Terminator::new(watch::channel(Fleet::default()).1)
}

fn terminate(grace: Option<u64>) -> TerminateCommand {
    let grace = grace.map(Duration::from_secs);
    TerminateCommand::TerminateServer { server: server("a"), incarnation: FIRST, reason: StopReason::Requested, grace }
}

async fn running(stage: &Stage) {
    stage.configure(&server("a")).await;
    let spawned = Event::ServerSpawned { pid: 1, start_ticks: 1, argv: [].into(), port: 8001 };
    for event in [Event::LaunchBegan { binary: "x".into() }, spawned] {
        stage.publish(Fact::incarnation(server("a"), FIRST, event)).await;
    }
}

fn exited() -> Fact {
    let end = ProcessEnd::Exited { code: 0 };
    Fact::incarnation(server("a"), FIRST, Event::ServerExited { end, swept: 0 })
}

fn signal(command: &LaunchCommand) -> Signal {
    match command {
        LaunchCommand::DeliverSignal { signal, .. } => *signal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_term_then_kill_then_told() {
    let mut stage = Stage::new();
    let mut launcher = stage.own::<LaunchCommand>();
    running(&stage).await;
    let performance = stage.run(terminator());
    stage.commands().send(terminate(Some(4))).await.expect("accepted");

    let request = next_command(&mut launcher).await;
    assert_eq!(signal(&request.command), Signal::TERM);
    request.accept(None);
    assert!(matches!(
        stage.hear(|event| matches!(event, Event::StopBegan { .. })).await.event,
        Event::StopBegan { grace_seconds: 4.0, .. }
    ));

    let before = tokio::time::Instant::now();
    let request = next_command(&mut launcher).await;
    assert_eq!((signal(&request.command), before.elapsed().as_secs()), (Signal::KILL, 4));
    request.accept(None);

    stage.publish(exited()).await;
    let stopped = stage.hear(|event| matches!(event, Event::ServerStopped { .. })).await;
    assert!(matches!(stopped.event, Event::ServerStopped { forced: true, .. }));
    performance.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_outlives_kill_is_reported() {
    let mut stage = Stage::new();
    let mut launcher = stage.own::<LaunchCommand>();
    running(&stage).await;
    let performance = stage.run(terminator());
    stage.commands().send(terminate(Some(0))).await.expect("accepted");
    assert_eq!(signal(&next_command(&mut launcher).await.command), Signal::KILL);
    let failed = stage.hear(|event| matches!(event, Event::ServerFailed { .. })).await;
    assert!(matches!(failed.event, Event::ServerFailed { reason: FailureReason::Unkillable, .. }));
    performance.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_of_a_launch_that_is_over_is_refused() {
    let mut stage = Stage::new();
    let _launcher = stage.own::<LaunchCommand>();
    running(&stage).await;
    stage.publish(exited()).await;
    let performance = stage.run(terminator());
    let refused = stage.commands().send(terminate(None)).await.expect_err("over");
    assert_eq!(refused.reason, RefusalReason::StaleIncarnation);
    performance.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_launch_that_fails_before_it_has_a_process_ends_its_stop() {
    let mut stage = Stage::new();
    let mut launcher = stage.own::<LaunchCommand>();
    stage.configure(&server("a")).await;
    stage.publish(Fact::incarnation(server("a"), FIRST, Event::LaunchBegan { binary: "x".into() })).await;
    let performance = stage.run(terminator());
    stage.commands().send(terminate(None)).await.expect("accepted");
    next_command(&mut launcher).await.accept(None);
    let failed = Event::ServerFailed { reason: FailureReason::PortInUse, detail: String::new(), lines: vec![] };
    stage.publish(Fact::incarnation(server("a"), FIRST, failed)).await;
    stage.hear(|event| matches!(event, Event::ServerStopped { forced: false, .. })).await;
    performance.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_gap_that_swallowed_the_exit_still_ends_the_stop() {
    let mut stage = Stage::keeping(2);
    let mut launcher = stage.own::<LaunchCommand>();
    running(&stage).await;
    let performance = stage.run(terminator());
    stage.commands().send(terminate(None)).await.expect("accepted");
    next_command(&mut launcher).await.accept(None);
    stage.publisher().publish(exited()).await.expect("open");
    for _ in 0..8 {
        stage.publisher().publish(Fact::daemon(Event::DaemonStopping { trigger: "noise".into() })).await.expect("open");
    }
    stage.see(|snapshot| snapshot.servers["a"].stop_seconds.count() == 1).await;
    performance.end().await;
}
