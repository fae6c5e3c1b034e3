//! Servers as models: loading and unloading through the router, the stream that tells of it, and streams that a client resumes.

use http_body_util::BodyExt;
use llama_warden_events::Event;
use llama_warden_stand_in::Script;
use llama_warden_state::PhaseName;
use llama_warden_tests::{
    Endpoint, Port, Sandbox, TestDaemon, TestFleet, TestRequest, TestResponse, WAIT_LIMIT, eventually, sandbox,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

const CHAT: &str = "/v1/chat/completions";

/// A router, on a port that its fleet's daemon listens on, with two servers that requests start.
fn on_demand(sandbox: &Sandbox, keys: &str) -> (TestFleet, Port, Endpoint) {
    let port = Port::lease();
    let mut fleet = sandbox.fleet();
    fleet.section(&format!("[router]\nlisten = \"127.0.0.1:{}\"\n{keys}", port.number()));
    let idle = "enabled = false\nrouter = { aliases = [\"org/name:tag\"] }";
    fleet.server_with("a", Script::default(), idle);
    fleet.server_with("b", Script::default(), "enabled = false");
    let router = Endpoint::Tcp(port.number());
    (fleet, port, router)
}

async fn post(router: &Endpoint, path: &str, body: &Value) -> TestResponse {
    TestRequest::post(path).body(body.to_string()).send(router).await.unwrap()
}

/// Status, and the code of the error.
fn outcome(answer: &TestResponse) -> (u16, String) {
    let code = answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
    (answer.status.as_u16(), code)
}

async fn status_of(router: &Endpoint, model: &str) -> Value {
    let models = TestRequest::get("/models").send(router).await.unwrap().expect(200).json();
    let models = models["data"].as_array().unwrap().clone();
    models.into_iter().find(|entry| entry["id"] == model).map(|entry| entry["status"].clone()).unwrap_or_default()
}

/// The events of a stream, each as JSON, as they come.
async fn follow(router: &Endpoint, path: &str) -> mpsc::UnboundedReceiver<Value> {
    let mut body = TestRequest::get(path).open(router).await.unwrap().into_body();
    let (told, events) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut text = String::new();
        while let Some(Ok(frame)) = body.frame().await {
            text.push_str(&String::from_utf8_lossy(frame.data_ref().unwrap()));
            while let Some((event, rest)) = text.split_once("\n\n") {
                let event: Value = serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
                if told.send(event).is_err() {
                    return;
                }
                text = rest.to_owned();
            }
        }
    });
    events
}

async fn next(events: &mut mpsc::UnboundedReceiver<Value>) -> Value {
    tokio::time::timeout(WAIT_LIMIT, events.recv()).await.expect("an event comes").expect("the stream goes on")
}

/// The next events up to the one with this status.
async fn until(events: &mut mpsc::UnboundedReceiver<Value>, status: &str) -> Value {
    loop {
        let event = next(events).await;
        if event["data"]["status"] == status {
            return event;
        }
    }
}

async fn phase_is(daemon: &TestDaemon, server: &str, phase: PhaseName) {
    eventually("the server gets there", WAIT_LIMIT, async || daemon.report(server).await.phase == phase).await;
}

