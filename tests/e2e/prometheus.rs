//! A real Prometheus scrapes the daemon.

use std::path::Path;
use std::process::Stdio;

use llama_warden_tests::{
    Endpoint, ExternalProgram, Port, ProgramRun, Sandbox, TestFleet, TestRequest, WAIT_LIMIT, eventually,
    external_program, sandbox,
};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Child;

use crate::fleet::{SMALL, THREE, add, real_fleet, three};

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

/// Runs `promtool check metrics` over `text`.
async fn promtool(mut command: tokio::process::Command, text: &str) -> ProgramRun {
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).await.unwrap();
    let output = tokio::time::timeout(WAIT_LIMIT, child.wait_with_output()).await.expect("it ends").unwrap();
    let read = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    ProgramRun { status: output.status, stdout: read(output.stdout), stderr: read(output.stderr) }
}
