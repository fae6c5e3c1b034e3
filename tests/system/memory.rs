//! Launches are admitted, held or refused by their estimated memory.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use std::fs::File;
use std::path::Path;

use llama_warden_api_types::StatusReport;
use llama_warden_events::{Event, FailureReason, Warning};
use llama_warden_stand_in::{Script, TermScript};
use llama_warden_state::PhaseName;
use llama_warden_tests::{Sandbox, TestDaemon, TestFleet, sample, sandbox};
use serde_json::Value;

/// A context whose cache takes two petabytes, which no machine has.
const ABSURD: &str = "flags = { ctx-size = 4000000000000 }";

fn with_memory_policy(sandbox: &Sandbox, policy: &str) -> TestFleet {
    let mut fleet = sandbox.fleet();
    fleet.section(&format!("[start]\nmemory = \"{policy}\""));
    fleet
}

/// The available memory in bytes, as the daemon reads it.
async fn available(sandbox: &Sandbox, config: &Path) -> u64 {
    let report: Value = sandbox.run(config, ["check", "--json"]).await.expect(0).json();
    report["memory"]["available_bytes"].as_u64().expect("the kernel tells")
}

/// Adds a server whose mapped model takes 60 % of the available memory. The file is sparse.
fn needs_most_memory(fleet: &mut TestFleet, available: u64, id: &str, script: Script, keys: &str) {
    fleet.server_with(id, script, &format!("flags = {{ mmap = true }}\n{keys}"));
    let model = File::options().write(true).open(fleet.model(id)).expect("it was written");
    model.set_len(available / 10 * 6).expect("the file can be sparse");
}

async fn phase(daemon: &TestDaemon, id: &str) -> PhaseName {
    daemon.report(id).await.phase
}

