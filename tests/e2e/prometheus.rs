//! A real Prometheus scrapes the daemon.

use std::process::Stdio;

use llama_warden_tests::{
    Endpoint, ExternalProgram, Port, ProgramRun, TestRequest, WAIT_LIMIT, eventually, external_program, sample, sandbox,
};
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::fleet::{SMALL, THREE, add, complete, real_fleet, three};

/// The result of a query: server and value of each series, sorted. Empty while Prometheus does not answer.
async fn query(prometheus: &Endpoint, query: &str) -> Vec<(String, String)> {
    let Ok(answer) = TestRequest::get(format!("/api/v1/query?query={query}")).send(prometheus).await else {
        return Vec::new();
    };
    let Ok(answer) = serde_json::from_slice::<Value>(&answer.body) else { return Vec::new() };
    let results = answer["data"]["result"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut values: Vec<_> =
        results.iter().map(|result| (text(&result["metric"]["server"]), text(&result["value"][1]))).collect();
    values.sort();
    values
}

#[test]
fn prometheus_sees_three_ready_servers() {
    let (Some(llama_server), Some(program)) =
        (external_program(ExternalProgram::LlamaServer), external_program(ExternalProgram::Prometheus))
    else {
        return;
    };
    sandbox(async |sandbox| {
        let fleet = three(sandbox, &llama_server);
        let daemon = sandbox.up(&fleet).await;
        for id in THREE {
            daemon.ready(id).await;
        }
        let config = sandbox.file("prometheus.yml");
        let target = format!("127.0.0.1:{}", fleet.listen());
        std::fs::write(
            &config,
            format!("global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: warden, static_configs: [{{targets: ['{target}']}}]}}]\n"),
        )
        .unwrap();
        let port = Port::lease();
        let _prometheus = sandbox
            .program(&program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", sandbox.file("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{}", port.number()))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(sandbox.file("prometheus.log")).unwrap())
            .spawn()
            .unwrap();
        let prometheus = Endpoint::Tcp(port.number());
        let ready = ["a", "b", "c"].map(|id| (id.to_owned(), "1".to_owned()));
        let mut seen = Vec::new();
        eventually("Prometheus knows three ready servers", WAIT_LIMIT, async || {
            seen = query(&prometheus, "llama_warden_server_ready").await;
            seen == ready
        })
        .await;
        assert_eq!(query(&prometheus, "llama_warden_server_running").await, ready);
        daemon.command("b", "stop?wait=50s").await.expect(200);
        eventually("Prometheus knows that one is stopped", WAIT_LIMIT, async || {
            let values = query(&prometheus, "llama_warden_server_ready").await;
            values.iter().map(|(_, value)| value.as_str()).eq(["1", "0", "1"])
        })
        .await;
        let up = query(&prometheus, "up").await;
        assert_eq!(up, [(String::new(), "1".to_owned())]);
    });
}

#[test]
fn promtool_finds_nothing_to_criticise() {
    let (Some(llama_server), Some(program)) =
        (external_program(ExternalProgram::LlamaServer), external_program(ExternalProgram::Prometheus))
    else {
        return;
    };
    sandbox(async |sandbox| {
        let mut fleet = real_fleet(sandbox, &llama_server);
        fleet.section(SMALL);
        add(&mut fleet, "a", "");
        fleet.server_of("missing", &sandbox.file("missing.gguf"), "");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        daemon.failure("missing").await;
        daemon.command("a", "restart?wait=50s").await.expect(200);
        let text = TestRequest::get("/metrics").send(daemon.http()).await.unwrap().expect(200).text();
        let checked = promtool(sandbox.program(program.with_file_name("promtool")), &text).await.expect(0);
        assert_eq!((checked.stdout.trim(), checked.stderr.trim()), ("", ""));
    });
}

#[test]
fn the_own_metrics_of_real_servers_are_on_one_page_that_promtool_likes() {
    let (Some(llama_server), Some(program)) =
        (external_program(ExternalProgram::LlamaServer), external_program(ExternalProgram::Prometheus))
    else {
        return;
    };
    sandbox(async |sandbox| {
        let mut fleet = real_fleet(sandbox, &llama_server);
        fleet.section(SMALL);
        add(&mut fleet, "a", "flags = { metrics = true, api-key = \"sk-a\" }");
        add(&mut fleet, "b", "flags = { metrics = true }");
        add(&mut fleet, "c", "");
        let daemon = sandbox.up(&fleet).await;
        for id in THREE {
            daemon.ready(id).await;
        }
        complete(fleet.port("b")).await;
        let text = daemon.get("/metrics?servers=1").await.expect(200).text();
        let ok = |id, reason| sample(&text, "llama_warden_server_scrape_ok", &[("server", id), ("reason", reason)]);
        assert_eq!((ok("a", "ok"), ok("b", "ok"), ok("c", "not-offered")), (Some(1.0), Some(1.0), Some(0.0)), "{text}");
        let predicted = |id| sample(&text, "llamacpp_tokens_predicted_total", &[("server", id)]);
        assert_eq!((predicted("a"), predicted("b"), predicted("c")), (Some(0.0), Some(8.0), None), "{text}");
        let used = sample(&text, "llama_warden_server_kv_used_ratio", &[("server", "b")]);
        assert!(used.is_some_and(|used| used > 0.0 && used < 1.0), "{text}");
        let checked = promtool(sandbox.program(program.with_file_name("promtool")), &text).await.expect(0);
        assert_eq!((checked.stdout.trim(), checked.stderr.trim()), ("", ""));
    });
}

#[test]
fn numbers_that_are_none_are_dropped_from_the_metrics_of_an_older_build() {
    let (Some(llama_server), Some(program)) =
        (external_program(ExternalProgram::LlamaServer0_3_16), external_program(ExternalProgram::Prometheus))
    else {
        return;
    };
    sandbox(async |sandbox| {
        let mut fleet = real_fleet(sandbox, &llama_server);
        fleet.section(SMALL);
        add(&mut fleet, "a", "flags = { metrics = true }");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let own = TestRequest::get("/metrics").send(&Endpoint::Tcp(fleet.port("a"))).await.unwrap().expect(200).text();
        let not_finite = own.lines().filter(|line| line.ends_with("inf") || line.ends_with("nan")).count();
        let text = daemon.get("/metrics?servers=1").await.expect(200).text();
        let dropped = sample(&text, "llama_warden_server_scrape_dropped_samples_total", &[("server", "a")]);
        assert_eq!(dropped, Some(not_finite as f64), "{own}");
        assert_eq!(sample(&text, "llamacpp_requests_processing", &[("server", "a")]), Some(0.0), "{text}");
        let checked = promtool(sandbox.program(program.with_file_name("promtool")), &text).await.expect(0);
        assert_eq!((checked.stdout.trim(), checked.stderr.trim()), ("", ""));
    });
}

/// Whether a server says that it sleeps, which it can be asked for without being disturbed.
async fn is_sleeping(port: u16) -> bool {
    let props = TestRequest::get("/props").send(&Endpoint::Tcp(port)).await.expect("an answer").expect(200).json();
    props["is_sleeping"] == true
}

#[test]
fn a_scrape_neither_wakes_a_sleeping_server_nor_keeps_one_awake() {
    let Some(llama_server) = external_program(ExternalProgram::LlamaServer) else { return };
    sandbox(async |sandbox| {
        let mut fleet = real_fleet(sandbox, &llama_server);
        fleet.section(SMALL);
        add(&mut fleet, "a", "flags = { metrics = true, sleep-idle-seconds = 3 }");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let reason = async || {
            let text = daemon.get("/metrics?servers=1").await.expect(200).text();
            let start = "llama_warden_server_scrape_ok{server=\"a\",reason=\"";
            let line = text.lines().find_map(|line| line.strip_prefix(start)).expect("it is asked");
            (line.split('"').next().unwrap_or_default().to_owned(), text.contains("llamacpp_"))
        };
        assert!(!is_sleeping(fleet.port("a")).await);
        assert_eq!(reason().await, ("ok".to_owned(), true));
        // Each round asks anew after a second, which is less than it takes to fall asleep.
        eventually("it falls asleep while it is scraped", WAIT_LIMIT, async || {
            reason().await;
            is_sleeping(fleet.port("a")).await
        })
        .await;
        eventually("a new round finds it asleep", WAIT_LIMIT, async || reason().await == ("asleep".to_owned(), false))
            .await;
        assert!(is_sleeping(fleet.port("a")).await, "it was woken");
        assert!(daemon.report("a").await.is_ready);
    });
}

/// Runs `promtool check metrics` over `text`.
async fn promtool(mut command: tokio::process::Command, text: &str) -> ProgramRun {
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).await.unwrap();
    let output = tokio::time::timeout(WAIT_LIMIT, child.wait_with_output()).await.expect("it ends").unwrap();
    let read = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    ProgramRun { status: output.status, stdout: read(output.stdout), stderr: read(output.stderr) }
}
