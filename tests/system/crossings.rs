//! Requests that cross with what a server is doing at that moment.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use llama_warden_events::Event;
use llama_warden_stand_in::{Script, ScriptAction, ScriptPhase};
use llama_warden_tests::{action_at, sandbox};
use nix::sys::signal::Signal;

/// Fault S9: a server waits an hour for its next launch when the daemon is asked to stop.
#[test]
fn a_term_during_a_back_off_calls_it_off_and_launches_nothing() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section("[restart]\ninitial-delay = \"1h\"\nmax-delay = \"2h\"\nmax-attempts = 5");
        let crash = action_at(ScriptPhase::Loading, ScriptAction::Exit { code: 7, last_words: None });
        fleet.server("a", Script { load_ms: 60_000, actions: vec![crash], ..Script::default() });
        let daemon = sandbox.up(&fleet).await;
        daemon.event("it waits", |event| matches!(event.event, Event::RestartScheduled { .. })).await;
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.exit_code().await, 0);
        let events = daemon.event_stream().to_end().await.expect("all of them");
        let launches = events.iter().filter(|event| matches!(event.event, Event::LaunchBegan { .. })).count();
        assert_eq!(launches, 1);
    });
}

/// Fault S10: a server that loads leaves the configuration.
#[test]
fn a_server_that_is_removed_while_it_starts_is_stopped_and_gone() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("stays", Script::default());
        let without = fleet.toml();
        fleet.server("leaves", Script { load_ms: 60_000, ..Script::default() });
        let daemon = sandbox.up(&fleet).await;
        let spawned = |event: &llama_warden_events::Envelope| {
            event.server.as_ref().is_some_and(|server| server.as_str() == "leaves")
                && matches!(event.event, Event::ServerSpawned { .. })
        };
        daemon.event("it is spawned", spawned).await;
        let stays = daemon.ready("stays").await;
        std::fs::write(fleet.path(), without).expect("the sandbox can be written");
        daemon.post("/api/v1/reload?wait=50s&force=1").await.expect(200);
        daemon.event_after(stays.seq, "it is removed", |event| matches!(event.event, Event::ServerRemoved)).await;
        let status = daemon.status().await;
        assert_eq!((status.total_servers, status.running_servers), (1, 1));
        let events = daemon.event_stream().events();
        let ended = events.iter().filter(|event| matches!(event.event, Event::ServerExited { .. })).count();
        assert_eq!(ended, 1, "its process has ended");
        assert!(daemon.report("stays").await.is_ready);
    });
}
