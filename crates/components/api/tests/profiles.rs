//! Profiles, reload, models and targets.

#![expect(clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

mod common;

use std::time::Duration;

use common::{ApiFixture, Setup, id};
use llama_warden_bus::EventDraft;
use llama_warden_client::{ClientError, ReloadOptions, SwitchMode};
use llama_warden_events::{CommandOutcome, Event, Incarnation, ReadyVia, ServerCard, SuperviseCommand};
use serde_json::{Value, json};

#[tokio::test]
async fn profiles_are_listed_with_the_active_one_marked() {
    let daemon = ApiFixture::start().await;
    daemon.configure_profiles().await;
    let listed = daemon.ask("GET /api/v1/profiles", &[]).await.json();
    let entry = |name: &str, active: bool| json!({ "name": name, "description": format!("for {name}"), "servers": ["good", "slow"], "active": active });
    assert_eq!(listed, json!([entry("all", false), entry("night", false)]));
    let active = daemon.ask("GET /api/v1/profiles/active", &[]).await.json();
    assert_eq!(active, json!({ "profile": null, "servers": ["good", "slow"], "missing": ["good", "slow"] }));

    let client = daemon.over_socket();
    client.activate(Some("night"), SwitchMode::Wait(Duration::from_secs(30))).await.expect("known");
    daemon.make_ready("good").await;
    assert_eq!(daemon.ask("GET /api/v1/profiles/night", &[]).await.json(), entry("night", true));
    let active = client.active_profile().await.expect("answers");
    assert_eq!((active.profile.as_deref(), active.missing), (Some("night"), vec![id("slow")]));
    let marks: Vec<_> = client.profiles().await.expect("answers").into_iter().map(|profile| profile.active).collect();
    assert_eq!(marks, [false, true]);
    daemon.end().await;
}

#[tokio::test]
async fn a_dry_run_answers_with_the_plan_and_asks_for_nothing_else() {
    let mut daemon = ApiFixture::start().await;
    let answer = daemon.ask("POST /api/v1/profiles/night/activate?dry_run=1", &[]).await;
    assert_eq!(answer.status, 200);
    let plan = answer.json();
    assert_eq!((&plan["profile"], &plan["status"]["profile"]), (&json!("night"), &Value::Null));
    let lists = ["stop", "start", "restart", "keep"].map(|list| plan[list].clone());
    assert_eq!(lists, [json!([]), json!(["slow"]), json!([]), json!(["good"])]);
    let expected = SuperviseCommand::ActivateProfile { profile: Some("night".to_owned()), dry_run: true };
    assert_eq!(daemon.commands.recv().await, Some(expected));
    daemon.end().await;
}

#[tokio::test]
async fn a_switch_answers_with_its_plan_at_once_and_when_asked_with_its_end() {
    let mut daemon = ApiFixture::start().await;
    let begun = daemon.ask("POST /api/v1/profiles/all/activate", &[]).await;
    assert_eq!((begun.status, &begun.json()["outcome"], &begun.json()["start"]), (202, &Value::Null, &json!(["slow"])));
    let late = daemon.ask("POST /api/v1/profiles/all/activate?wait=20ms", &[]).await;
    assert_eq!((late.status, &late.json()["outcome"]), (202, &Value::Null));
    let done = daemon.ask("POST /api/v1/profiles/night/activate?wait=30s", &[]).await;
    assert_eq!((done.status, &done.json()["outcome"]), (200, &json!({ "result": "ready" })));
    assert_eq!(done.json()["status"]["profile"], "night");
    let left = daemon.ask("DELETE /api/v1/profiles/active?wait=30s", &[]).await;
    assert_eq!((left.status, &left.json()["status"]["profile"]), (200, &Value::Null));
    for expected in [Some("all"), Some("all"), Some("night"), None] {
        let expected = SuperviseCommand::ActivateProfile { profile: expected.map(str::to_owned), dry_run: false };
        assert_eq!(daemon.commands.recv().await, Some(expected));
    }
    daemon.end().await;
}

#[tokio::test]
async fn the_client_names_profiles_as_they_are() {
    let mut daemon = ApiFixture::start().await;
    let client = daemon.over_tcp();
    let answer = client.activate(None, SwitchMode::Wait(Duration::from_secs(30))).await.expect("always there");
    assert_eq!(answer.outcome, Some(CommandOutcome::Ready));
    daemon.commands.recv().await;
    let error = client.activate(Some("a/b ?é"), SwitchMode::DryRun).await.expect_err("unknown");
    assert!(matches!(&error, ClientError::Problem(problem) if problem.reason == "unknown-profile"), "{error}");
    let expected = SuperviseCommand::ActivateProfile { profile: Some("a/b ?é".to_owned()), dry_run: true };
    assert_eq!(daemon.commands.recv().await, Some(expected));
    daemon.end().await;
}

