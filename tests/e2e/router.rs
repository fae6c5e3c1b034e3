//! The router before real builds: every path of llama-server, the shapes of its own router, and its page in a browser.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use llama_warden_tests::{
    Endpoint, ExternalProgram, Port, Sandbox, TestDaemon, TestFleet, TestRequest, TestResponse, WAIT_LIMIT, eventually,
    external_program, sandbox,
};
use llama_warden_tiny_gguf::TinyModel;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Map, Value, json};
use tokio::process::{Child, Command};

use crate::dashboard;
use crate::fleet::{add, real_fleet};
use crate::scripts;

/// A daemon with two servers behind a router: `a` runs, `b` starts with a request.
async fn routed(sandbox: &Sandbox, llama_server: &Path, flags: &str) -> (TestFleet, TestDaemon, Port) {
    let port = Port::lease();
    let mut fleet = real_fleet(sandbox, llama_server);
    fleet.section(&format!("[router]\nlisten = \"127.0.0.1:{}\"", port.number()));
    fleet.section(&format!("[flags]\nctx-size = 2048\nthreads = 1\nparallel = 1\n{flags}"));
    add(&mut fleet, "a", "");
    add(&mut fleet, "b", "enabled = false");
    let daemon = sandbox.up(&fleet).await;
    daemon.ready("a").await;
    (fleet, daemon, port)
}

/// Every path that llama-server has, and some that it has not: method, path, body. All name the model as the router wants it.
fn requests() -> Vec<(&'static str, &'static str, Value)> {
    let chat = json!({ "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 4, "temperature": 0 });
    let prompt = json!({ "prompt": "hi there", "max_tokens": 4, "n_predict": 4, "temperature": 0 });
    let input = json!({ "input": "hi", "content": "hi", "max_output_tokens": 4, "temperature": 0 });
    let rerank = json!({ "query": "hi", "documents": ["a"] });
    let streamed = |body: &Value| with(body, "stream", true.into());
    let mut all = Vec::new();
    let mut add = |method, body: &Value, paths: &[&'static str]| {
        all.extend(paths.iter().map(|path| (method, *path, body.clone())));
    };
    let chats = ["/v1/chat/completions", "/chat/completions", "/v1/messages"];
    let prompts = ["/v1/completions", "/completions", "/completion"];
    add("POST", &chat, &chats);
    add("POST", &streamed(&chat), &chats);
    add("POST", &prompt, &prompts);
    add("POST", &streamed(&prompt), &prompts);
    add("POST", &input, &["/v1/responses", "/responses", "/v1/embeddings", "/embeddings", "/embedding"]);
    add("POST", &streamed(&input), &["/v1/responses"]);
    add("POST", &rerank, &["/v1/rerank", "/v1/reranking", "/rerank", "/reranking"]);
    add("POST", &json!({ "input_prefix": "a", "input_suffix": "b", "n_predict": 2 }), &["/infill"]);
    add(
        "POST",
        &json!({}),
        &["/v1/systemone", "/v1/chat/completions/control", "/v1/chat/completions", "/v1/completions"],
    );
    add("POST", &chat, &["/v1/messages/count_tokens", "/v1/chat/completions/input_tokens", "/apply-template"]);
    add("POST", &chat, &["/messages/count_tokens", "/chat/completions/input_tokens"]);
    add("POST", &input, &["/v1/responses/input_tokens", "/responses/input_tokens", "/tokenize"]);
    add("POST", &json!({ "tokens": [300, 301] }), &["/detokenize"]);
    add("POST", &json!({}), &["/props?model=a", "/slots/0?model=a&action=erase", "/slots/0?action=none&model=a"]);
    add(
        "POST",
        &json!({}),
        &["/v1/audio/speech", "/v1/audio/transcriptions", "/v1/images/generations", "/v1/moderations"],
    );
    add("GET", &Value::Null, &["/props?model=a", "/slots?model=a", "/metrics?model=a", "/lora-adapters?model=a"]);
    add("GET", &Value::Null, &["/health", "/v1/health"]);
    all
}

fn with(body: &Value, key: &str, value: Value) -> Value {
    let mut body = body.clone();
    body[key] = value;
    body
}

async fn ask(port: u16, method: &str, path: &str, body: &Value) -> TestResponse {
    let request = if method == "GET" { TestRequest::get(path) } else { TestRequest::post(path) };
    let request = request.header("content-type", "application/json");
    let body = if body.is_null() { String::new() } else { with(body, "model", "a".into()).to_string() };
    request.body(body).send(&Endpoint::Tcp(port)).await.unwrap()
}

/// What an answer says, without what differs from one to the next: times, counts of the cache, ids.
fn said(answer: &TestResponse) -> Vec<Value> {
    let text = answer.text();
    if let Ok(json) = serde_json::from_str(&text) {
        return vec![steady(json)];
    }
    let line = |line: &str| {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        serde_json::from_str(rest).map_or_else(|_| name.into(), |json| json!([name, steady(json)]))
    };
    text.lines().map(line).collect()
}

fn steady(value: Value) -> Value {
    const VARIES: [&str; 16] = [
        "id",
        "item_id",
        "created",
        "created_at",
        "completed_at",
        "timings",
        "media_marker",
        "id_slot",
        "id_task",
        "cached_tokens",
        "tokens_cached",
        "cache_read_input_tokens",
        "input_tokens",
        "tokens_evaluated",
        "response_id",
        "next_token",
    ];
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(key, _)| !VARIES.contains(&&**key));
            Value::Object(kept.map(|(key, value)| (key, steady(value))).collect())
        }
        Value::Array(items) => items.into_iter().map(steady).collect(),
        // Numbers of a page of metrics.
        other => other,
    }
}

