//! Real servers end with a stop, and with the daemon.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use std::time::Duration;

use http_body_util::BodyExt;
use llama_warden_events::Event;
use llama_warden_tests::{
    Endpoint, ExternalProgram, TestRequest, WAIT_LIMIT, eventually, external_program, processes_with, sandbox,
};
use nix::sys::signal::Signal;
use tokio::time::{Instant, timeout};

use crate::fleet::{SMALL, THREE, add, real_fleet, three};

#[test]
fn term_ends_the_daemon_and_three_servers_quickly() {
    let Some(llama_server) = external_program(ExternalProgram::LlamaServer) else { return };
    sandbox(async |sandbox| {
        let fleet = three(sandbox, &llama_server);
        let daemon = sandbox.up(&fleet).await;
        for id in THREE {
            daemon.ready(id).await;
        }
        let asked = Instant::now();
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.exit_code().await, 0);
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        assert!(processes_with(&sandbox.path().to_string_lossy()).is_empty());
    });
}

/// Fault C45. Most stops are graceful. llama-server sometimes loses a TERM at the beginning of a stream, and is then
/// killed.
#[test]
fn a_stop_while_a_client_streams_ends_by_the_grace() {
    let Some(llama_server) = external_program(ExternalProgram::LlamaServer) else { return };
    sandbox(async |sandbox| {
        let grace = Duration::from_secs(6);
        let mut fleet = real_fleet(sandbox, &llama_server);
        fleet.section(&format!("{SMALL}\n[stop]\ngrace = \"6s\""));
        add(&mut fleet, "a", "");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let mut forced = 0;
        for round in 1..=4_u64 {
            let body = r#"{"prompt": "once", "n_predict": -1, "stream": true, "ignore_eos": true}"#;
            let request = TestRequest::post("/completion").header("content-type", "application/json").body(body);
            let mut stream = request.open(&Endpoint::Tcp(fleet.port("a"))).await.unwrap().into_body();
            for _ in 0..20 {
                timeout(WAIT_LIMIT, stream.frame()).await.expect("tokens come").expect("more").expect("no error");
            }
            let reading = tokio::spawn(async move { while let Some(Ok(_)) = stream.frame().await {} });
            let asked = Instant::now();
            daemon.command("a", "stop?wait=50s").await.expect(200);
            let took = asked.elapsed();
            assert!(took < grace + Duration::from_secs(2 + 5), "round {round}: {took:?}");
            timeout(WAIT_LIMIT, reading).await.expect("the stream ends").unwrap();
            let last = daemon.events_of("a").await.into_iter().rev().find_map(|event| match event.event {
                Event::ServerStopped { forced, .. } => Some(forced),
                _ => None,
            });
            forced += usize::from(last.expect("it is stopped"));
            daemon.command("a", "start?wait=50s").await.expect(200);
        }
        assert!(forced < 4, "no stop was graceful");
    });
}

/// Fault S1.
#[test]
fn a_killed_daemon_leaves_no_real_server_behind() {
    let Some(llama_server) = external_program(ExternalProgram::LlamaServer) else { return };
    sandbox(async |sandbox| {
        let fleet = three(sandbox, &llama_server);
        let daemon = sandbox.up(&fleet).await;
        for id in THREE {
            daemon.ready(id).await;
        }
        daemon.signal(Signal::SIGKILL);
        daemon.exit().await;
        let home = sandbox.path().to_string_lossy().into_owned();
        eventually("every server is gone", Duration::from_secs(3), async || processes_with(&home).is_empty()).await;
        let next = sandbox.up(&fleet).await;
        for id in THREE {
            next.ready(id).await;
        }
    });
}

#[test]
fn a_restart_gives_a_new_process_on_the_same_port() {
    let Some(llama_server) = external_program(ExternalProgram::LlamaServer) else { return };
    sandbox(async |sandbox| {
        let mut fleet = real_fleet(sandbox, &llama_server);
        fleet.section(SMALL);
        add(&mut fleet, "a", "");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let before = daemon.report("a").await;
        daemon.command("a", "restart?wait=50s").await.expect(200);
        let after = daemon.report("a").await;
        assert_ne!(before.pid, after.pid);
        assert_eq!((after.port, after.incarnation.get(), after.is_ready), (before.port, 2, true));
        crate::fleet::complete(fleet.port("a")).await;
    });
}
