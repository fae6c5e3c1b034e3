//! Hooks that a start or a stop waits for: `pre-start` and `pre-stop`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use llama_warden_events::{Envelope, Event, FailureReason, HookOutcome, HookPoint};
use llama_warden_stand_in::Script;
use llama_warden_state::PhaseName;
use llama_warden_tests::{DaemonOptions, ProcessInfo, TestDaemon, WAIT_LIMIT, eventually, sandbox};
use nix::sys::signal::Signal as KernelSignal;
use tokio::time::Instant;

/// Slack for a busy machine.
const SLACK: Duration = Duration::from_secs(7);

/// The key `hooks` of a server's table.
fn hooks(keys: &[String]) -> String {
    format!("hooks = {{ {} }}\n", keys.join(", "))
}

fn script(point: &str, script: &str) -> String {
    format!("{point} = [\"/bin/sh\", \"-c\", '''{script}''']")
}

/// A hook that never ends, and starts a child that writes its pid to `file`.
fn hanging(point: &str, file: &Path) -> String {
    let path = file.display();
    script(point, &format!("sleep 300 & echo $! > {path}.new; mv {path}.new {path}; wait"))
}

async fn is_written(file: &Path) {
    eventually("the command runs", WAIT_LIMIT, async || file.exists()).await;
}

/// Waits until the process whose id is in `file` is gone.
async fn is_gone(file: &Path) {
    let pid = fs::read_to_string(file).unwrap().trim().parse().unwrap();
    let gone = async || ProcessInfo::of(pid).is_none_or(|process| process.is_zombie);
    eventually("what the command started is gone", WAIT_LIMIT, gone).await;
}

/// The positions of the first events of these kinds among the events of a server.
async fn places<const N: usize>(daemon: &TestDaemon, id: &str, kinds: [&str; N]) -> [Option<usize>; N] {
    let events = daemon.events_of(id).await;
    kinds.map(|kind| events.iter().position(|event| event.event.kind() == kind))
}

fn outcome(events: &[Envelope], point: HookPoint) -> Option<&HookOutcome> {
    events.iter().find_map(|event| match &event.event {
        Event::HookCompleted { hook, outcome, .. } if *hook == point => Some(outcome),
        _ => None,
    })
}

#[test]
fn a_pre_start_command_can_make_the_model_that_the_launch_then_finds() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let (model, kept) = (fleet.model("a"), sandbox.file("kept"));
        let fetch = script("pre-start", &format!("cp {} {}", kept.display(), model.display()));
        fleet.server_with("a", Script::default(), &hooks(&[fetch]));
        fs::rename(&model, &kept).unwrap();
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let order = places(&daemon, "a", ["LaunchBegan", "HookCompleted", "BinaryIdentified", "ServerSpawned"]).await;
        assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{order:?}");
    });
}

#[test]
fn a_command_with_a_slash_is_relative_to_the_configuration_file() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let mark = sandbox.file("mark");
        symlink("/bin/sh", fleet.path().with_file_name("shell")).unwrap();
        let hook = format!("pre-start = [\"./shell\", \"-c\", \"touch {}\"]", mark.display());
        fleet.server_with("a", Script::default(), &hooks(&[hook]));
        let elsewhere =
            DaemonOptions { under: ["env", "--chdir=/"].map(str::to_owned).to_vec(), ..DaemonOptions::default() };
        let daemon = sandbox.up_with(&fleet, &elsewhere).await;
        daemon.ready("a").await;
        assert!(mark.exists());
        assert!(matches!(outcome(&daemon.events_of("a").await, HookPoint::PreStart), Some(HookOutcome::Succeeded)));
    });
}

#[test]
fn a_pre_start_command_that_fails_fails_that_server_alone_which_is_then_started_as_after_any_failure() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let mark = sandbox.file("mark").display().to_string();
        let fails_once = format!("test -e {mark} && exit 0; touch {mark}; echo looking; echo no such disk >&2; exit 3");
        let keys = "restart = { policy = \"on-failure\", initial-delay = \"100ms\" }";
        let hooks = hooks(&[script("pre-start", &fails_once)]);
        fleet.server_with("a", Script::default(), &format!("{hooks}{keys}"));
        fleet.server("b", Script::default());
        let daemon = sandbox.up(&fleet).await;
        let (reason, detail, lines) = daemon.failure("a").await;
        assert_eq!(reason, FailureReason::SpawnFailed);
        assert_eq!(detail, "the pre-start command failed: exit code 3; it said last: no such disk");
        assert_eq!(lines, ["looking", "no such disk"]);
        daemon.ready("b").await;
        assert_eq!(daemon.ready("a").await.incarnation.map(|incarnation| incarnation.get()), Some(2));
        assert_eq!((daemon.count("a", "RestartScheduled").await, daemon.count("b", "ServerFailed").await), (1, 0));
        assert!(daemon.log().contains("no such disk"), "its output is in the log");
    });
}