#[test]
fn every_path_of_a_server_answers_alike_through_the_router() {
    sandbox(async |sandbox| {
        let Some(llama_server) = external_program(ExternalProgram::LlamaServer) else { return };
        let (fleet, daemon, port) = routed(sandbox, &llama_server, "metrics = true\nslots = true").await;
        let direct = fleet.port("a");
        for (method, path, body) in requests() {
            // The second answer is from the cache, as the third is.
            ask(direct, method, path, &body).await;
            let (expected, given) =
                (ask(direct, method, path, &body).await, ask(port.number(), method, path, &body).await);
            let facts = |answer: &TestResponse| {
                let kind = answer.headers.get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
                // The router itself says that it lives.
                let kind = kind.filter(|_| !path.ends_with("/health"));
                (answer.status, kind, said(answer))
            };
            assert_eq!(facts(&given), facts(&expected), "{method} {path} {body}");
        }
        assert_eq!(daemon.report("b").await.incarnation.get(), 0, "the other server was never wanted");
    });
}

/// What a proxy must not pass on, and what is nobody's.
#[test]
fn what_is_no_models_matter_is_not_passed_on() {
    sandbox(async |sandbox| {
        let Some(llama_server) = external_program(ExternalProgram::LlamaServer) else { return };
        let (_fleet, _daemon, port) = routed(sandbox, &llama_server, "").await;
        for (method, path) in [
            ("POST", "/tools"),
            ("GET", "/cors-proxy"),
            ("GET", "/upstream/a/tools"),
            ("POST", "/api/chat"),
            ("GET", "/"),
        ] {
            let answer = ask(port.number(), method, path, &json!({})).await;
            let code = answer.json()["error"]["code"].clone();
            assert_eq!((answer.status.as_u16(), code), (404, json!("path_not_found")), "{method} {path}");
        }
    });
}