#[test]
fn models_are_loaded_and_unloaded_by_name_and_followers_are_told() {
    sandbox(async |sandbox| {
        let (fleet, _port, router) = on_demand(sandbox, "");
        let daemon = sandbox.up(&fleet).await;
        let mut events = follow(&router, "/models/sse").await;
        assert_eq!(status_of(&router, "a").await, json!({ "value": "unloaded" }));
        assert_eq!(outcome(&post(&router, "/models/load", &json!({ "model": "c" })).await).1, "model_not_found");
        assert_eq!(outcome(&post(&router, "/models/load", &json!({})).await).1, "model_missing");
        assert_eq!(outcome(&post(&router, "/models/unload", &json!({ "model": "a" })).await).1, "model_not_running");

        // Nobody waits, and the server starts.
        let loaded = post(&router, "/models/load", &json!({ "model": "org/name:tag" })).await;
        assert_eq!(loaded.expect(200).json(), json!({ "success": true }));
        let began = next(&mut events).await;
        assert_eq!(began, json!({ "model": "a", "event": "model_status", "data": { "status": "loading" } }));
        let told = until(&mut events, "loaded").await;
        assert_eq!((&told["model"], &told["event"]), (&json!("a"), &json!("status_change")));
        assert_eq!(told["data"]["info"]["aliases"], json!(["org/name:tag"]));
        assert_eq!(status_of(&router, "a").await, json!({ "value": "loaded" }));
        assert_eq!(outcome(&post(&router, "/models/load", &json!({ "model": "a" })).await).1, "model_running");

        let unloaded = post(&router, "/models/unload", &json!({ "model": "a" })).await;
        assert_eq!(unloaded.expect(200).json(), json!({ "success": true }));
        assert_eq!(until(&mut events, "unloaded").await["data"]["exit_code"], 0);
        phase_is(&daemon, "a", PhaseName::Exited).await;
        assert!(daemon.report("a").await.is_unloaded, "a request starts it again");

        // As llama-swap names it; a look must not change anything.
        for model in ["a", "b"] {
            post(&router, CHAT, &json!({ "model": model, "messages": [] })).await.expect(200);
        }
        let refused = TestRequest::get("/unload").send(&router).await.unwrap();
        assert_eq!(outcome(&refused), (405, "method_not_allowed".to_owned()));
        assert_eq!(refused.headers["allow"], "POST");
        assert_eq!(post(&router, "/unload", &json!({})).await.expect(200).text(), "OK");
        for model in ["a", "b"] {
            phase_is(&daemon, model, PhaseName::Exited).await;
        }
        // The daemon's end is the end of the stream.
        drop(daemon);
    });
}

#[test]
fn a_model_that_cannot_be_loaded_says_why_and_a_stopped_one_stays_down() {
    sandbox(async |sandbox| {
        let (mut fleet, _port, router) = on_demand(sandbox, "");
        fleet.server_of("missing", &sandbox.file("missing.gguf"), "enabled = false");
        let daemon = sandbox.up(&fleet).await;
        let mut events = follow(&router, "/models/sse").await;
        post(&router, "/models/load", &json!({ "model": "missing" })).await.expect(200);
        let failed = until(&mut events, "unloaded").await;
        assert_eq!((&failed["model"], &failed["data"]["reason"]), (&json!("missing"), &json!("model-not-found")));
        let status = status_of(&router, "missing").await;
        let expected = json!({ "value": "unloaded", "failed": true, "reason": "model-not-found" });
        assert_eq!(status, expected);

        post(&router, "/models/load", &json!({ "model": "a" })).await.expect(200);
        daemon.ready("a").await;
        daemon.command("a", "stop").await.expect(202);
        phase_is(&daemon, "a", PhaseName::Exited).await;
        assert_eq!(outcome(&post(&router, "/models/load", &json!({ "model": "a" })).await).1, "server_stopped");
    });
}

#[test]
fn a_page_below_upstream_is_redirected_and_looks_at_a_server_start_nothing() {
    sandbox(async |sandbox| {
        let (fleet, _port, router) = on_demand(sandbox, "");
        let daemon = sandbox.up(&fleet).await;
        let get = async |path: &str| TestRequest::get(path).send(&router).await.unwrap();
        let redirected = get("/upstream/org%2Fname:tag?x=1").await.expect(308);
        assert_eq!(redirected.headers["location"], "/upstream/org%2Fname:tag/?x=1");
        for path in ["/upstream/org%2Fname:tag/", "/upstream/b/app.js", "/props?model=a", "/slots?model=b"] {
            let answer = get(path).await;
            assert_eq!(outcome(&answer), (503, "server_not_ready".to_owned()), "{path}");
            assert!(answer.text().contains("POST /models/load"), "{}", answer.text());
        }
        assert_eq!(daemon.status().await.running_servers, 0, "nothing was started");
        post(&router, "/upstream/org%2Fname:tag/completion", &json!({ "prompt": "x" })).await.expect(200);
        get("/upstream/org%2Fname:tag/props").await.expect(200);
        assert_eq!(get("/upstream/a/nothing").await.headers["x-llama-warden-server"], "a");
        let running = get("/running").await.expect(200).json();
        assert_eq!((&running["running"][0]["model"], &running["running"][0]["state"]), (&json!("a"), &json!("ready")));
    });
}