#[test]
fn a_pre_start_command_that_does_not_end_is_killed_at_its_limit_with_all_that_it_started() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let file = sandbox.file("child");
        let keys = [hanging("pre-start", &file), "timeout = \"1s\"".to_owned()];
        fleet.server_with("a", Script::default(), &format!("{}restart = {{ policy = \"never\" }}", hooks(&keys)));
        let daemon = sandbox.up(&fleet).await;
        let (reason, detail, _) = daemon.failure("a").await;
        assert_eq!(reason, FailureReason::SpawnFailed);
        assert!(detail.ends_with("killed after 1 s"), "{detail}");
        is_gone(&file).await;
        assert_eq!(daemon.count("a", "ServerSpawned").await, 0);
    });
}

#[test]
fn a_stop_ends_a_running_pre_start_command_and_the_launch_at_once() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let file = sandbox.file("child");
        fleet.server_with("a", Script::default(), &hooks(&[hanging("pre-start", &file)]));
        let daemon = sandbox.up(&fleet).await;
        is_written(&file).await;
        let asked = Instant::now();
        daemon.command("a", "stop?wait=50s").await.expect(200);
        assert!(asked.elapsed() <= SLACK, "{:?}", asked.elapsed());
        is_gone(&file).await;
        daemon.event("the command has ended", |event| matches!(event.event, Event::HookCompleted { .. })).await;
        let events = daemon.events_of("a").await;
        assert_eq!(outcome(&events, HookPoint::PreStart), Some(&HookOutcome::CalledOff));
        assert_eq!(daemon.report("a").await.phase, PhaseName::Exited);
        assert_eq!(daemon.count("a", "ServerFailed").await, 0);
    });
}

#[test]
fn a_pre_stop_command_ends_before_the_first_signal_of_a_running_server() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let file = sandbox.file("told");
        let told = format!("kill -0 $LLAMA_WARDEN_PID && echo $LLAMA_WARDEN_REASON > {}", file.display());
        fleet.server_with("a", Script::default(), &hooks(&[script("pre-stop", &told)]));
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        daemon.command("a", "stop?wait=50s").await.expect(200);
        assert_eq!(fs::read_to_string(&file).unwrap(), "requested\n");
        let kinds = ["StopBegan", "HookCompleted", "SignalDelivered", "ServerExited", "ServerStopped"];
        let order = places(&daemon, "a", kinds).await;
        assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{order:?}");
    });
}

#[test]
fn a_pre_stop_command_that_fails_is_a_warning_and_the_stop_goes_on() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server_with("a", Script::default(), &hooks(&[script("pre-stop", "echo still busy; exit 1")]));
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        daemon.command("a", "stop?wait=50s").await.expect(200);
        let events = daemon.events_of("a").await;
        let Some(HookOutcome::Failed { lines, .. }) = outcome(&events, HookPoint::PreStop) else {
            panic!("{events:?}")
        };
        assert_eq!(**lines, ["still busy"]);
        assert_eq!(daemon.report("a").await.phase, PhaseName::Exited);
    });
}

#[test]
fn a_pre_stop_command_that_does_not_end_costs_neither_the_signal_nor_more_than_the_grace() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let file = sandbox.file("child");
        let hooks = hooks(&[hanging("pre-stop", &file)]);
        fleet.server_with("a", Script::default(), &format!("{hooks}stop = {{ grace = \"4s\" }}"));
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        daemon.command("a", "stop?wait=50s").await.expect(200);
        let accepted = daemon.event("the stop", |event| event.event.kind() == "CommandAccepted").await;
        let events = daemon.events_of("a").await;
        let signal = events.iter().find(|event| event.event.kind() == "SignalDelivered").expect("a signal");
        // Since the stop was asked for, which is before it is decided; `StopBegan` is published a moment after that.
        let waited = signal.elapsed.as_duration() - accepted.elapsed.as_duration();
        assert!(waited >= Duration::from_secs(2) && waited < Duration::from_secs(4), "{waited:?}");
        let forced = events.iter().any(|event| matches!(event.event, Event::ServerStopped { forced: true, .. }));
        assert!(!forced, "TERM came in time");
        is_gone(&file).await;
    });
}