/// llama-server as a router of its own, of the models in a folder.
async fn own_router(sandbox: &Sandbox, llama_server: &Path) -> (Child, Port) {
    let folder = sandbox.file("own-models");
    std::fs::create_dir_all(&folder).unwrap();
    for id in ["a", "b"] {
        TinyModel::new(id).write(&folder.join(format!("{id}.gguf"))).unwrap();
    }
    let port = Port::lease();
    let mut command: Command = sandbox.program(llama_server);
    command.arg("--models-dir").arg(&folder).args(["--ctx-size", "2048", "--port", &port.number().to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let child = command.spawn().unwrap();
    let endpoint = Endpoint::Tcp(port.number());
    eventually("llama-server's router answers", WAIT_LIMIT, async || endpoint.answers("/health").await).await;
    (child, port)
}

/// The kinds of all members, by their path; those of an array are its first element's.
fn shape(value: &Value) -> BTreeMap<String, &'static str> {
    fn walk(path: &str, value: &Value, into: &mut BTreeMap<String, &'static str>) {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(members) => {
                members.iter().for_each(|(key, value)| walk(&format!("{path}.{key}"), value, into));
                "object"
            }
        };
        into.insert(path.to_owned(), kind);
    }
    let mut into = BTreeMap::new();
    walk("", value, &mut into);
    into
}

/// What ours has beside theirs, and what it leaves out.
fn difference(ours: &Value, theirs: &Value) -> (Vec<String>, Vec<String>) {
    let (ours, theirs) = (shape(ours), shape(theirs));
    let only = |these: &BTreeMap<String, &str>, those: &BTreeMap<String, &str>| {
        these.iter().filter(|(path, kind)| those.get(*path) != Some(kind)).map(|(path, _)| path.clone()).collect()
    };
    (only(&ours, &theirs), only(&theirs, &ours))
}

async fn entry(port: u16) -> Value {
    let list = TestRequest::get("/models").send(&Endpoint::Tcp(port)).await.unwrap().expect(200).json();
    assert_eq!(list["object"], "list");
    assert_eq!(list.as_object().unwrap().keys().collect::<Vec<_>>(), ["data", "object"]);
    list["data"].as_array().unwrap().iter().find(|entry| entry["id"] == "a").unwrap().clone()
}

async fn has_status(port: u16, status: &str) {
    eventually("the model gets there", WAIT_LIMIT, async || entry(port).await["status"]["value"] == status).await;
}

/// The events of models, the first of each kind and status.
struct ModelEvents {
    body: Incoming,
    text: String,
    first: BTreeMap<String, Value>,
}

impl ModelEvents {
    async fn follow(endpoint: &Endpoint) -> Self {
        let body = TestRequest::get("/models/sse").open(endpoint).await.unwrap().into_body();
        Self { body, text: String::new(), first: BTreeMap::new() }
    }

    async fn until(&mut self, wanted: &str) {
        while !self.first.contains_key(wanted) {
            let frame = tokio::time::timeout(WAIT_LIMIT, self.body.frame()).await.expect("an event").unwrap().unwrap();
            self.text.push_str(&String::from_utf8_lossy(frame.data_ref().unwrap()));
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let event: Value = serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
                let name =
                    format!("{} {}", event["event"].as_str().unwrap(), event["data"]["status"].as_str().unwrap());
                self.text = rest.to_owned();
                self.first.entry(name).or_insert(event);
            }
        }
    }
}

/// The events while a model is loaded and unloaded, and its entry after both.
async fn load_and_unload(port: u16) -> (BTreeMap<String, Value>, [Value; 2]) {
    let endpoint = Endpoint::Tcp(port);
    let mut events = ModelEvents::follow(&endpoint).await;
    let post = async |path: &str, model: &str| {
        let answer = TestRequest::post(path).body(json!({ "model": model }).to_string()).send(&endpoint).await.unwrap();
        (answer.status.as_u16(), answer.json())
    };
    assert_eq!(post("/models/unload", "a").await.0, 400, "it is not running");
    assert_eq!(post("/models/load", "c").await.0, 404);
    assert_eq!(post("/models/load", "a").await, (200, json!({ "success": true })));
    events.until("status_change loaded").await;
    let loaded = entry(port).await;
    let (status, refused) = post("/models/load", "a").await;
    assert_eq!(status, 400);
    assert!(refused["error"]["message"].as_str().unwrap().starts_with("model is already running"), "{refused}");
    assert_eq!(refused["error"]["type"], "invalid_request_error");
    assert_eq!(post("/models/unload", "a").await, (200, json!({ "success": true })));
    events.until("status_change unloaded").await;
    has_status(port, "unloaded").await;
    (events.first, [loaded, entry(port).await])
}

