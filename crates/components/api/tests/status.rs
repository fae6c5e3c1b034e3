//! Reading endpoints: probes, metrics, status, models, the OpenAPI document.

#![expect(clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

mod common;

use common::{ApiFixture, id};
use llama_warden_api::{Api, ApiResources, Listeners};
use llama_warden_api_types::{ExtraRoute, ExtraRouteSpec};
use llama_warden_bus::EventDraft;
use llama_warden_client::ClientError;
use llama_warden_component::Component;
use llama_warden_component_kit::TestBus;
use llama_warden_events::{Event, Incarnation};
use llama_warden_state::PhaseName;

#[tokio::test]
async fn the_status_is_the_same_over_tcp_and_over_the_socket() {
    let daemon = ApiFixture::start().await;
    daemon.make_ready("good").await;
    let over_tcp = daemon.over_tcp().status().await.expect("answers");
    assert_eq!((over_tcp.total_servers, over_tcp.ready_servers, over_tcp.running_servers), (4, 1, 1));
    assert_eq!(over_tcp.seq, daemon.bus.bus().snapshot().seq);
    let over_socket = daemon.over_socket().status().await.expect("answers");
    assert_eq!(over_socket.servers.len(), over_tcp.servers.len());

    let good = daemon.over_socket().server(&id("good")).await.expect("known");
    assert_eq!((good.report.phase, good.report.pid), (PhaseName::Ready, Some(42)));
    let error = daemon.over_socket().server(&id("nobody")).await.expect_err("unknown");
    assert!(matches!(&error, ClientError::Problem(problem) if problem.reason == "unknown-server"), "{error}");
    daemon.end().await;
}

#[tokio::test]
async fn the_list_of_servers_is_that_of_the_status() {
    let daemon = ApiFixture::start().await;
    let list = daemon.ask("GET /api/v1/servers", &[]).await;
    let status = daemon.ask("GET /api/v1/status", &[]).await;
    // Ages grow between the two answers.
    let without_ages = |mut servers: serde_json::Value| {
        for server in servers.as_array_mut().expect("servers") {
            server["phase_seconds"].take();
        }
        servers
    };
    assert_eq!(without_ages(list.json()), without_ages(status.json()["servers"].take()));
    assert_eq!(
        (list.header("content-type"), list.header("cache-control")),
        (Some("application/json"), Some("no-store"))
    );
    daemon.end().await;
}

#[tokio::test]
async fn readiness_names_enabled_servers_that_are_not_ready() {
    let daemon = ApiFixture::start().await;
    daemon.make_ready("good").await;
    let answer = daemon.ask("GET /readyz", &[]).await;
    assert_eq!((answer.status, answer.header("content-type")), (503, Some("application/problem+json")));
    assert_eq!(answer.json()["servers"], serde_json::json!(["slow"]));
    assert_eq!(answer.json()["detail"], "not ready: slow (idle)");

    let verbose = daemon.ask("GET /readyz?verbose", &[]).await;
    assert_eq!(verbose.status, 503);
    assert_eq!(verbose.body, "[+]daemon running\n[+]server/good ready\n[-]server/slow idle\nreadyz check failed\n");

    daemon.make_ready("slow").await;
    let answer = daemon.ask("GET /readyz", &[]).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
    daemon
        .publish(EventDraft::incarnation(
            id("slow"),
            Incarnation::new(1),
            Event::ReadyLost { detail: "503".to_owned() },
        ))
        .await;
    assert_eq!(daemon.ask("GET /readyz", &[]).await.status, 503, "no longer");

    daemon.publish(EventDraft::incarnation(id("slow"), Incarnation::new(1), Event::ReadyRegained)).await;
    daemon.publish(EventDraft::daemon(Event::DaemonStopping { trigger: "test".to_owned() })).await;
    let answer = daemon.ask("GET /readyz", &[]).await;
    assert_eq!((answer.status, answer.json()["detail"].as_str()), (503, Some("the daemon is stopping")));
    assert_eq!(daemon.ask("GET /livez", &[]).await.status, 200, "it lives all the same");
    daemon.end().await;
}

#[tokio::test]
async fn metrics_are_rendered_for_what_the_client_accepts() {
    let daemon = ApiFixture::start().await;
    let answer = daemon.ask("GET /metrics?any=thing", &["Accept: application/openmetrics-text"]).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/plain; version=0.0.4")));
    assert_eq!(answer.body, "# Some(\"application/openmetrics-text\")\n");
    daemon.end().await;
}