#[test]
fn force_runs_no_pre_stop_command_and_ends_a_running_one() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let (skipped, ended) = (sandbox.file("skipped"), sandbox.file("ended"));
        let keys = |file: &Path| {
            format!("{}stop = {{ grace = \"1h\" }}", hooks(&[hanging("pre-stop", file), "timeout = \"1h\"".to_owned()]))
        };
        fleet.server_with("skipped", Script::default(), &keys(&skipped));
        fleet.server_with("ended", Script::default(), &keys(&ended));
        let daemon = sandbox.up(&fleet).await;
        for id in ["skipped", "ended"] {
            daemon.ready(id).await;
        }
        daemon.command("skipped", "stop?force=1&wait=50s").await.expect(200);
        assert_eq!((skipped.exists(), daemon.count("skipped", "HookCompleted").await), (false, 0));
        daemon.command("ended", "stop").await.expect(202);
        is_written(&ended).await;
        let asked = Instant::now();
        daemon.command("ended", "stop?force=1&wait=50s").await.expect(200);
        assert!(asked.elapsed() <= SLACK, "{:?}", asked.elapsed());
        is_gone(&ended).await;
    });
}

#[test]
fn a_server_that_ends_while_its_pre_stop_command_runs_is_stopped() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let keys = [script("pre-stop", "kill -KILL $LLAMA_WARDEN_PID; sleep 300"), "timeout = \"1h\"".to_owned()];
        fleet.server_with("a", Script::default(), &format!("{}stop = {{ grace = \"1h\" }}", hooks(&keys)));
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        daemon.command("a", "stop?wait=50s").await.expect(200);
        let [signal, stopped] = places(&daemon, "a", ["SignalDelivered", "ServerStopped"]).await;
        assert_eq!((signal, stopped.is_some()), (None, true));
        assert_eq!(daemon.report("a").await.phase, PhaseName::Exited);
    });
}

#[test]
fn a_server_that_crashed_or_was_never_ready_has_no_pre_stop_command() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let (crashed, loading) = (sandbox.file("crashed"), sandbox.file("loading"));
        let keys = |file: &Path| {
            let hooks = hooks(&[script("pre-stop", &format!("touch {}", file.display()))]);
            format!("{hooks}restart = {{ policy = \"never\" }}")
        };
        fleet.server_with("crashed", Script::default(), &keys(&crashed));
        fleet.server_with("loading", Script { load_ms: 60_000, ..Script::default() }, &keys(&loading));
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("crashed").await;
        let pid = daemon.report("crashed").await.pid.unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), KernelSignal::SIGKILL).unwrap();
        daemon.exited("crashed").await;
        daemon.event("it loads", |event| matches!(event.event, Event::LoadProgressed { .. })).await;
        daemon.command("loading", "stop?wait=50s").await.expect(200);
        for (id, file) in [("crashed", &crashed), ("loading", &loading)] {
            assert_eq!((daemon.count(id, "HookCompleted").await, file.exists()), (0, false), "{id}");
        }
    });
}

#[test]
fn a_shutdown_keeps_its_deadline_whatever_the_pre_stop_commands_do() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.daemon("shutdown-deadline = \"5s\"");
        let files: Vec<_> = ["a", "b", "c"].map(|id| (id, sandbox.file(id))).into();
        for (id, file) in &files {
            let hooks = hooks(&[hanging("pre-stop", file), "timeout = \"1h\"".to_owned()]);
            fleet.server_with(id, Script::default(), &format!("{hooks}stop = {{ grace = \"1h\" }}"));
        }
        let daemon = sandbox.up(&fleet).await;
        for (id, _) in &files {
            daemon.ready(id).await;
        }
        let asked = Instant::now();
        daemon.signal(KernelSignal::SIGTERM);
        assert_eq!(daemon.exit_code().await, 0);
        assert!(asked.elapsed() <= Duration::from_secs(5) + SLACK, "{:?}", asked.elapsed());
        for (_, file) in &files {
            is_gone(file).await;
        }
    });
}
