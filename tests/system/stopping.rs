//! The stop ladder: TERM, the grace, KILL.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use llama_warden_events::{Event, ProcessEnd, Signal};
use llama_warden_stand_in::{ScheduledAction, Script, ScriptAction, ScriptPhase, TermScript};
use llama_warden_state::PhaseName;
use llama_warden_tests::{
    Sandbox, TestDaemon, WAIT_LIMIT, action_at, after_ready, eventually, measured, sample, sandbox,
};
use nix::sys::signal::Signal as KernelSignal;
use tokio::time::Instant;

/// Two seconds in which KILL must take effect, and slack for a busy machine.
const SLACK: Duration = Duration::from_secs(2 + 5);

fn term_count(path: &Path) -> u32 {
    std::fs::read_to_string(path).expect("the stand-in counts").parse().expect("a number")
}

fn counts_terms(sandbox: &Sandbox, id: &str) -> (PathBuf, Script) {
    let path = sandbox.file(&format!("{id}.terms"));
    (path.clone(), Script { term_count_file: Some(path), ..Script::default() })
}

/// Whether the first `ServerStopped` of server `id` is marked as forced.
async fn was_forced(daemon: &TestDaemon, id: &str) -> bool {
    let events = daemon.events_of(id).await;
    let stopped = events.iter().find_map(|event| match event.event {
        Event::ServerStopped { forced, .. } => Some(forced),
        _ => None,
    });
    stopped.expect("it is stopped")
}

async fn end_of(daemon: &TestDaemon, id: &str) -> ProcessEnd {
    match daemon.exited(id).await.event {
        Event::ServerExited { end, .. } => end,
        _ => unreachable!("an exit was waited for"),
    }
}

/// Faults C19 and C22.
#[test]
fn a_server_that_takes_its_time_is_asked_once_and_waited_for() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let (path, script) = counts_terms(sandbox, "a");
        // It takes 0.9 of the grace.
        fleet.server_with("a", Script { term: TermScript::Slow(2700), ..script }, "stop = { grace = \"3s\" }");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let (first, second) = tokio::join!(daemon.command("a", "stop?wait=50s"), daemon.command("a", "stop?wait=50s"));
        first.expect(200);
        second.expect(200);
        assert_eq!(term_count(&path), 1, "a second TERM makes llama-server hang or abort");
        assert_eq!(end_of(&daemon, "a").await, ProcessEnd::Exited { code: 0 });
        assert!(!was_forced(&daemon, "a").await);
        let report = daemon.report("a").await;
        assert_eq!((report.phase, report.last_failure), (PhaseName::Exited, None));
        let metrics = daemon.metrics().await;
        let outcome =
            |outcome| sample(&metrics, "llama_warden_server_exits_total", &[("server", "a"), ("outcome", outcome)]);
        assert_eq!((outcome("stopped"), outcome("killed"), outcome("crashed")), (Some(1.0), None, None));
    });
}

/// Fault C20.
#[test]
fn a_server_that_ignores_term_is_killed_at_the_end_of_the_grace() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let grace = Duration::from_secs(2);
        let (path, script) = counts_terms(sandbox, "a");
        fleet.server_with("a", Script { term: TermScript::Ignore, ..script }, "stop = { grace = \"2s\" }");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let asked = Instant::now();
        daemon.command("a", "stop?wait=50s").await.expect(200);
        let took = asked.elapsed();
        assert!(took >= grace && took <= grace + SLACK, "{took:?}");
        measured("C20", "stop with a grace of 2 s ended after", took);
        assert_eq!(end_of(&daemon, "a").await, ProcessEnd::Signaled { signal: Signal::KILL, core_dumped: false });
        assert!(was_forced(&daemon, "a").await);
        assert_eq!(term_count(&path), 1);
        let metrics = daemon.metrics().await;
        let signals =
            |signal| sample(&metrics, "llama_warden_server_signals_total", &[("server", "a"), ("signal", signal)]);
        assert_eq!((signals("TERM"), signals("KILL")), (Some(1.0), Some(1.0)));
    });
}

