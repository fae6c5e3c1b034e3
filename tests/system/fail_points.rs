//! The daemon is killed at each fail point in its sources: nothing is left, and the next daemon starts as if nothing had happened.
//!
//! The points are collected from the sources, so that a new one is tested as soon as it is written. One play leads a daemon past all
//! of them; a point to which it does not come fails the test.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use llama_warden_api_types::StatusReport;
use llama_warden_events::Envelope;
use llama_warden_stand_in::{Script, ScriptAction, ScriptPhase};
use llama_warden_tests::{
    DaemonOptions, Sandbox, TestDaemon, TestFleet, TestRequest, TestResponse, WAIT_LIMIT, action_at, daemon_program,
    eventually, measured, processes_with, sandbox, stand_in_program,
};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::time::Instant;

use crate::crash_moments::{assert_next_start_is_clean, survivors, unique_life_ms, with_escaped_descendant};

/// The variable that names the point; a build without fail points does not contain it.
const VARIABLE: &str = "LLAMA_WARDEN_FAIL_POINT";

/// The sources that replace files of the state directory, each with its file.
const REPLACED: [(&str, &str); 6] = [
    ("components/canary/src/overrides.rs", "builds.json"),
    ("lib/processes/src/leftovers.rs", "boots"),
    ("lib/state-files/src/kept_file.rs", "down.json"),
    ("lib/state-files/src/kept_file.rs", "failures.json"),
    ("lib/state-files/src/kept_file.rs", COUNTS),
    ("lib/state-files/src/ports.rs", "ports.json"),
];

/// The file of what was counted, which is written in a hand-over only.
const COUNTS: &str = "totals.json";

/// Daemons that are led at once. They mostly wait.
const AT_ONCE: usize = 4;

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates")
}

