//! The user's command before a launch. The test plays the component that runs it.

use std::fs;
use std::sync::Arc;

use llama_warden_bus::{CommandReceiver, EventDraft};
use llama_warden_component_kit::{TestBus, next_command};
use llama_warden_events::{
    Event, FailureReason, HookCommand, HookOutcome, HookPoint, Incarnation, ProcessEnd, RefusalReason, Refused, Signal,
};

use crate::TestCase;
use crate::fixture::{LauncherFixture, id, on_runtime};

pub const TESTS: &[TestCase] = &[
    ("a_pre_start_command_ends_before_anything_is_looked_at", before_the_look),
    ("a_pre_start_command_that_fails_or_is_refused_fails_the_launch", failing),
    ("a_launch_whose_pre_start_command_runs_is_called_off_at_once", called_off),
    ("a_gap_that_swallowed_the_end_of_a_pre_start_command_lets_the_launch_go_on", gap),
];

const PATH: &[(&str, &str)] = &[("PATH", "/usr/bin:/bin")];
const FIRST: Incarnation = Incarnation::new(1);

/// A fixture whose server `a` has a command and whose launch has just asked for it.
async fn asked(mut fixture: LauncherFixture) -> (LauncherFixture, CommandReceiver<HookCommand>) {
    let mut hooks = fixture.bus.own::<HookCommand>();
    let mut server = fixture.server("a", "exit 0");
    Arc::make_mut(&mut server.hooks).pre_start = Some(vec!["fetch".to_owned()]);
    // It is the command that makes both.
    fs::rename(&server.model, fixture.path("model.kept")).expect("renames");
    fs::rename(&server.binary, fixture.path("binary.kept")).expect("renames");
    fixture.configure([server]).await;
    fixture.try_launch(&id(), 1).await.expect("accepted");
    let request = next_command(&mut hooks).await;
    assert_eq!(request.command, HookCommand::RunPreStart { server: id(), incarnation: FIRST });
    request.accept(None);
    (fixture, hooks)
}

fn completed(outcome: HookOutcome) -> EventDraft {
    EventDraft::incarnation(id(), FIRST, Event::HookCompleted { hook: HookPoint::PreStart, outcome, seconds: 0.1 })
}

fn fetch(fixture: &LauncherFixture) {
    fs::rename(fixture.path("model.kept"), fixture.path("tiny.gguf")).expect("renames");
    fs::rename(fixture.path("binary.kept"), fixture.path("a-server")).expect("renames");
}

fn before_the_look() {
    on_runtime(async {
        let (mut fixture, _hooks) = asked(LauncherFixture::with_environment(PATH).await).await;
        fetch(&fixture);
        // Of another launch: it says nothing about this one.
        let stale = Event::HookCompleted { hook: HookPoint::PreStart, outcome: failed(), seconds: 0.1 };
        fixture.bus.publish(EventDraft::incarnation(id(), Incarnation::new(7), stale)).await;
        fixture.bus.publish(completed(HookOutcome::Succeeded)).await;
        fixture.spawned().await;
        assert_eq!(fixture.exited().await.0, ProcessEnd::Exited { code: 0 });
        fixture.end().await;
    });
}

fn failed() -> HookOutcome {
    HookOutcome::Failed { detail: "exit code 3".to_owned(), lines: ["no disk".to_owned()].into() }
}

fn failing() {
    on_runtime(async {
        let (mut fixture, mut hooks) = asked(LauncherFixture::with_environment(PATH).await).await;
        fixture.bus.publish(completed(failed())).await;
        let told = |event: &Event| match event {
            Event::ServerFailed { reason, detail, lines } => (*reason, detail.clone(), lines.clone()),
            other => panic!("{other:?}"),
        };
        let (reason, detail, lines) = told(&fixture.over().await.event);
        assert_eq!(
            (reason, detail.as_str()),
            (FailureReason::SpawnFailed, "the pre-start command failed: exit code 3")
        );
        assert_eq!(lines, ["no disk"]);
        fixture.try_launch(&id(), 2).await.expect("accepted");
        next_command(&mut hooks).await.refuse(Refused::new(RefusalReason::QueueFull, "too many"));
        let (reason, detail, _) = told(&fixture.over().await.event);
        assert_eq!(reason, FailureReason::SpawnFailed);
        assert!(detail.ends_with("it was not run: queue-full: too many"), "{detail}");
        fixture.end().await;
    });
}

fn called_off() {
    on_runtime(async {
        let (mut fixture, _hooks) = asked(LauncherFixture::with_environment(PATH).await).await;
        // The answer of hooks if it reads the stop before the signal is delivered.
        fixture.bus.publish(completed(HookOutcome::CalledOff)).await;
        fixture.signal(1, Signal::TERM).await.expect("accepted");
        let end = ProcessEnd::Signaled { signal: Signal::TERM, core_dumped: false };
        assert_eq!(fixture.exited().await.0, end);
        fixture.end().await;
        let (fixture, _hooks) = asked(LauncherFixture::with_environment(PATH).await).await;
        fixture.end().await;
    });
}

fn gap() {
    // One thread, so that the launcher reads no event while the ring is overrun.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("builds");
    runtime.block_on(async {
        let (fixture, _hooks) = asked(LauncherFixture::on(TestBus::keeping(2), PATH, None)).await;
        fetch(&fixture);
        let publisher = fixture.bus.publisher().clone();
        publisher.publish(completed(HookOutcome::Succeeded)).await.expect("open");
        for _ in 0..8 {
            publisher
                .publish(EventDraft::daemon(Event::DaemonStopping { trigger: "noise".into() }))
                .await
                .expect("open");
        }
        fixture.bus.see(|snapshot| snapshot.servers[&id()].last_end.is_some()).await;
        assert!(fixture.bus.bus().gaps()["launcher"] > 0);
        fixture.end().await;
    });
}
