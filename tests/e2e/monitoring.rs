//! The rules, the mixin and the dashboard that are shipped, in the hands of Prometheus, Alertmanager and jsonnet.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use llama_warden_stand_in::Script;
use llama_warden_tests::{
    ExternalProgram, Port, ProgramRun, Sandbox, WAIT_LIMIT, eventually, external_program, own_namespaces, sandbox,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::fleet::{complete, one_ready_and_one_failed};
use crate::packaging::config;
use crate::prometheus::{scrape_config, start};

/// Recorded series that need a history of more than an hour.
const NEED_HISTORY: [&str; 2] =
    ["server:llama_warden_server_ready_seconds:mean1w", "server:llama_warden_request_decode_tokens:per_second1w"];

/// What is counted first when it happens, and what an alert on it reads until then is nothing.
const COUNTED_WHEN_IT_HAPPENS: [&str; 2] =
    ["llama_warden_server_restarts_abandoned_total", "llama_warden_server_signals_total"];

#[test]
fn promtool_accepts_the_rules_and_their_cases_come_out_as_written() {
    let Some(program) = external_program(ExternalProgram::Prometheus) else { return };
    sandbox(async |sandbox| {
        let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/prometheus/alerts_test.yaml");
        let alerts = fs::read_to_string(config("prometheus/alerts.yaml")).expect("alerts");
        let text = fs::read_to_string(&cases).expect("cases");
        for alert in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
            let named = text.matches(&format!("alertname: {alert}")).count();
            assert!(
                named >= 3,
                "{alert} needs a case in which it does not fire yet, one in which it does, and one in which it ends"
            );
        }
        let promtool = program.with_file_name("promtool");
        let run = async |arguments: &[&str], files: &[&Path]| {
            let mut command = sandbox.program(&promtool);
            command.args(arguments).args(files);
            let run = ProgramRun::to_end(command).await;
            assert_eq!(run.code(), 0, "{}{}", run.stdout, run.stderr);
        };
        let (alerts, rules) = (config("prometheus/alerts.yaml"), config("prometheus/rules.yaml"));
        run(&["check", "rules"], &[&alerts, &rules]).await;
        run(&["check", "config", "--syntax-only"], &[&config("prometheus/prometheus.yaml")]).await;
        run(&["test", "rules"], &[&cases]).await;
    });
}

#[test]
fn the_mixin_is_what_the_files_say() {
    let Some(jsonnet) = external_program(ExternalProgram::Jsonnet) else { return };
    sandbox(async |sandbox| {
        let mut command = sandbox.program(&jsonnet);
        command.arg("--jpath").arg(config("prometheus")).args([
            "--exec",
            "local mixin = import 'mixin.libsonnet'; {
               alerts: mixin.prometheusAlerts == std.parseYaml(importstr 'alerts.yaml'),
               rules: mixin.prometheusRules == std.parseYaml(importstr 'rules.yaml'),
               dashboards: mixin.grafanaDashboards == { 'llama-warden.json': import '../grafana/llama-warden.json' },
               home: (mixin + { _config+:: { runbooks: 'https://wiki' } }).prometheusAlerts.groups[0].rules[0].annotations.runbook_url,
             }",
        ]);
        let mixin = ProgramRun::to_end(command).await.expect(0).json();
        assert_eq!([&mixin["alerts"], &mixin["rules"], &mixin["dashboards"]], [true, true, true]);
        assert_eq!(mixin["home"], "https://wiki/daemon-gone.md");
    });
}

/// The queries of the dashboard with their panels, the variables filled in.
fn queries() -> Vec<(String, String)> {
    let text = fs::read_to_string(config("grafana/llama-warden.json")).expect("a dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets
            .into_iter()
            .map(|target| (panel["title"].to_string(), target["expr"].as_str().expect("a query").to_owned()))
    });
    let fill = |query: String| {
        let query = query.replace("$__rate_interval", "5s").replace("$__range", "1m");
        query.replace("$instance", ".*").replace("$server", "a")
    };
    targets.map(|(title, query)| (title, fill(query))).collect()
}