/// Path below `crates` and text of each source of the daemon.
fn sources() -> Vec<(String, String)> {
    fn visit(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("the sources are there").flatten() {
            let path = entry.path();
            if path.is_dir() {
                visit(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = crates();
    let mut found = Vec::new();
    ["core", "components", "lib", "plugins", "bin"].iter().for_each(|kind| visit(&root.join(kind), &mut found));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source is text");
        (path.strip_prefix(&root).expect("below it").display().to_string(), text)
    };
    let is_daemon = |path: &String| {
        let commands =
            ["bin/cli/", "bin/builds/", "bin/plugin-commands/", "bin/terminal/", "lib/support/src/fail_point.rs"];
        path.contains("/src/") && !commands.iter().any(|other| path.starts_with(other))
    };
    found.into_iter().map(read).filter(|(path, _)| is_daemon(path)).collect()
}

/// The names in the calls of `function`.
fn names(function: &str, sources: &[(String, String)]) -> Vec<String> {
    let call = format!("{function}(");
    let mut names = Vec::new();
    for (path, text) in sources {
        for (_, rest) in text.match_indices(&call).map(|(start, _)| text.split_at(start + call.len())) {
            let name = rest.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"'));
            names.push(name.unwrap_or_else(|| panic!("{path}: the name of a fail point is a literal")).0.to_owned());
        }
    }
    names
}

/// Fail points of a hand-over and of what the next daemon does with it, to which another play leads.
fn is_of_hand_over(point: &str) -> bool {
    point.starts_with("hand-over-") || point.starts_with("adopt-") || point.ends_with(COUNTS)
}

/// Every fail point, each as the variable names it.
fn points() -> Vec<String> {
    let sources = sources();
    let (mut points, steps) = (names("fail_point", &sources), names("fail_point_of", &sources));
    let mut unique = BTreeSet::new();
    let twice: Vec<_> = points.iter().chain(&steps).filter(|name| !unique.insert((*name).clone())).collect();
    assert!(twice.is_empty() && points.len() > 20 && steps.len() > 3, "{twice:?}, {points:?}, {steps:?}");

    let is_caller =
        |(path, text): &&(String, String)| text.contains("replace_file(") && path != "lib/support/src/replace_file.rs";
    let callers: Vec<&str> = sources.iter().filter(is_caller).map(|(path, _)| path.as_str()).collect();
    let callers: BTreeSet<&str> = callers.into_iter().collect();
    assert_eq!(
        callers,
        REPLACED.iter().map(|(source, _)| *source).collect(),
        "the table has every file that is replaced"
    );
    for (_, file) in REPLACED {
        points.extend(steps.iter().map(|step| format!("{step}@{file}")));
    }
    // The file of the runs is replaced before and after what earlier ones left is killed.
    points.extend(steps.iter().map(|step| format!("{step}@boots:2")));
    points
}

/// A fleet with a server that is up, and one that always fails and names no port.
fn fleet(sandbox: &Sandbox, life_ms: u64, keys: &str) -> TestFleet {
    let mut fleet = sandbox.fleet();
    fleet.section(
        "[restart]\ninitial-delay = \"10ms\"\nmax-delay = \"20ms\"\nmax-attempts = 1\nstable-after = \"200ms\"",
    );
    // Its descendant ignores TERM.
    let keys = format!("hooks = {{ pre-start = [\"true\"] }}\nstop = {{ grace = \"200ms\" }}\n{keys}");
    fleet.server_with("a", with_escaped_descendant(life_ms, Vec::new()), &keys);
    let exits = action_at(ScriptPhase::Start, ScriptAction::Exit { code: 1, last_words: None });
    fleet.server_with("b", Script { actions: vec![exits], ..Script::default() }, "# port\nenabled = false");
    fleet
}

/// Asks a daemon that may be killed meanwhile: waits for ever then, until its end ends the play.
async fn ask(daemon: &TestDaemon, request: TestRequest) -> TestResponse {
    match request.send(daemon.control()).await {
        Ok(response) => response,
        Err(_) => std::future::pending().await,
    }
}

async fn post(daemon: &TestDaemon, path: &str) -> TestResponse {
    ask(daemon, TestRequest::post(path)).await
}

async fn is_ready(daemon: &TestDaemon) {
    eventually("a is ready", WAIT_LIMIT, async || {
        let status = ask(daemon, TestRequest::get("/api/v1/status")).await;
        let status: StatusReport = serde_json::from_slice(&status.body).expect("a report");
        status.servers.iter().any(|server| server.model_id.as_str() == "a" && server.is_ready)
    })
    .await;
}

/// Leads a daemon past every point: a start, a restart, a failure, another build, another configuration, the end.
async fn play(sandbox: &Sandbox, fleet: &TestFleet, daemon: &TestDaemon, life_ms: u64) {
    eventually("it answers", WAIT_LIMIT, async || daemon.control().answers("/livez").await).await;
    is_ready(daemon).await;
    assert!(processes_in(sandbox.path()).len() > 3, "the daemon, its guardian, a shim, a server");
    post(daemon, "/api/v1/servers/a/restart?wait=30s").await.expect(200);
    post(daemon, "/api/v1/servers/b/start?wait=30s").await.expect(502);
    let failures = fleet.state_dir().join("failures.json");
    eventually("the failure is written down", WAIT_LIMIT, async || failures.exists()).await;
    let build = stand_in_link(sandbox);
    let canary = format!("/api/v1/servers/a/canary?switch=true&binary={}", build.display());
    let report = post(daemon, &canary).await.expect(200).json();
    assert_eq!(report["outcome"]["result"], "switched", "{report:#}");
    self::fleet(sandbox, life_ms, "flags = { ctx-size = 512 }").section(SMALL_LOG).write();
    post(daemon, "/api/v1/reload?wait=30s").await.expect(200);
    is_ready(daemon).await;
    post(daemon, "/api/v1/shutdown").await.expect(202);
    std::future::pending::<()>().await;
}

/// Makes the event log rotate.
const SMALL_LOG: &str = "[logs]\nevent-log = \"2KiB\"";

/// Another path of the stand-in.
fn stand_in_link(sandbox: &Sandbox) -> PathBuf {
    let link = sandbox.file("another-build");
    std::os::unix::fs::symlink(stand_in_program(), &link).expect("the sandbox can be written");
    link
}

/// The processes that run in a folder: those of the daemon that was started there, its guardian and shims among them.
fn processes_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let entries = entries.filter(|entry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == folder));
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// What the killed daemon has left in its state directory can be read.
fn assert_state_is_readable(folder: &Path, point: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, text) = (entry.path(), fs::read_to_string(entry.path()).unwrap_or_default());
        if path.extension().is_some_and(|extension| extension == "json") {
            assert!(serde_json::from_str::<Value>(&text).is_ok(), "{point}: {}: {text}", path.display());
        }
        if entry.file_name().to_string_lossy().starts_with("events.jsonl") {
            // What follows the last line feed is cut off by the next daemon.
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let is_event = |line: &str| serde_json::from_str::<Envelope>(line).is_ok();
            assert!(whole.lines().all(is_event), "{point}: {}: {text}", path.display());
        }
    }
}

