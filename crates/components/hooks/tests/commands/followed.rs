//! The commands that follow events.

use std::time::{Duration, Instant};

use llama_warden_bus::EventDraft;
use llama_warden_component_kit::{TestBus, server};
use llama_warden_events::{Event, FailureReason, HookOutcome, HookPoint, Incarnation, ProcessEnd, Signal, StopReason};

use crate::fixture::{HooksFixture, detail, exited, is_gone, launch, read, ready, script};

#[tokio::test]
async fn a_command_runs_once_the_server_is_ready_and_is_told_what_it_needs() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let file = directory.path().join("told");
    let hook = script("post-ready", &format!("env | grep ^LLAMA_WARDEN_ | sort > {}", file.display()));
    let mut fixture = HooksFixture::with(&hook).await;
    fixture.say(1, launch()).await;
    fixture.say(1, [ready()]).await;
    assert_eq!(fixture.completed(HookPoint::PostReady).await, HookOutcome::Succeeded);
    let told = read(&file);
    for line in ["HOOK=post-ready", "SERVER=a", "INCARNATION=1", "PID=4242", "PORT=8099", "READY_VIA=stderr"] {
        assert!(told.lines().any(|told| told == format!("LLAMA_WARDEN_{line}")), "{line} in\n{told}");
    }
    assert!(told.contains("LLAMA_WARDEN_HOST=127.0.0.1") && told.contains("LLAMA_WARDEN_MODEL=/models/tiny.gguf"));
    fixture.running.end().await;
}

#[tokio::test]
async fn the_reason_of_an_end_is_its_failure_else_its_stop_else_its_exit() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let file = directory.path().join("told");
    let told = "echo $LLAMA_WARDEN_REASON $LLAMA_WARDEN_EXIT_CODE $LLAMA_WARDEN_SIGNAL";
    let mut fixture = HooksFixture::with(&script("post-exit", &format!("{told} > {}", file.display()))).await;
    let stop = |reason| Event::StopBegan { reason, grace_seconds: 1.0 };
    let failed = Event::ServerFailed { reason: FailureReason::Unresponsive, detail: String::new(), lines: Vec::new() };
    let killed = exited(ProcessEnd::Signaled { signal: Signal::KILL, core_dumped: false });
    let cases = [
        (vec![exited(ProcessEnd::Exited { code: 3 })], "exited 3\n"),
        (vec![stop(StopReason::Requested), exited(ProcessEnd::Exited { code: 0 })], "requested 0\n"),
        (vec![failed, stop(StopReason::Failed), killed], "unresponsive KILL\n"),
    ];
    for (number, (events, expected)) in (1..).zip(cases) {
        fixture.say(number, launch()).await;
        fixture.say(number, events).await;
        assert_eq!(fixture.completed(HookPoint::PostExit).await, HookOutcome::Succeeded);
        assert_eq!(read(&file), expected);
    }
    fixture.running.end().await;
}

#[tokio::test]
async fn a_command_that_fails_says_how_and_stops_nothing() {
    let cases = [
        (script("post-ready", "echo first; echo no such pool >&2; exit 3"), "exit code 3; it said last: no such pool"),
        (script("post-ready", "kill -9 $$"), "ended by signal 9"),
        ("post-ready = [\"/nonexistent/hook\"]".to_owned(), "`/nonexistent/hook` cannot be run: "),
    ];
    for (hook, expected) in cases {
        let mut fixture = HooksFixture::with(&hook).await;
        fixture.say(1, launch()).await;
        fixture.say(1, [ready()]).await;
        let detail = detail(fixture.completed(HookPoint::PostReady).await);
        assert!(detail.starts_with(expected), "{detail}");
        let snapshot = fixture.bus.see(|snapshot| !snapshot.servers["a"].warnings.is_empty()).await;
        assert!(snapshot.servers["a"].is_ready());
        fixture.running.end().await;
    }
}