/// Whether a query gives a number.
fn has_number(series: &[Value]) -> bool {
    series.iter().any(|series| series["value"][1].as_str().is_some_and(|value| value != "NaN"))
}

#[test]
fn every_panel_and_every_rule_has_data_while_a_server_answers() {
    let (Some(llama_server), Some(program)) =
        (external_program(ExternalProgram::LlamaServer), external_program(ExternalProgram::Prometheus))
    else {
        return;
    };
    sandbox(async |sandbox| {
        let (fleet, daemon) = one_ready_and_one_failed(sandbox, &llama_server).await;
        let folder = config("prometheus");
        let files = format!("rule_files: ['{0}/alerts.yaml', '{0}/rules.yaml']\n", folder.display());
        let prometheus = start(sandbox, &program, &scrape_config(&fleet, &files)).await;
        eventually("it scrapes", WAIT_LIMIT, async || !prometheus.series("llama_warden_build_info").await.is_empty())
            .await;
        // A launch that Prometheus sees, so that there is a time to ready to be recorded.
        daemon.command("a", "restart?wait=50s").await.expect(200);
        let queries = queries();
        assert!(queries.len() > 30);
        for (panel, query) in &queries {
            eventually(&format!("{panel} has data: {query}"), WAIT_LIMIT, async || {
                complete(fleet.port("a")).await;
                has_number(&prometheus.series(query).await)
            })
            .await;
        }
        let groups = prometheus.api("rules").await["data"]["groups"].as_array().cloned().unwrap_or_default();
        let rules: Vec<Value> =
            groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect();
        assert_eq!(rules.iter().filter(|rule| rule["type"] == "alerting").count(), 9);
        for rule in &rules {
            let name = rule["name"].as_str().expect("a name");
            assert_eq!((&rule["health"], &rule["lastError"]), (&Value::from("ok"), &Value::Null), "{name}");
            if rule["type"] == "recording" && !NEED_HISTORY.contains(&name) {
                eventually(&format!("{name} is recorded"), WAIT_LIMIT, async || {
                    complete(fleet.port("a")).await;
                    has_number(&prometheus.series(name).await)
                })
                .await;
            }
            // An alert has data only while it fires; what it reads is there at any time.
            let read = families(rule["query"].as_str().expect("a query"));
            for family in read.into_iter().filter(|family| !COUNTED_WHEN_IT_HAPPENS.contains(family)) {
                let count = prometheus.series(&format!("count({{__name__=\"{family}\"}})")).await;
                assert!(has_number(&count), "{name} reads {family}, of which there is no series");
            }
        }
    });
}

/// The metrics in an expression of PromQL.
fn families(expression: &str) -> BTreeSet<&str> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    words.filter(|word| word.starts_with("llama_warden_")).collect()
}