#[test]
fn models_have_the_shapes_of_llama_servers_own_router() {
    sandbox(async |sandbox| {
        let Some(llama_server) = external_program(ExternalProgram::LlamaServer) else { return };
        let (mut child, theirs) = own_router(sandbox, &llama_server).await;
        let (_fleet, _daemon, ours) = routed(sandbox, &llama_server, "").await;
        let unload = TestRequest::post("/unload").send(&Endpoint::Tcp(ours.number())).await.unwrap();
        unload.expect(200);
        has_status(ours.number(), "unloaded").await;

        let (our_events, our_entries) = load_and_unload(ours.number()).await;
        let (their_events, their_entries) = load_and_unload(theirs.number()).await;
        assert_eq!(our_events.keys().collect::<Vec<_>>(), their_events.keys().collect::<Vec<_>>());
        for (name, event) in &our_events {
            assert_eq!(difference(event, &their_events[name]), (vec![], vec![]), "{name}");
        }
        for (our, their) in our_entries.iter().zip(&their_entries) {
            let (added, mut left_out) = difference(our, their);
            // Theirs may end with an error where the machine is busy.
            left_out.retain(|path| ![".status.exit_code", ".status.failed"].contains(&&**path));
            // Never the path of the model and other arguments.
            let arguments = [".status.args", ".status.preset"].map(str::to_owned).to_vec();
            assert_eq!((added, left_out), (vec![".name".to_owned()], arguments), "{our} {their}");
            for key in ["architecture", "meta", "context_length", "object", "owned_by", "can_remove", "tags"] {
                assert_eq!(our.get(key), their.get(key), "{key}");
            }
        }
        let props = async |port: u16| TestRequest::get("/props").send(&Endpoint::Tcp(port)).await.unwrap().json();
        let (our_props, their_props) = (props(ours.number()).await, props(theirs.number()).await);
        assert_eq!(difference(&our_props, &their_props), (vec![], vec![]));
        let fixed = |props: &Value| -> Map<String, Value> {
            let named = ["role", "model_path", "default_generation_settings", "models_autoload", "ui_settings"];
            named.iter().map(|key| ((*key).to_owned(), props[*key].clone())).collect()
        };
        assert_eq!(fixed(&our_props), fixed(&their_props));
        kill(Pid::from_raw(child.id().unwrap().try_into().unwrap()), Signal::SIGTERM).unwrap();
        child.wait().await.unwrap();
    });
}

#[test]
fn a_model_that_sleeps_is_said_to_and_looks_do_not_wake_it() {
    sandbox(async |sandbox| {
        let Some(llama_server) = external_program(ExternalProgram::LlamaServer) else { return };
        let (_fleet, _daemon, port) = routed(sandbox, &llama_server, "sleep-idle-seconds = 1").await;
        has_status(port.number(), "sleeping").await;
        for _ in 0..3 {
            assert_eq!(entry(port.number()).await["status"]["value"], "sleeping");
        }
        let body = json!({ "prompt": "hi", "n_predict": 2 });
        assert_eq!(ask(port.number(), "POST", "/completion", &body).await.status, 200);
        assert_eq!(entry(port.number()).await["status"]["value"], "loaded");
    });
}

#[test]
fn the_page_of_a_server_works_through_the_router() {
    sandbox(async |sandbox| {
        let Some(llama_server) = external_program(ExternalProgram::LlamaServer0_3_16) else { return };
        let Some(mut command) = dashboard::script(sandbox, "llama_page.mjs") else { return };
        let (_fleet, _daemon, port) = routed(sandbox, &llama_server, "").await;
        command.env("LLAMA_WARDEN_TEST_URL", format!("http://127.0.0.1:{}/", port.number()));
        scripts::run(command, async |what| panic!("nobody can {what}")).await;
    });
}