#[tokio::test]
async fn head_answers_as_get_without_the_body() {
    let daemon = ApiFixture::start().await;
    for path in ["/livez", "/api/v1/status", "/api/v1/events", "/openapi.json"] {
        let answer = daemon.ask(&format!("HEAD {path}"), &[]).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{path}");
        assert!(answer.header("content-type").is_some(), "{path}");
    }
    daemon.end().await;
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_with_a_next_step() {
    let daemon = ApiFixture::start().await;
    for (request, status, reason) in [
        ("GET /api/v1/profiles/nowhere", 404, "unknown-profile"),
        ("POST /api/v1/profiles/nowhere/activate", 404, "unknown-profile"),
        ("POST /api/v1/profiles/night/activate?wait=soon", 400, "bad-query"),
        ("GET /api/v1/profiles/night/activate", 405, "wrong-method"),
        ("GET /", 404, "unknown-path"),
        ("GET /api/v1/servers/nobody", 404, "unknown-server"),
        ("GET /api/v1/servers/..%2f..%2fetc", 404, "unknown-server"),
        ("GET /api/v1/servers/%ff", 404, "unknown-path"),
        ("DELETE /api/v1/servers/good", 405, "wrong-method"),
        ("GET /api/v1/servers/good/start", 405, "wrong-method"),
        ("GET /readyz?loud=1", 400, "bad-query"),
        ("GET /api/v1/servers/good/logs?tail=-1", 400, "bad-query"),
        ("GET /api/v1/servers/good/logs?stream=stdin", 400, "bad-query"),
        ("GET /api/v1/events?since=yesterday", 400, "bad-query"),
    ] {
        let answer = daemon.ask(request, &[]).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (status, Some("application/problem+json")),
            "{request}"
        );
        let problem = answer.json();
        assert_eq!(
            (problem["status"].as_u64(), problem["reason"].as_str()),
            (Some(status.into()), Some(reason)),
            "{request}"
        );
        for member in ["type", "title", "detail", "next_step"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{request}: {member}");
        }
    }
    daemon.end().await;
}

#[tokio::test]
async fn the_description_lists_what_is_routed_and_takes() {
    let daemon = ApiFixture::start().await;
    let description = daemon.ask("GET /openapi.json", &[]).await.json();
    assert_eq!(description, llama_warden_api::openapi_document(&[&common::METRICS]));
    let paths = description["paths"].as_object().expect("paths");
    assert_eq!(paths.len(), 24);
    for (path, operations) in paths {
        let operations = operations.as_object().expect("operations");
        let concrete = path.replace("{id}", "locked").replace("{name}", "night");
        let mut allowed: Vec<String> = operations.keys().cloned().collect();
        if operations.contains_key("get") {
            allowed.push("head".to_owned());
        }
        let answer = daemon.ask(&format!("OPTIONS {concrete}"), &[]).await;
        let mut allow: Vec<_> = answer.header("allow").expect("405 says what is allowed").split(',').collect();
        allow.sort_unstable();
        allowed.sort_unstable();
        assert_eq!((answer.status, allow), (405, allowed.iter().map(String::as_str).collect()), "{path}");

        for (method, operation) in operations {
            let method = method.to_uppercase();
            let parameters = operation["parameters"].as_array().expect("parameters");
            let is_required =
                |parameter: &&serde_json::Value| parameter["in"] == "query" && parameter["required"] == true;
            for parameter in parameters {
                let others = parameters.iter().filter(is_required).filter(|other| other["name"] != parameter["name"]);
                let others: String =
                    others.map(|other| format!("&{}=x", other["name"].as_str().expect("a name"))).collect();
                let name = parameter["name"].as_str().expect("a name");
                let value = match parameter["schema"]["type"].as_str() {
                    _ if parameter["in"] != "query" => continue,
                    Some("integer") => "0",
                    _ if name == "since" => "0123456789abcdef:1",
                    _ if parameter["schema"]["pattern"].is_string() => "1ms",
                    // Free text, where no words are listed.
                    _ => parameter["schema"]["enum"].as_array().and_then(|words| words.last()?.as_str()).unwrap_or("x"),
                };
                // HEAD, where there is one: the answer may be a stream.
                let method = if method == "GET" { "HEAD" } else { &method };
                let answer = daemon.ask(&format!("{method} {concrete}?{name}={value}{others}"), &[]).await;
                assert_ne!(answer.status, 400, "{path} does not take {name}={value}");
                let answer = daemon.ask(&format!("{method} {concrete}?{name}_={value}{others}"), &[]).await;
                assert_eq!(answer.status, 400, "{path} takes what is not described");
            }
        }
    }
    daemon.end().await;
}

#[tokio::test]
async fn an_extra_route_with_an_unusable_path_fails_the_start() {
    for path in ["/livez", "/api/v1/{any}", "metrics"] {
        let directory = tempfile::tempdir().expect("directory");
        let control = directory.path().join("control.sock");
        let mut bus = TestBus::new();
        let spec = Box::leak(Box::new(ExtraRouteSpec { path, ..common::METRICS }));
        let resources = ApiResources {
            listeners: Listeners::bind(None, &control, Vec::new()).expect("binds"),
            token: Default::default(),
            routes: vec![ExtraRoute::new(spec, common::EchoAccept)],
            peers: Default::default(),
            models: std::sync::Arc::new(common::one_model),
            memory: std::sync::Arc::new(llama_warden_memory::SystemMemoryProbe::new()),
            configuration: Default::default(),
            description: "",
        };
        let error = Api::build(&bus.context(""), resources).run(bus.ports(Api::NAME)).await.expect_err("refused");
        assert!(error.to_string().contains(path), "{error}");
    }
}