/// Starts an Alertmanager with the shipped configuration and returns its port.
fn alertmanager(sandbox: &Sandbox, program: &Path) -> (Port, tokio::process::Child) {
    let port = Port::lease();
    // Debian's build reads its templates from there and nowhere else. No notification is sent, so they may be empty.
    let templates = "/usr/share/prometheus/alertmanager";
    let script = format!(
        "mount -t tmpfs none /usr/share && mkdir -p {templates} && touch {templates}/default.tmpl {templates}/email.tmpl && exec \"$@\""
    );
    let under = own_namespaces(&["--mount", "sh", "-c", &script, "sh"]);
    let child = sandbox
        .program(&under[0])
        .args(&under[1..])
        .arg(program)
        .arg(format!("--config.file={}", config("prometheus/alertmanager.yaml").display()))
        .arg(format!("--storage.path={}", sandbox.file("alertmanager").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{}", port.number()))
        .arg("--cluster.listen-address=")
        .stdout(Stdio::null())
        .stderr(fs::File::create(sandbox.file("alertmanager.log")).expect("written"))
        .spawn()
        .expect("it starts");
    (port, child)
}

#[test]
fn amtool_accepts_the_configuration_of_alertmanager() {
    let Some(program) = external_program(ExternalProgram::Alertmanager) else { return };
    sandbox(async |sandbox| {
        let mut command = sandbox.program(program.with_file_name("amtool"));
        command.arg("check-config").arg(config("prometheus/alertmanager.yaml"));
        ProgramRun::to_end(command).await.expect(0);
    });
}

/// The shipped alerts with nothing changed but how long a condition has to hold.
#[test]
fn an_alert_fires_when_a_server_is_crashed_and_ends_when_it_is_started_again() {
    let (Some(prometheus), Some(alerting)) =
        (external_program(ExternalProgram::Prometheus), external_program(ExternalProgram::Alertmanager))
    else {
        return;
    };
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let alerts = fs::read_to_string(config("prometheus/alerts.yaml")).expect("alerts");
        fs::write(sandbox.file("alerts.yaml"), alerts.replace("for: 1m\n", "for: 1s\n")).expect("written");
        let (port, _alertmanager) = alertmanager(sandbox, &alerting);
        let more = format!(
            "rule_files: ['{}']\nalerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{}']}}]}}]}}\n",
            sandbox.file("alerts.yaml").display(),
            port.number()
        );
        let prometheus = start(sandbox, &prometheus, &scrape_config(&fleet, &more)).await;
        eventually("it sees a ready server", WAIT_LIMIT, async || {
            !prometheus.series("llama_warden_server_ready == 1").await.is_empty()
        })
        .await;
        let firing = async || {
            let mut command = sandbox.program(alerting.with_file_name("amtool"));
            command.arg(format!("--alertmanager.url=http://127.0.0.1:{}", port.number()));
            command.args(["alert", "query", "--output=json", "alertname=LlamaWardenServerGivenUp"]);
            let run = ProgramRun::to_end(command).await;
            serde_json::from_str::<Value>(&run.stdout).ok().and_then(|alerts| alerts.as_array().cloned())
        };
        eventually("Alertmanager answers", WAIT_LIMIT, async || firing().await.is_some()).await;
        assert_eq!(firing().await, Some(Vec::new()));
        let pid = daemon.report("a").await.pid.expect("it runs");
        kill(Pid::from_raw(pid.try_into().expect("a pid")), Signal::SIGKILL).expect("it runs");
        let mut alerts = Vec::new();
        eventually("the alert fires", WAIT_LIMIT, async || {
            alerts = firing().await.unwrap_or_default();
            alerts.len() == 1
        })
        .await;
        assert_eq!(alerts[0]["labels"]["server"], "a", "{alerts:?}");
        assert_eq!(alerts[0]["labels"]["severity"], "critical");
        let runbook = alerts[0]["annotations"]["runbook"].as_str().expect("a runbook");
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(runbook);
        assert!(page.is_file(), "{runbook}");
        daemon.command("a", "start?wait=50s").await.expect(200);
        eventually("the alert ends", WAIT_LIMIT, async || firing().await == Some(Vec::new())).await;
    });
}

#[test]
fn the_commands_of_the_runbooks_exist() {
    sandbox(async |sandbox| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/runbooks");
        let mut commands = BTreeSet::new();
        for page in fs::read_dir(folder).expect("pages").flatten() {
            let text = fs::read_to_string(page.path()).expect("a page");
            // The parts between fences are text, blocks, text, and so on.
            for (index, part) in text.split("```").enumerate() {
                let code: Vec<&str> =
                    if index % 2 == 1 { part.lines().collect() } else { part.split('`').skip(1).step_by(2).collect() };
                let ours = code.into_iter().filter_map(|line| line.strip_prefix("llama-warden "));
                commands.extend(ours.map(|line| line.split([';', '|']).next().unwrap_or_default().trim().to_owned()));
            }
        }
        assert!(commands.len() > 15);
        for command in commands {
            let mut program = sandbox.program(llama_warden_tests::daemon_program());
            // With the help behind it, a command is parsed and not run.
            program.args(command.split(' ')).arg("--help");
            let run = ProgramRun::to_end(program).await;
            assert_eq!(run.code(), 0, "llama-warden {command}: {}", run.stderr);
        }
    });
}