#[tokio::test]
async fn a_configuration_with_problems_is_answered_with_all_of_them() {
    let daemon = ApiFixture::start().await;
    let answer = daemon.ask("POST /api/v1/reload", &[]).await;
    assert_eq!((answer.status, answer.json()["reason"].as_str()), (422, Some("invalid-configuration")));
    let detail = answer.json()["detail"].as_str().expect("a detail").to_owned();
    assert!(detail.contains("warden.toml:2:1") && detail.contains("warden.toml:3:1"), "{detail}");
    let error = daemon.over_socket().reload(ReloadOptions::default()).await.expect_err("invalid");
    assert!(matches!(&error, ClientError::Problem(problem) if problem.status == 422), "{error}");
    daemon.end().await;
}

#[tokio::test]
async fn the_status_says_why_a_configuration_was_refused() {
    let daemon = ApiFixture::start().await;
    let refused = || daemon.ask("GET /api/v1/status", &[]);
    assert_eq!(refused().await.json()["configuration_refused"], Value::Null);
    let event = Event::ConfigurationRefused { trigger: "test".to_owned(), detail: "line 2".to_owned() };
    daemon.publish(EventDraft::daemon(event)).await;
    assert_eq!(refused().await.json()["configuration_refused"], "line 2");
    daemon.publish(EventDraft::daemon(Event::ConfigurationReloaded { trigger: "test".to_owned() })).await;
    assert_eq!(refused().await.json()["configuration_refused"], Value::Null);
    daemon.end().await;
}

#[tokio::test]
async fn models_are_what_discovery_hands_over() {
    let daemon = ApiFixture::start().await;
    let answer = daemon.ask("GET /api/v1/models", &[]).await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "models": [{ "id": "found" }], "problems": [] })));
    daemon.end().await;
}

/// Makes a server ready that was launched with these arguments.
async fn launch(daemon: &ApiFixture, server: &str, port: u16, argv: &[&str]) {
    let card = ServerCard {
        model: Some("/models/qwen.gguf".into()),
        tier: Some("Q4_K_M".to_owned()),
        ..llama_warden_component_kit::card(&id(server))
    };
    daemon.publish(EventDraft::server(id(server), Event::ServerConfigured { card: card.into() })).await;
    let argv = argv.iter().map(ToString::to_string).collect();
    for event in [
        Event::LaunchBegan { binary: "llama-server".into() },
        Event::ServerSpawned { pid: 7, start_ticks: 1, argv, port },
        Event::ReadyReached { via: ReadyVia::Health, startup_seconds: 0.1 },
    ] {
        daemon.publish(EventDraft::incarnation(id(server), Incarnation::new(1), event)).await;
    }
}

#[tokio::test]
async fn ready_servers_that_serve_metrics_are_targets() {
    let daemon = ApiFixture::start_with(Setup { token: true, ..Setup::default() }).await;
    let targets = async || daemon.ask("GET /api/v1/sd", &[]).await;
    assert_eq!((targets().await.status, targets().await.json()), (200, json!([])), "open, and empty");
    launch(&daemon, "plain", 8101, &["llama-server"]).await;
    launch(&daemon, "quiet", 8102, &["llama-server", "--metrics", "--api-prefix", "/a/"]).await;
    launch(&daemon, "told", 8103, &["llama-server", "--metrics"]).await;
    let groups = targets().await.json();
    let addresses: Vec<_> = groups.as_array().expect("a list").iter().map(|group| &group["targets"]).collect();
    assert_eq!(addresses, [&json!(["127.0.0.1:8102"]), &json!(["127.0.0.1:8103"])]);
    assert_eq!(groups[0]["labels"]["__metrics_path__"], "/a/metrics");
    let labels = &groups[1]["labels"];
    assert_eq!(
        labels,
        &json!({
            "server": "told",
            "__meta_llama_warden_server": "told",
            "__meta_llama_warden_model": "qwen.gguf",
            "__meta_llama_warden_tier": "Q4_K_M",
            "__meta_llama_warden_display_name": "told",
        })
    );
    let lost = Event::ReadyLost { detail: "503".to_owned() };
    daemon.publish(EventDraft::incarnation(id("told"), Incarnation::new(1), lost)).await;
    assert_eq!(targets().await.json().as_array().map(Vec::len), Some(1), "no longer ready");
    daemon.end().await;
}

#[tokio::test]
async fn while_the_daemon_starts_there_is_no_list_of_targets() {
    let daemon = ApiFixture::start_with(Setup { started: false, ..Setup::default() }).await;
    let answer = daemon.ask("GET /api/v1/sd", &[]).await;
    assert_eq!((answer.status, answer.json()["reason"].as_str()), (503, Some("not-ready")));
    daemon.end().await;
}
