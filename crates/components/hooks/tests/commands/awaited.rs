//! Hooks that a launch or a stop waits for: `pre-start` and `pre-stop`.

use std::time::{Duration, Instant};

use llama_warden_component_kit::server;
use llama_warden_events::{
    Event, FailureReason, HookCommand, HookOutcome, HookPoint, Incarnation, ProcessEnd, RefusalReason, StopReason,
};

use crate::fixture::{HooksFixture, exited, is_gone, launch, read, ready, script};

fn pre_start(incarnation: u64) -> HookCommand {
    HookCommand::RunPreStart { server: server("a"), incarnation: Incarnation::new(incarnation) }
}

fn pre_stop(limit: Duration) -> HookCommand {
    let (server, incarnation) = (server("a"), Incarnation::new(1));
    HookCommand::RunPreStop { server, incarnation, reason: StopReason::Requested, limit }
}

fn began() -> Event {
    Event::LaunchBegan { binary: "llama-server".into() }
}

fn stop_began() -> Event {
    Event::StopBegan { reason: StopReason::Requested, grace_seconds: 10.0 }
}

/// A command that writes to `file` that it runs, and whose child writes its pid there.
fn hanging(point: &str, file: &std::path::Path) -> String {
    let path = file.display();
    script(point, &format!("sleep 60 & echo $! > {path}.new; mv {path}.new {path}; wait"))
}

const AMPLE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_pre_start_command_runs_when_asked_and_names_its_launch_and_its_cause() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let file = directory.path().join("told");
    let hook = script("pre-start", &format!("env | grep ^LLAMA_WARDEN_ | sort > {}", file.display()));
    let mut fixture = HooksFixture::with(&hook).await;
    fixture.say(3, [began()]).await;
    fixture.bus.commands().send(pre_start(3)).await.expect("accepted");
    let completed = fixture.bus.wait_for(|event| matches!(event, Event::HookCompleted { .. })).await;
    assert_eq!((completed.incarnation, &completed.server), (Some(Incarnation::new(3)), &Some(server("a"))));
    let told = read(&file);
    let told = told.lines().filter_map(|line| line.strip_prefix("LLAMA_WARDEN_")?.split_once('='));
    // Variables that name the real programs for the tests come from the environment of the tests.
    let names: Vec<_> = told.filter(|(name, _)| !name.starts_with("TEST_")).collect();
    let expected = [
        ("HOOK", "pre-start"),
        ("HOST", "127.0.0.1"),
        ("INCARNATION", "3"),
        ("LAUNCH", "0000000000000001/a/hook"),
        ("MODEL", "/models/tiny.gguf"),
        ("PORT", "8001"),
        ("SERVER", "a"),
    ];
    assert_eq!(names, expected, "there is no process yet");
    fixture.running.end().await;
}

#[tokio::test]
async fn a_pre_stop_command_is_told_of_the_process_and_why_it_is_stopped() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let file = directory.path().join("told");
    let told = "echo $LLAMA_WARDEN_HOOK $LLAMA_WARDEN_PID $LLAMA_WARDEN_PORT $LLAMA_WARDEN_REASON";
    let mut fixture = HooksFixture::with(&script("pre-stop", &format!("{told} > {}", file.display()))).await;
    fixture.say(1, launch()).await;
    fixture.bus.commands().send(pre_stop(AMPLE)).await.expect("accepted");
    assert_eq!(fixture.completed(HookPoint::PreStop).await, HookOutcome::Succeeded);
    assert_eq!(read(&file), "pre-stop 4242 8099 requested\n");
    fixture.running.end().await;
}

#[tokio::test]
async fn a_failure_carries_the_last_lines() {
    let mut fixture = HooksFixture::with(&script("pre-start", "seq 1 300; echo no disk >&2; exit 3")).await;
    fixture.say(1, [began()]).await;
    fixture.bus.commands().send(pre_start(1)).await.expect("accepted");
    let HookOutcome::Failed { detail, lines } = fixture.completed(HookPoint::PreStart).await else {
        panic!("it failed")
    };
    assert_eq!(detail, "exit code 3; it said last: no disk");
    let last: Vec<_> = (291..=300).map(|number| number.to_string()).chain(["no disk".to_owned()]).collect();
    assert_eq!(*lines, *last);
    fixture.running.end().await;
}

#[tokio::test]
async fn a_pre_start_command_ends_with_the_stop_or_the_end_of_its_launch_and_all_that_it_started_with_it() {
    let failed = Event::ServerFailed { reason: FailureReason::Unknown, detail: String::new(), lines: vec![] };
    for end in [stop_began(), exited(ProcessEnd::Unknown), failed] {
        let directory = tempfile::tempdir().expect("makes a directory");
        let file = directory.path().join("child");
        let mut fixture = HooksFixture::with(&hanging("pre-start", &file)).await;
        fixture.say(1, [began()]).await;
        fixture.bus.commands().send(pre_start(1)).await.expect("accepted");
        fixture.is_written(&file).await;
        fixture.say(1, [end]).await;
        assert_eq!(fixture.completed(HookPoint::PreStart).await, HookOutcome::CalledOff);
        is_gone(&file).await;
        fixture.running.end().await;
    }
}

