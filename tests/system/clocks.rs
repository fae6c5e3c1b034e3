//! A machine whose clocks say what nobody expects.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use std::time::Duration;

use llama_warden_events::{Envelope, Event};
use llama_warden_stand_in::Script;
use llama_warden_tests::{DaemonOptions, own_namespaces, sandbox};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Fault S11: in a time namespace, the daemon and its servers run on a machine that has been up for ten years longer.
#[test]
fn ten_years_of_uptime_are_no_servers_uptime_and_no_limit_that_is_over() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section("[restart]\ninitial-delay = \"50ms\"");
        fleet.section("[health]\ninterval = \"200ms\"");
        let keys = "readiness = { timeout = \"60s\", on-timeout = \"fail\", stall-timeout = \"30s\" }";
        fleet.server_with("a", Script { load_ms: 500, ..Script::default() }, keys);
        let under = own_namespaces(&["--time", "--monotonic", "315360000", "--boottime", "315360000"]);
        let daemon = sandbox.up_with(&fleet, &DaemonOptions { under, ..DaemonOptions::default() }).await;
        let ready = daemon.ready("a").await;
        let report = daemon.report("a").await;
        assert!(report.uptime_seconds < 3600, "{report:?}");
        kill(Pid::from_raw(report.pid.expect("it runs").try_into().unwrap()), Signal::SIGKILL).unwrap();
        let again = |event: &Envelope| matches!(event.event, Event::ReadyReached { .. });
        let back = daemon.event_after(ready.seq, "it comes back", again).await;
        assert!(back.elapsed.since(ready.elapsed) < Duration::from_secs(3600), "{back:?}");
        daemon.command("a", "restart?wait=50s").await.expect(200);
        assert_eq!(daemon.report("a").await.restarts, 1);
        let status = daemon.status().await;
        assert!(status.servers.iter().all(|server| server.uptime_seconds < 3600), "{status:?}");
    });
}
