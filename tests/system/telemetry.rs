//! What the environment asks of the daemon's own log and spans, right and wrong.

use llama_warden_stand_in::Script;
use llama_warden_tests::{DaemonOptions, daemon_program, sandbox};

fn with(variables: &[(&str, &str)]) -> DaemonOptions {
    let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    DaemonOptions { environment, ..DaemonOptions::default() }
}

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
            assert_eq!(log.matches("no spans are sent").count(), 1, "{log}");
            assert!(!log.contains("hunter2"), "{log}");
            let mut check = sandbox.program(daemon_program());
            check.arg("--config").arg(daemon.config()).arg("check").envs(variables.iter().copied());
            let checked = check.output().await.expect("it runs");
            let told = String::from_utf8_lossy(&checked.stderr).into_owned();
            assert!(checked.status.success() && told.contains("OTEL_EXPORTER_OTLP"), "{told}");
        });
    }
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
