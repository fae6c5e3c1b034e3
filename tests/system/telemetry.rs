//! What the environment asks of the daemon's own log and spans, right and wrong.

use std::time::Duration;

use llama_warden_events::Event;
use llama_warden_stand_in::Script;
use llama_warden_tests::{DaemonOptions, Port, TestRequest, daemon_program, measured, sandbox};
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

fn with(variables: &[(&str, &str)]) -> DaemonOptions {
    let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    DaemonOptions { environment, ..DaemonOptions::default() }
}

/// Fault S31.
#[test]
fn a_collector_that_cannot_be_used_is_one_warning_and_servers_run() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9");
    for variables in [
        vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "https://me:hunter2@127.0.0.1:4318")],
        vec![endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
        vec![endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")],
        vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "127.0.0.1:4318")],
    ] {
        sandbox(async |sandbox| {
            let mut fleet = sandbox.fleet();
            fleet.server("a", Script::default());
            let daemon = sandbox.up_with(&fleet, &with(&variables)).await;
            daemon.ready("a").await;
            let log = daemon.log();
            assert_eq!(log.matches("OTEL_EXPORTER_OTLP").count(), 1, "{log}");
            assert!(!log.contains("hunter2"), "{log}");
            let mut check = sandbox.program(daemon_program());
            check.arg("--config").arg(daemon.config()).arg("check").envs(variables.iter().copied());
            let checked = check.output().await.expect("it runs");
            let told = String::from_utf8_lossy(&checked.stderr).into_owned();
            assert!(checked.status.success() && told.contains("OTEL_EXPORTER_OTLP"), "{told}");
        });
    }
}

/// Answers every request with 500, on a port of its own; returns the port.
async fn failing_collector() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; 1 << 16];
                let _ = stream.read(&mut request).await;
                let answer = b"HTTP/1.1 500 Internal Server Error\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
                let _ = stream.write_all(answer).await;
            });
        }
    });
    port
}

/// Fault S31: nobody listens at the collector's address, a listener never answers, and a collector fails for ever.
#[test]
fn a_collector_that_is_not_there_or_fails_for_ever_delays_neither_servers_nor_the_shutdown() {
    for collector in ["absent", "silent", "failing"] {
        sandbox(async |sandbox| {
            let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
            let port = match collector {
                "absent" => Port::lease().number(),
                "silent" => silent.local_addr().expect("bound").port(),
                _ => failing_collector().await,
            };
            let endpoint = format!("http://127.0.0.1:{port}");
            let mut fleet = sandbox.fleet();
            fleet.server("a", Script::default());
            let daemon = sandbox.up_with(&fleet, &with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)])).await;
            daemon.ready("a").await;
            for _ in 0..3 {
                daemon.command("a", "restart?wait=50s").await.expect(200);
            }
            let asked = Instant::now();
            daemon.signal(Signal::SIGTERM);
            assert_eq!(daemon.exit_code().await, 0, "{collector}: {}", daemon.log());
            measured("S31", &format!("shutdown with a collector that is {collector}"), asked.elapsed());
            assert!(asked.elapsed() < Duration::from_secs(15), "{collector}: {:?}", asked.elapsed());
            let log = daemon.log();
            // One when it begins to fail, and one at the end.
            for signal in ["spans", "exports of metrics", "log records"] {
                assert!(log.matches(&format!("{signal} did not reach")).count() <= 1, "{collector}: {log}");
                assert!(log.matches(&format!("signal={signal}")).count() <= 2, "{collector}: {log}");
            }
        });
    }
}

#[test]
fn the_trace_of_a_request_is_in_the_event_of_its_command_and_a_bad_header_is_no_error() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for (header, expected) in [(trace, Some(trace)), ("00-short-01", None)] {
            let request = TestRequest::post("/api/v1/servers/a/restart?wait=50s").header("traceparent", header);
            let command = daemon.send(request).await.expect(200).json()["command"].as_u64();
            let accepted = daemon.event("a", |event| Some(event.seq.get()) == command).await;
            let Event::CommandAccepted { trace, .. } = &accepted.event else { panic!("{accepted:?}") };
            assert_eq!(trace.as_ref().map(ToString::to_string).as_deref(), expected);
        }
    });
}

#[test]
fn variables_that_mean_nothing_are_told_with_the_names_that_exist() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let daemon = sandbox.up_with(&fleet, &with(&[("LLAMA_WARDEN_STOP_GRACE", "1s")])).await;
        let log = daemon.log();
        assert!(log.contains("LLAMA_WARDEN_STOP_GRACE") && log.contains("LLAMA_WARDEN_STOP__GRACE"), "{log}");
        for (name, value) in [("LLAMA_WARDEN_LOG", "verbose"), ("LLAMA_WARDEN_LOG_FORMAT", "xml")] {
            let refused = sandbox.launch(&sandbox.fleet_named(&name.to_ascii_lowercase()), &with(&[(name, value)]));
            assert_eq!(refused.exit_code().await, 2, "{}", refused.log());
            let log = refused.log();
            assert!(log.contains(&format!("{name}=`{value}`")), "{log}");
            let mut check = sandbox.program(daemon_program());
            check.arg("--config").arg(daemon.config()).arg("check").env(name, value);
            let checked = check.output().await.expect("it runs");
            let told = String::from_utf8_lossy(&checked.stderr).into_owned();
            assert!(checked.status.code() == Some(2) && told.contains(&format!("{name}: `{value}`")), "{told}");
        }
    });
}