/// The client leaves amid its answer; the server goes on, is not taken for idle, and the client gets the rest by the id.
#[test]
fn a_stream_outlives_its_client_and_is_resumed_through_the_router() {
    sandbox(async |sandbox| {
        let (fleet, _port, router) = on_demand(sandbox, "");
        fleet.rewrite("a", &Script { token_ms: 20, ..Script::default() });
        let daemon = sandbox.up(&fleet).await;
        post(&router, CHAT, &json!({ "model": "b", "messages": [] })).await.expect(200);
        let body = json!({ "model": "a", "messages": [], "stream": true, "max_tokens": 100_000 }).to_string();
        let begin = TestRequest::post(CHAT).header("x-conversation-id", "talk::a").body(body);
        let mut answer = begin.open(&router).await.unwrap().into_body();
        let first = answer.frame().await.unwrap().unwrap().into_data().unwrap();
        drop(answer);

        let look_up = async |id: &str| {
            let asked = json!({ "conversation_ids": [id] });
            post(&router, "/v1/streams/lookup", &asked).await.expect(200).json().as_array().unwrap().clone()
        };
        let found = look_up("talk::a").await;
        assert_eq!((found.len(), &found[0]["is_done"]), (1, &json!(false)));
        assert!(look_up("nothing").await.is_empty());
        let running = TestRequest::get("/running").send(&router).await.unwrap().json();
        let in_flight = running["running"].as_array().unwrap().iter().find(|entry| entry["model"] == "a");
        assert_eq!(in_flight.unwrap()["in_flight"], 1, "the server works for a client that has left");

        // By the model in the id, and by asking around where the id names none that runs.
        let mut resumed = TestRequest::get("/v1/stream?conv_id=talk%3A%3Aa&from=0").open(&router).await.unwrap();
        assert_eq!(resumed.headers()["x-llama-warden-server"], "a");
        let again = resumed.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(again.starts_with(&first), "it begins with what was seen");
        drop(resumed);
        let unknown = TestRequest::get("/v1/stream?conv_id=talk").send(&router).await.unwrap();
        assert_eq!(outcome(&unknown), (404, "stream_not_found".to_owned()));
        let nameless = TestRequest::get("/v1/stream").send(&router).await.unwrap();
        assert_eq!(outcome(&nameless), (400, "stream_missing".to_owned()));

        // An unloading waits for it, and it can be ended meanwhile.
        post(&router, "/models/unload", &json!({ "model": "a" })).await.expect(200);
        assert_eq!(status_of(&router, "a").await["value"], "loaded");
        let delete =
            async |id: &str| TestRequest::delete(format!("/v1/stream?conv_id={id}")).send(&router).await.unwrap();
        delete("talk::a").await.expect(204);
        delete("nothing").await.expect(204);
        phase_is(&daemon, "a", PhaseName::Exited).await;
    });
}