/// Fault C21.
#[test]
fn the_death_of_a_loading_server_by_our_term_is_no_failure() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script { load_ms: 60_000, ..Script::default() });
        let daemon = sandbox.up(&fleet).await;
        daemon.event("it loads", |event| matches!(event.event, Event::LoadProgressed { .. })).await;
        daemon.command("a", "stop?wait=50s").await.expect(200);
        assert_eq!(end_of(&daemon, "a").await, ProcessEnd::Signaled { signal: Signal::TERM, core_dumped: false });
        assert_eq!(daemon.report("a").await.phase, PhaseName::Exited);
        assert_eq!(daemon.count("a", "ServerFailed").await, 0);
        assert!(!was_forced(&daemon, "a").await);
    });
}

/// Fault C22.
#[test]
fn ctrl_c_on_the_terminal_reaches_no_server_a_second_time() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let (path, script) = counts_terms(sandbox, "a");
        fleet.server("a", Script { term: TermScript::Slow(1000), ..script });
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        daemon.signal_group(KernelSignal::SIGINT);
        assert_eq!(end_of(&daemon, "a").await, ProcessEnd::Exited { code: 0 }, "a second signal would make it 1");
        assert_eq!(daemon.exit_code().await, 0);
        assert_eq!(term_count(&path), 1);
    });
}

/// Fault C23.
#[test]
fn a_server_that_stops_itself_can_be_stopped() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let freezes = |action| Script { actions: vec![action], ..Script::default() };
        let keys = "stop = { grace = \"2s\" }";
        let loading = freezes(action_at(ScriptPhase::Loading, ScriptAction::StopSelf {}));
        fleet.server_with("loading", Script { load_ms: 60_000, ..loading }, keys);
        fleet.server_with("ready", freezes(after_ready(ScriptAction::StopSelf {})), keys);
        // It stops itself after the CONT that follows TERM, so that only KILL ends it.
        let late = ScheduledAction { at: ScriptPhase::Stopping, after_ms: 500, action: ScriptAction::StopSelf {} };
        fleet.server_with("stopping", freezes(late), keys);
        let daemon = sandbox.up(&fleet).await;
        for id in ["ready", "stopping"] {
            daemon.ready(id).await;
        }
        for id in ["loading", "ready"] {
            eventually("it is stopped by itself", WAIT_LIMIT, async || is_frozen(&daemon, id).await).await;
        }
        for (id, forced) in [("loading", false), ("ready", false), ("stopping", true)] {
            let asked = Instant::now();
            daemon.command(id, "stop?wait=50s").await.expect(200);
            assert!(asked.elapsed() <= Duration::from_secs(2) + SLACK, "{id}: {:?}", asked.elapsed());
            assert_eq!(was_forced(&daemon, id).await, forced, "{id}");
        }
    });
}

async fn is_frozen(daemon: &TestDaemon, id: &str) -> bool {
    let Some(pid) = daemon.report(id).await.pid else { return false };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|fields| fields.trim_start().starts_with('T'))
}

/// A forced stop overtakes a running one.
#[test]
fn force_kills_at_once_also_when_a_polite_stop_is_under_way() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server_with("a", Script { term: TermScript::Ignore, ..Script::default() }, "stop = { grace = \"1h\" }");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        daemon.command("a", "stop").await.expect(202);
        daemon.event("TERM is sent", |event| matches!(event.event, Event::SignalDelivered { .. })).await;
        let report = daemon.report("a").await;
        assert_eq!(report.phase, PhaseName::Stopping);
        assert!(report.waiting_for.is_some_and(|waits| waits.contains("TERM")), "status says what is waited for");
        daemon.command("a", "stop?force=1&wait=50s").await.expect(200);
        assert_eq!(end_of(&daemon, "a").await, ProcessEnd::Signaled { signal: Signal::KILL, core_dumped: false });
    });
}

/// The parameter `grace` of a stop.
#[test]
fn a_stop_can_bring_its_own_grace() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server_with("a", Script { term: TermScript::Ignore, ..Script::default() }, "stop = { grace = \"1h\" }");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let asked = Instant::now();
        daemon.command("a", "stop?grace=500ms&wait=50s").await.expect(200);
        assert!(asked.elapsed() <= SLACK, "{:?}", asked.elapsed());
    });
}