#[tokio::test]
async fn a_pre_stop_command_ends_with_the_process_and_not_with_the_stop_that_asked_for_it() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let file = directory.path().join("child");
    let mut fixture = HooksFixture::with(&hanging("pre-stop", &file)).await;
    fixture.say(1, launch()).await;
    fixture.say(1, [ready(), stop_began()]).await;
    fixture.bus.commands().send(pre_stop(AMPLE)).await.expect("accepted");
    fixture.is_written(&file).await;
    fixture.say(1, [exited(ProcessEnd::Unknown)]).await;
    assert_eq!(fixture.completed(HookPoint::PreStop).await, HookOutcome::CalledOff);
    is_gone(&file).await;
    fixture.running.end().await;
}

#[tokio::test]
async fn a_pre_stop_command_has_the_time_that_the_stop_gives_it_and_its_turn_counts() {
    let hooks = [script("post-ready", "sleep 1"), script("pre-stop", "sleep 60")].join(", ");
    let mut fixture = HooksFixture::with(&hooks).await;
    fixture.say(1, launch()).await;
    fixture.say(1, [ready()]).await;
    let asked = Instant::now();
    fixture.bus.commands().send(pre_stop(Duration::from_millis(1500))).await.expect("accepted");
    let outcome = fixture.completed(HookPoint::PreStop).await;
    assert!(
        matches!(&outcome, HookOutcome::Failed { detail, .. } if detail.starts_with("killed after 0.")),
        "{outcome:?}"
    );
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    fixture.bus.commands().send(pre_stop(Duration::ZERO)).await.expect("accepted");
    let outcome = fixture.completed(HookPoint::PreStop).await;
    assert!(matches!(&outcome, HookOutcome::Failed { detail, .. } if detail.starts_with("not run")), "{outcome:?}");
    fixture.running.end().await;
}

#[tokio::test]
async fn what_is_asked_for_a_launch_that_is_over_is_called_off_at_once() {
    let mut fixture =
        HooksFixture::with(&[script("pre-start", "exit 3"), script("pre-stop", "exit 3")].join(", ")).await;
    fixture.say(1, launch()).await;
    fixture.say(1, [stop_began()]).await;
    fixture.bus.commands().send(pre_start(1)).await.expect("accepted");
    assert_eq!(fixture.completed(HookPoint::PreStart).await, HookOutcome::CalledOff);
    fixture.say(1, [exited(ProcessEnd::Unknown)]).await;
    fixture.bus.commands().send(pre_stop(AMPLE)).await.expect("accepted");
    assert_eq!(fixture.completed(HookPoint::PreStop).await, HookOutcome::CalledOff);
    fixture.running.end().await;
}

#[tokio::test]
async fn the_next_launch_waits_for_what_runs_after_the_last_one() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let file = directory.path().join("order");
    let path = file.display();
    let hooks = [
        script("post-exit", &format!("sleep 0.5; echo exit >> {path}")),
        script("pre-start", &format!("echo start >> {path}")),
    ];
    let mut fixture = HooksFixture::with(&hooks.join(", ")).await;
    fixture.say(1, launch()).await;
    fixture.say(1, [exited(ProcessEnd::Exited { code: 0 })]).await;
    fixture.say(2, [began()]).await;
    fixture.bus.commands().send(pre_start(2)).await.expect("accepted");
    assert_eq!(fixture.completed(HookPoint::PreStart).await, HookOutcome::Succeeded);
    assert_eq!(read(&file), "exit\nstart\n");
    fixture.running.end().await;
}

#[tokio::test]
async fn a_command_that_was_taken_out_of_the_configuration_holds_up_nothing() {
    let mut fixture = HooksFixture::with(&script("post-ready", "true")).await;
    fixture.say(1, [began()]).await;
    fixture.bus.commands().send(pre_start(1)).await.expect("accepted");
    assert_eq!(fixture.completed(HookPoint::PreStart).await, HookOutcome::Succeeded);
    let stranger = HookCommand::RunPreStart { server: server("b"), incarnation: Incarnation::new(1) };
    let refused = fixture.bus.commands().send(stranger).await.expect_err("unknown");
    assert_eq!(refused.reason, RefusalReason::UnknownServer);
    fixture.running.end().await;
}

#[tokio::test]
async fn a_server_that_left_the_configuration_while_it_ran_keeps_its_commands() {
    let hooks = ["post-ready", "pre-stop", "post-exit"].map(|point| script(point, "true")).join(", ");
    let mut fixture = HooksFixture::with(&hooks).await;
    fixture.say(1, launch()).await;
    fixture.say(1, [ready()]).await;
    assert_eq!(fixture.completed(HookPoint::PostReady).await, HookOutcome::Succeeded);
    fixture.forget();
    fixture.bus.commands().send(pre_stop(AMPLE)).await.expect("accepted");
    assert_eq!(fixture.completed(HookPoint::PreStop).await, HookOutcome::Succeeded);
    fixture.say(1, [exited(ProcessEnd::Unknown)]).await;
    assert_eq!(fixture.completed(HookPoint::PostExit).await, HookOutcome::Succeeded);
    fixture.running.end().await;
}