async fn kill_at(sandbox: &Sandbox, point: &str) {
    let life_ms = unique_life_ms();
    let mut fleet = fleet(sandbox, life_ms, "");
    fleet.section(SMALL_LOG);
    let environment = vec![(VARIABLE.to_owned(), point.to_owned())];
    let daemon = sandbox.launch(&fleet, &DaemonOptions { environment, ..DaemonOptions::default() });
    let status = tokio::select! {
        status = daemon.exit() => status,
        () = play(sandbox, &fleet, &daemon, life_ms) => unreachable!("the play waits for the end"),
    };
    assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "the play does not lead to {point}\n{}", daemon.log());
    let ended = Instant::now();
    let is_gone = async || survivors(&fleet, life_ms) == (0, 0) && processes_in(sandbox.path()).is_empty();
    eventually(&format!("{point}: nothing is left"), WAIT_LIMIT, is_gone).await;
    measured("S3", "until nothing is left", ended.elapsed());
    assert_state_is_readable(&fleet.state_dir(), point);
    let next = self::fleet(sandbox, life_ms, "");
    assert_next_start_is_clean(sandbox, &next, life_ms, point).await;
}

/// Faults S3 and S18.
#[test]
fn wherever_the_daemon_is_killed_nothing_is_left_and_the_next_start_is_clean() {
    let program = daemon_program();
    let has_points =
        fs::read(&program).expect("it can be read").windows(VARIABLE.len()).any(|at| at == VARIABLE.as_bytes());
    assert!(has_points, "{} has no fail points: it was built without debug assertions", program.display());
    let mut points = points();
    points.retain(|point| !is_of_hand_over(point));
    side_by_side(&points, |point| {
        println!("{point}");
        sandbox(async |sandbox| kill_at(sandbox, point).await);
    });
}

fn side_by_side<T: Sync>(items: &[T], test: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    test(item);
                }
            });
        }
    });
}

/// Has a daemon replaced by `up --take-over`, and kills the old one or the new one at `point`.
async fn hand_over_at(sandbox: &Sandbox, point: &str, policy: &str) {
    let mut fleet = sandbox.fleet();
    fleet.daemon(&format!("on-daemon-death = \"{policy}\""));
    let ids = ["a", "b"];
    for id in ids {
        fleet.server(id, Script::default());
    }
    let environment = vec![(VARIABLE.to_owned(), point.to_owned())];
    let take_over = || vec!["--take-over".to_owned()];
    let (old, new) = match point.starts_with("adopt-") {
        false => (environment, Vec::new()),
        true => (Vec::new(), environment),
    };
    let is_new_killed = !new.is_empty();
    let old = sandbox.up_with(&fleet, &DaemonOptions { environment: old, ..DaemonOptions::default() }).await;
    let mut pids = Vec::new();
    for id in ids {
        old.ready(id).await;
        pids.push(old.report(id).await.pid.expect("it runs"));
    }
    let options = DaemonOptions { environment: new, arguments: take_over(), ..DaemonOptions::default() };
    let mut next = sandbox.launch(&fleet, &options);
    if is_new_killed {
        assert_eq!(old.exit_code().await, 0, "{}", old.log());
        assert_eq!(next.exit().await.signal(), Some(Signal::SIGKILL as i32), "{point}\n{}", next.log());
        next = sandbox.launch(&fleet, &DaemonOptions { arguments: take_over(), ..DaemonOptions::default() });
    } else {
        assert_eq!(old.exit().await.signal(), Some(Signal::SIGKILL as i32), "{point}\n{}", old.log());
    }
    next.answering().await;
    for (id, before) in ids.iter().zip(pids) {
        next.ready(id).await;
        let pid = next.report(id).await.pid.expect("it runs");
        assert!(policy != "adopt" || pid == before, "{point}: {id} goes on");
        let model = format!("--model\0{}", fleet.model(id).display());
        eventually("it runs once", WAIT_LIMIT, async || processes_with(&model).len() == 1).await;
        assert_eq!(processes_with(&model)[0].pid, pid, "{point}, {policy}");
    }
    next.signal(Signal::SIGTERM);
    assert_eq!(next.exit_code().await, 0, "{}", next.log());
    eventually("nothing is left", WAIT_LIMIT, async || processes_in(sandbox.path()).is_empty()).await;
}

/// Faults S2 and S3: whichever daemon dies, no server is lost, and none runs twice.
#[test]
fn wherever_a_daemon_is_killed_in_a_hand_over_the_next_one_goes_on() {
    let mut points = points();
    points.retain(|point| is_of_hand_over(point));
    assert!(points.len() > 8, "{points:?}");
    let cases: Vec<_> = points.iter().flat_map(|point| [(point, "adopt"), (point, "kill")]).collect();
    side_by_side(&cases, |(point, policy)| {
        println!("{point}, {policy}");
        sandbox(async |sandbox| hand_over_at(sandbox, point, policy).await);
    });
}