#[test]
fn the_status_says_where_requests_for_every_model_go() {
    sandbox(async |sandbox| {
        let (fleet, port, _) = on_demand(sandbox, "");
        let config = fleet.path();
        let daemon = sandbox.up(&fleet).await;
        let url = format!("http://127.0.0.1:{}", port.number());
        let router = daemon.status().await.router.expect("the router listens");
        assert_eq!((&router.base_url, router.on_demand, router.needs_key), (&url, true, false));
        let line = format!("one address for all models: {url}/v1");
        let status = sandbox.run(&config, ["status"]).await.expect(0).stdout;
        assert!(status.contains(&line) && status.contains("on demand"), "{status}");
        daemon.command("a", "start").await.expect(202);
        let waited = sandbox.run(&config, ["wait", "a"]).await.expect(0).stdout;
        assert!(waited.contains(&line), "{waited}");

        let without = sandbox.fleet_named("without");
        let daemon = sandbox.up(&without).await;
        assert_eq!(daemon.status().await.router, None);
        let status = sandbox.run(&without.path(), ["status"]).await.expect(0).stdout;
        assert!(!status.contains("one address"), "{status}");
    });
}

#[test]
fn the_address_of_the_router_is_checked_like_that_of_a_server() {
    sandbox(async |sandbox| {
        let (mut fleet, port, _) = on_demand(sandbox, "");
        let number = port.number();
        fleet.server_with("c", Script::default(), &format!("port = {number}"));
        let checked = sandbox.run(&fleet.write(), ["check"]).await.expect(2);
        assert!(checked.stderr.contains(&format!("port {number} is taken twice")), "{}", checked.stderr);

        let (fleet, port, _) = on_demand(sandbox, "");
        let number = port.number();
        let config = fleet.write();
        let free = sandbox.run(&config, ["doctor"]).await;
        assert!(free.stdout.contains(&format!("127.0.0.1:{number} is free for the router")), "{}", free.stdout);
        let _held = std::net::TcpListener::bind(("127.0.0.1", number)).unwrap();
        let taken = sandbox.run(&config, ["doctor"]).await.expect(1);
        assert!(taken.stdout.contains(&format!("the router cannot listen on 127.0.0.1:{number}")), "{}", taken.stdout);
        let refused = sandbox.run(&config, ["up", "--plain"]).await.expect(1);
        assert!(refused.stderr.contains("listens there"), "{}", refused.stderr);
        assert!(refused.stderr.contains("set another `listen` in [router]"), "{}", refused.stderr);
    });
}

#[test]
fn a_router_answers_as_soon_as_the_daemon_is_up_and_one_that_cannot_listen_fails_the_start() {
    sandbox(async |sandbox| {
        let socket = sandbox.file("router.sock");
        let mut fleet = sandbox.fleet();
        fleet.section(&format!("[router]\nlisten = '{}'", socket.display()));
        let config = fleet.write();
        std::fs::write(&socket, "precious").unwrap();
        let refused = sandbox.run(&config, ["up", "--plain"]).await.expect(1);
        assert!(refused.stderr.contains("router.sock is not a socket"), "{}", refused.stderr);
        assert!(refused.stderr.contains("set another `listen` in [router]"), "{}", refused.stderr);
        assert_eq!(std::fs::read_to_string(&socket).unwrap(), "precious");
        std::fs::remove_file(&socket).unwrap();
        // One that a dead process has left is replaced.
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let daemon = sandbox.up(&fleet).await;
        let started = daemon.event("the router is told of", |event| matches!(event.event, Event::DaemonStarted { .. }));
        assert!(matches!(started.await.event, Event::DaemonStarted { router: Some(_), .. }));
        TestRequest::get("/health").send(&Endpoint::Unix(socket.clone())).await.unwrap().expect(200);

        let mut beside = sandbox.fleet_named("beside");
        beside.section(&format!("[router]\nlisten = '{}'", socket.display()));
        let refused = sandbox.run(&beside.write(), ["up", "--plain"]).await.expect(1);
        assert!(refused.stderr.contains("another daemon answers on"), "{}", refused.stderr);
        daemon.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(daemon.exit_code().await, 0);
        assert!(!socket.exists(), "it leaves with its daemon");
    });
}
