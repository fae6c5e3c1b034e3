//! A real Prometheus scrapes the daemon.

use std::path::Path;
use std::process::Stdio;

use llama_warden_tests::{
    Endpoint, ExternalProgram, Port, ProgramRun, Sandbox, TestFleet, TestRequest, WAIT_LIMIT, eventually,
    external_program, sample, sandbox,
};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Child;

use crate::fleet::{SMALL, THREE, add, complete, one_ready_and_one_failed, real_fleet, three};

/// The configuration of a Prometheus that scrapes the daemon of `fleet` every second, with further sections.
pub fn scrape_config(fleet: &TestFleet, more: &str) -> String {
    let target = format!("127.0.0.1:{}", fleet.listen());
    format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         scrape_configs: [{{job_name: llama-warden, static_configs: [{{targets: ['{target}']}}]}}]\n{more}"
    )
}

/// Starts a Prometheus with this configuration, which ends with the sandbox, and waits until it answers.
pub async fn start(sandbox: &Sandbox, program: &Path, config: &str) -> Prometheus {
    let file = sandbox.file("prometheus.yml");
    std::fs::write(&file, config).unwrap();
    let port = Port::lease();
    let child = sandbox
        .program(program)
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", sandbox.file("tsdb").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{}", port.number()))
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(sandbox.file("prometheus.log")).unwrap())
        .spawn()
        .unwrap();
    let prometheus = Prometheus { endpoint: Endpoint::Tcp(port.number()), _child: child, _port: port };
    eventually("Prometheus answers", WAIT_LIMIT, async || !prometheus.series("vector(1)").await.is_empty()).await;
    prometheus
}

/// A running Prometheus.
pub struct Prometheus {
    endpoint: Endpoint,
    _child: Child,
    _port: Port,
}

impl Prometheus {
    /// The answer of its API; null while it gives none.
    pub async fn api(&self, path: &str) -> Value {
        let Ok(answer) = TestRequest::get(format!("/api/v1/{path}")).send(&self.endpoint).await else {
            return Value::Null;
        };
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    /// The series of a query, as Prometheus gives them.
    pub async fn series(&self, query: &str) -> Vec<Value> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.api(&format!("query?query={encoded}")).await;
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    /// Server and value of each series of a query, sorted.
    async fn values(&self, query: &str) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of = |result: &Value| (text(&result["metric"]["server"]), text(&result["value"][1]));
        let mut values: Vec<_> = self.series(query).await.iter().map(of).collect();
        values.sort();
        values
    }
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
        let prometheus = start(sandbox, &program, &scrape_config(&fleet, "")).await;
        let ready = ["a", "b", "c"].map(|id| (id.to_owned(), "1".to_owned()));
        let mut seen = Vec::new();
        eventually("Prometheus knows three ready servers", WAIT_LIMIT, async || {
            seen = prometheus.values("llama_warden_server_ready").await;
            seen == ready
        })
        .await;
        assert_eq!(prometheus.values("llama_warden_server_running").await, ready);
        daemon.command("b", "stop?wait=50s").await.expect(200);
        eventually("Prometheus knows that one is stopped", WAIT_LIMIT, async || {
            let values = prometheus.values("llama_warden_server_ready").await;
            values.iter().map(|(_, value)| value.as_str()).eq(["1", "0", "1"])
        })
        .await;
        let up = prometheus.values("up").await;
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
        let (_, daemon) = one_ready_and_one_failed(sandbox, &llama_server).await;
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
        eventually("the status says so", WAIT_LIMIT, async || daemon.report("a").await.is_sleeping).await;
        assert!(is_sleeping(fleet.port("a")).await, "a health check has woken it");
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