#[tokio::test]
async fn a_command_that_does_not_end_is_killed_with_what_it_started() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let file = directory.path().join("child");
    let hook = script("post-ready", &format!("sleep 60 & echo $! > {}; wait", file.display()));
    let mut fixture = HooksFixture::with(&format!("{hook}, timeout = \"500ms\"")).await;
    fixture.say(1, launch()).await;
    fixture.say(1, [ready()]).await;
    assert_eq!(detail(fixture.completed(HookPoint::PostReady).await), "killed after 0.5 s");
    is_gone(&file).await;
    fixture.running.end().await;
}

#[tokio::test]
async fn a_command_that_leaves_something_running_is_not_waited_for_longer() {
    let mut fixture = HooksFixture::with(&script("post-ready", "sleep 20 & exit 0")).await;
    fixture.say(1, launch()).await;
    let began = Instant::now();
    fixture.say(1, [ready()]).await;
    assert_eq!(fixture.completed(HookPoint::PostReady).await, HookOutcome::Succeeded);
    assert!(began.elapsed() < Duration::from_secs(10), "took {:?}", began.elapsed());
    fixture.running.end().await;
}

#[tokio::test]
async fn much_output_blocks_nobody() {
    let hook = script("post-ready", "head -c 3000000 /dev/zero | tr '\\\\0' x; yes line | head -n 100000");
    let mut fixture = HooksFixture::with(&hook).await;
    fixture.say(1, launch()).await;
    fixture.say(1, [ready()]).await;
    assert_eq!(fixture.completed(HookPoint::PostReady).await, HookOutcome::Succeeded);
    fixture.running.end().await;
}

#[tokio::test]
async fn commands_of_one_server_run_one_after_the_other() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let file = directory.path().join("order");
    let path = file.display();
    let hooks = [
        script("post-ready", &format!("sleep 0.5; echo ready >> {path}")),
        script("post-exit", &format!("echo exit >> {path}")),
    ];
    let mut fixture = HooksFixture::with(&hooks.join(", ")).await;
    fixture.say(1, launch()).await;
    fixture.say(1, [ready(), exited(ProcessEnd::Exited { code: 0 })]).await;
    assert_eq!(fixture.completed(HookPoint::PostExit).await, HookOutcome::Succeeded);
    assert_eq!(read(&file), "ready\nexit\n");
    fixture.running.end().await;
}

#[tokio::test]
async fn what_the_last_events_call_for_still_runs_when_the_daemon_ends() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let file = directory.path().join("told");
    let fixture = HooksFixture::with(&script("post-exit", &format!("echo bye > {}", file.display()))).await;
    fixture.say(1, launch()).await;
    fixture.say(1, [exited(ProcessEnd::Exited { code: 0 })]).await;
    fixture.running.end().await;
    assert_eq!(read(&file), "bye\n");
}

#[tokio::test]
async fn a_gap_loses_no_command() {
    let hooks = [script("post-ready", "true"), script("post-exit", "true")].join(", ");
    let fixture = HooksFixture::on(TestBus::keeping(2), &hooks).await;
    let publisher = fixture.bus.publisher().clone();
    let noise = || EventDraft::daemon(Event::DaemonStopping { trigger: "noise".into() });
    for event in launch().into_iter().chain([ready()]) {
        publisher.publish(EventDraft::incarnation(server("a"), Incarnation::new(1), event)).await.expect("open");
    }
    for _ in 0..8 {
        publisher.publish(noise()).await.expect("open");
    }
    let is_done = |kind: &'static str, times: u64| {
        move |snapshot: &llama_warden_state::Snapshot| snapshot.events.get(kind).is_some_and(|count| *count == times)
    };
    fixture.bus.see(is_done("HookCompleted", 1)).await;
    publisher
        .publish(EventDraft::incarnation(server("a"), Incarnation::new(1), exited(ProcessEnd::Exited { code: 0 })))
        .await
        .expect("open");
    for _ in 0..8 {
        publisher.publish(noise()).await.expect("open");
    }
    fixture.bus.see(is_done("HookCompleted", 2)).await;
    fixture.running.end().await;
}
