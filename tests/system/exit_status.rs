//! Every way in which a process can end is recorded exactly.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use futures_util::future::join_all;
use llama_warden_events::{Event, ExitOutcome, FailureReason, ProcessEnd, Signal};
use llama_warden_stand_in::{Script, ScriptAction, ScriptPhase};
use llama_warden_state::PhaseName;
use llama_warden_tests::{TestDaemon, TestFleet, action_at, after_ready, measured, sample, sandbox};
use nix::sys::signal::{Signal as KernelSignal, kill};
use nix::unistd::Pid;

/// The number of servers that end at the same time.
const PARALLEL: usize = 16;

fn ends_by(action: ScriptAction) -> Script {
    Script { silent: true, actions: vec![action_at(ScriptPhase::Start, action)], ..Script::default() }
}

fn name(slot: usize) -> String {
    format!("s{slot}")
}

/// Launches one server per script, and returns the end of each.
async fn ends_of(daemon: &TestDaemon, fleet: &TestFleet, scripts: Vec<Script>) -> Vec<ProcessEnd> {
    let end = async |(slot, script): (usize, Script)| {
        let id = name(slot);
        fleet.rewrite(&id, &script);
        daemon.command(&id, "start?wait=30s").await.expect(502);
        let launch = daemon.report(&id).await.incarnation;
        let what = format!("launch {launch} of {id} exits");
        let exited = daemon.event(&what, |event| {
            event.server.as_ref().is_some_and(|server| server.as_str() == id)
                && event.incarnation == Some(launch)
                && matches!(event.event, Event::ServerExited { .. })
        });
        match exited.await.event {
            Event::ServerExited { end, .. } => end,
            _ => unreachable!("the predicate takes nothing else"),
        }
    };
    join_all(scripts.into_iter().enumerate().map(end)).await
}

/// Faults C4 and C5: none of the 256 exits right after the spawn is lost.
#[test]
fn every_exit_code_is_recorded_as_it_was() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        (0..PARALLEL).for_each(|slot| {
            fleet.server_with(&name(slot), Script::default(), "enabled = false");
        });
        let daemon = sandbox.up(&fleet).await;
        let codes: Vec<u8> = (0..=255).collect();
        for codes in codes.chunks(PARALLEL) {
            let scripts = codes
                .iter()
                .map(|code| ends_by(ScriptAction::Exit { code: i32::from(*code), last_words: None }))
                .collect();
            let expected: Vec<_> = codes.iter().map(|code| ProcessEnd::Exited { code: *code }).collect();
            assert_eq!(ends_of(&daemon, &fleet, scripts).await, expected);
        }
        let metrics = daemon.metrics().await;
        let outcomes = metrics.lines().filter(|line| line.starts_with("llama_warden_server_exits_total{"));
        assert!(outcomes.count() <= PARALLEL * ExitOutcome::ALL.len(), "labels are a closed set");
    });
}

/// Fault C4.
#[test]
fn every_deadly_signal_is_recorded_as_it_was() {
    const DEADLY: [&str; 16] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "XCPU",
    ];
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        (0..DEADLY.len()).for_each(|slot| {
            fleet.server_with(&name(slot), Script::default(), "enabled = false");
        });
        let daemon = sandbox.up(&fleet).await;
        let dies =
            |signal: &str| ends_by(ScriptAction::Die { signal: format!("SIG{signal}"), core: false, last_words: None });
        let ends = ends_of(&daemon, &fleet, DEADLY.map(dies).to_vec()).await;
        let expected = DEADLY.map(|signal| {
            let signal: Signal = signal.parse().expect("a signal");
            ProcessEnd::Signaled { signal, core_dumped: false }
        });
        assert_eq!(ends, expected);
    });
}

/// Fault C12.
#[test]
fn a_crash_after_ready_is_a_failure_after_a_ready() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let crash = ScriptAction::Die { signal: "SIGSEGV".into(), core: false, last_words: None };
        fleet.server("a", Script { actions: vec![after_ready(crash)], ..Script::default() });
        let daemon = sandbox.up(&fleet).await;
        let (reason, ..) = daemon.failure("a").await;
        assert_eq!(reason, FailureReason::Crashed);
        daemon.exited("a").await;
        let kinds: Vec<_> = daemon.events_of("a").await.iter().map(|event| event.event.kind()).collect();
        let at = |kind| kinds.iter().position(|known| *known == kind).expect(kind);
        assert!(at("ReadyReached") < at("ServerExited") && at("ReadyReached") < at("ServerFailed"), "{kinds:?}");
        let report = daemon.report("a").await;
        assert_eq!((report.phase, report.is_ready, report.pid), (PhaseName::Failed, false, None));
        let metrics = daemon.metrics().await;
        let failures =
            sample(&metrics, "llama_warden_server_failures_total", &[("server", "a"), ("reason", "crashed")]);
        let exits = sample(&metrics, "llama_warden_server_exits_total", &[("server", "a"), ("outcome", "crashed")]);
        assert_eq!((failures, exits), (Some(1.0), Some(1.0)));
    });
}

/// Fault C12: the server dies as soon as its ready is known.
#[test]
fn a_death_right_after_ready_is_both_in_order() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        let spawned = daemon.event("it is spawned", |event| matches!(event.event, Event::ServerSpawned { .. })).await;
        let Event::ServerSpawned { pid, .. } = spawned.event else { unreachable!("it was waited for") };
        let ready = daemon.ready("a").await;
        kill(Pid::from_raw(pid.try_into().expect("a process id")), KernelSignal::SIGABRT).expect("it runs");
        let exited = daemon.exited("a").await;
        measured("C12", "killed at ready, exit told after", exited.elapsed.since(ready.elapsed));
        let (reason, ..) = daemon.failure("a").await;
        assert_eq!(reason, FailureReason::Crashed);
        assert!(ready.seq < exited.seq, "{ready:?} {exited:?}");
        assert_eq!(daemon.count("a", "ReadyReached").await, 1);
    });
}