#[test]
fn a_server_that_does_not_fit_is_refused_with_the_numbers_and_the_others_run() {
    sandbox(async |sandbox| {
        let mut fleet = with_memory_policy(sandbox, "enforce");
        fleet
            .server("a", Script::default())
            .server_with("big", Script::default(), ABSURD)
            .server("c", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        daemon.ready("c").await;
        let (reason, detail, _) = daemon.failure("big").await;
        assert_eq!(reason, FailureReason::Refused);
        for part in ["needs ", "KV cache ", "is available", "lower its ctx-size"] {
            assert!(detail.contains(part), "{detail}");
        }
        assert_eq!((phase(&daemon, "big").await, daemon.count("big", "LaunchBegan").await), (PhaseName::Failed, 0));
        let memory = daemon.server("big").await.report.memory.expect("it was estimated");
        // Two layers of width 64, keys and values, two bytes each.
        assert_eq!(memory.kv_bytes, 4_000_000_000_000 * 2 * 64 * 2 * 2);
        assert!(daemon.server("a").await.report.memory.is_some());
        let refused = [("server", "big"), ("reason", "refused")];
        assert_eq!(sample(&daemon.metrics().await, "llama_warden_server_failures_total", &refused), Some(1.0));
        let answer = daemon.command("big", "start?wait=50s").await.expect(502).json();
        assert_eq!(answer["reason"], "refused");
        assert_eq!((daemon.count("a", "ServerExited").await, phase(&daemon, "c").await), (0, PhaseName::Ready));
    });
}

#[test]
fn a_refused_server_waits_for_memory_and_its_note_says_how_much() {
    sandbox(async |sandbox| {
        let mut fleet = with_memory_policy(sandbox, "enforce");
        fleet.section("[restart]\ninitial-delay = \"10ms\"\nmax-delay = \"20ms\"\nmax-attempts = 2");
        fleet.server_with("big", Script::default(), ABSURD);
        let daemon = sandbox.up(&fleet).await;
        let is_fourth = |event: &llama_warden_events::Envelope| {
            matches!(event.event, Event::RestartScheduled { attempt: 4, max_attempts: None, .. })
        };
        daemon.event("it is looked at again after more looks than attempts", is_fourth).await;
        assert_eq!((daemon.count("big", "RestartAbandoned").await, daemon.count("big", "LaunchBegan").await), (0, 0));
        let note = daemon.report("big").await.note.expect("it is down");
        assert!(note.contains("memory") && note.contains(" is available"), "{note}");
    });
}

#[test]
fn a_server_that_may_not_fit_is_started_with_a_warning() {
    sandbox(async |sandbox| {
        let mut fleet = with_memory_policy(sandbox, "warn");
        fleet.server_with("big", Script::default(), ABSURD).server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("big").await;
        daemon.ready("a").await;
        let short = |warnings: Vec<llama_warden_api_types::WarningReport>| {
            warnings.into_iter().find(|warning| warning.warning == Warning::MemoryShort)
        };
        let warning = short(daemon.server("big").await.warnings).expect("it is warned of");
        assert!(warning.detail.starts_with("needs "), "{}", warning.detail);
        assert_eq!(short(daemon.server("a").await.warnings), None);
        assert!(daemon.log().contains("memory-short"), "{}", daemon.log());
    });
}

#[test]
fn memory_is_not_estimated_where_the_policy_is_off() {
    sandbox(async |sandbox| {
        let mut fleet = with_memory_policy(sandbox, "off");
        fleet.server_with("big", Script::default(), ABSURD);
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("big").await;
        let detail = daemon.server("big").await;
        assert_eq!((detail.report.memory, detail.warnings.len()), (None, 0));
    });
}

/// Fault C37: a launch waits for memory of a server that is stopping, and is refused for memory of one that runs.
#[test]
fn a_start_waits_for_the_memory_of_a_server_that_is_stopping() {
    sandbox(async |sandbox| {
        let mut fleet = with_memory_policy(sandbox, "enforce");
        let available = available(sandbox, &fleet.write()).await;
        let slow = Script { term: TermScript::Slow(2500), ..Script::default() };
        needs_most_memory(&mut fleet, available, "a", slow, "");
        needs_most_memory(&mut fleet, available, "b", Script::default(), "enabled = false");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let answer = daemon.command("b", "start?wait=50s").await.expect(502).json();
        assert_eq!(answer["reason"], "refused", "a holds what b needs: {answer}");
        daemon.command("a", "stop").await.expect(202);
        daemon.command("b", "start").await.expect(202);
        let is_held = |event: &llama_warden_events::Envelope| matches!(event.event, Event::LaunchHeld { .. });
        let held = daemon.event("b is held", is_held).await;
        let then = StatusReport::of(&daemon.event_stream().replay(held.seq).await, held.elapsed);
        let waiting =
            then.servers.iter().find_map(|server| server.waiting_for.as_deref().filter(|text| text.contains("memory")));
        assert!(waiting.is_some_and(|text| text.ends_with("waits for the end of a")), "{waiting:?}");
        // That its launch before was refused does not end the wait for this one.
        sandbox.run(daemon.config(), ["wait", "b"]).await.expect(0);
        let ready = daemon.ready("b").await;
        let exited = daemon.exited("a").await;
        assert!(held.seq < exited.seq && exited.seq < ready.seq, "{held:?} {exited:?} {ready:?}");
        assert_eq!(daemon.report("b").await.waiting_for, None);
    });
}

#[test]
fn a_start_that_waits_for_memory_does_not_hold_up_a_shutdown() {
    sandbox(async |sandbox| {
        let mut fleet = with_memory_policy(sandbox, "enforce");
        let available = available(sandbox, &fleet.write()).await;
        needs_most_memory(&mut fleet, available, "a", Script { term: TermScript::Slow(1500), ..Script::default() }, "");
        needs_most_memory(&mut fleet, available, "b", Script::default(), "enabled = false");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        daemon.command("a", "stop").await.expect(202);
        daemon.command("b", "start").await.expect(202);
        daemon.event("b is held", |event| matches!(event.event, Event::LaunchHeld { .. })).await;
        daemon.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(daemon.exit_code().await, 0);
    });
}

#[test]
fn check_tells_which_servers_do_not_fit() {
    sandbox(async |sandbox| {
        let mut fleet = with_memory_policy(sandbox, "warn");
        fleet.server("a", Script::default()).server_with("big", Script::default(), ABSURD);
        let config = fleet.write();
        let ran = sandbox.run(&config, ["check"]).await.expect(0);
        assert!(ran.stderr.contains("server `big` is estimated to need"), "{}", ran.stderr);
        assert!(!ran.stderr.contains("server `a`"), "{}", ran.stderr);
        let report: Value = sandbox.run(&config, ["check", "--json"]).await.expect(0).json();
        assert_eq!(report["memory"]["servers"].as_array().map(Vec::len), Some(2));
    });
}
