//! Keys of the router's clients, and what is counted of their requests.

use std::collections::BTreeSet;
use std::fs;

use http_body_util::BodyExt;
use llama_warden_stand_in::{Script, Wedge};
use llama_warden_tests::{Endpoint, Port, TestRequest, TestResponse, WAIT_LIMIT, eventually, sandbox};

const CHAT: &str = "/v1/chat/completions";

async fn ask(router: &Endpoint, key: &str, model: &str) -> TestResponse {
    let body = format!(r#"{{"model":"{model}","messages":[]}}"#);
    let request = TestRequest::post(CHAT).header("authorization", &format!("Bearer {key}")).body(body);
    request.send(router).await.unwrap()
}

/// Status, and the code of the error.
fn outcome(answer: &TestResponse) -> (u16, String) {
    let code = answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
    (answer.status.as_u16(), code)
}

#[test]
fn keys_say_who_may_ask_for_what_and_a_key_that_is_taken_back_opens_nothing() {
    sandbox(async |sandbox| {
        let port = Port::lease();
        let (router, keys) = (Endpoint::Tcp(port.number()), sandbox.file("keys.toml"));
        let mut fleet = sandbox.fleet();
        let (number, path) = (port.number(), keys.display());
        fleet.section(&format!("[router]\nlisten = \"127.0.0.1:{number}\"\nkeys-file = '{path}'\naccess-log = true"));
        fleet.server("a", Script::default()).server("b", Script::default());
        fleet.server("stuck", Script { wedge: Wedge::Idle, ..Script::default() });
        let config = fleet.write();
        let refused = sandbox.run(&config, ["up", "--plain"]).await.expect(2);
        assert!(refused.stderr.contains("key new NAME --file"), "{}", refused.stderr);
        let checked = sandbox.run(&config, ["check"]).await.expect(2);
        assert!(checked.stderr.contains("key new NAME --file"), "{}", checked.stderr);
        let new = async |options: &[&str]| {
            let run = sandbox.run(&config, ["key", "new"].iter().chain(options)).await.expect(0);
            run.stdout.trim().to_owned()
        };
        let narrow = new(&["narrow", "--models", "a"]).await;
        let admin = new(&["admin", "--admin"]).await;
        let single = new(&["single", "--max-in-flight", "1"]).await;
        let taken = sandbox.run(&config, ["key", "new", "single"]).await.expect(2);
        assert!(taken.stderr.contains("there is a key `single` already"), "{}", taken.stderr);
        let nothing = sandbox.run(&config, ["key", "new", "old", "--existing"]).await.expect(2);
        assert!(nothing.stderr.contains("standard input has no key in its first line"), "{}", nothing.stderr);
        let listed = sandbox.run(&config, ["key", "list"]).await.expect(0);
        assert!(listed.stdout.contains("narrow") && !listed.stdout.contains(&narrow), "{}", listed.stdout);
        sandbox.run(&config, ["check"]).await.expect(0);
        let daemon = sandbox.up(&fleet).await;
        for server in ["a", "b", "stuck"] {
            daemon.ready(server).await;
        }

        let health = TestRequest::get("/health").send(&router).await.unwrap();
        assert_eq!(health.status.as_u16(), 200, "a look needs no key");
        let nobody = TestRequest::post(CHAT).body(r#"{"model":"a"}"#).send(&router).await.unwrap();
        assert_eq!(outcome(&nobody), (401, "unauthorized".to_owned()));
        assert!(nobody.headers.contains_key("www-authenticate"));
        assert_eq!(outcome(&ask(&router, "lw-wrong", "a").await), (401, "unauthorized".to_owned()));
        assert_eq!(outcome(&ask(&router, &narrow, "a").await), (200, String::new()));
        assert_eq!(outcome(&ask(&router, &narrow, "b").await), (403, "model_not_allowed".to_owned()));
        assert_eq!(outcome(&ask(&router, &admin, "b").await), (200, String::new()));

        let models = async |key: &str| {
            let answer = TestRequest::get("/v1/models").header("x-api-key", key).send(&router).await.unwrap().json();
            let ids = answer["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned());
            ids.collect::<BTreeSet<_>>()
        };
        assert_eq!(models(&narrow).await, BTreeSet::from(["a".to_owned()]));
        assert_eq!(models(&admin).await.len(), 3);
        let change = async |key: &str, path: &str| {
            let request = TestRequest::post(path).header("api-key", key).body(r#"{"model":"a"}"#);
            request.send(&router).await.unwrap()
        };
        for path in ["/props?model=a", "/models/load", "/models/unload", "/unload"] {
            assert_eq!(outcome(&change(&narrow, path).await), (403, "not_admin".to_owned()), "{path}");
        }
        for path in ["/props?model=a", "/models/load"] {
            assert_ne!(change(&admin, path).await.status.as_u16(), 403, "{path}");
        }

        let holding = tokio::spawn({
            let (router, single) = (router.clone(), single.clone());
            async move { ask(&router, &single, "stuck").await }
        });
        let in_flight = "llama_warden_router_requests_in_flight{server=\"stuck\"} 1\n";
        eventually("the first one is at work", WAIT_LIMIT, async || daemon.metrics().await.contains(in_flight)).await;
        let limited = ask(&router, &single, "a").await;
        assert_eq!(outcome(&limited), (429, "key_limit".to_owned()));
        assert!(limited.headers.contains_key("retry-after"));
        holding.abort();
        let is_free = async || ask(&router, &single, "a").await.status.as_u16() == 200;
        eventually("the client that left holds no place", WAIT_LIMIT, is_free).await;

        let text = fs::read_to_string(&keys).unwrap();
        let entries: Vec<&str> = text.split("\n\n").filter(|entry| !entry.contains("\"narrow\"")).collect();
        fs::write(&keys, entries.join("\n\n")).unwrap();
        let is_taken_back = async || outcome(&ask(&router, &narrow, "a").await).0 == 401;
        eventually("the key is taken back", WAIT_LIMIT, is_taken_back).await;
        assert_eq!(outcome(&ask(&router, &admin, "a").await).0, 200);
        fs::write(&keys, "[[keys]]\nname = 'half'").unwrap();
        let is_told = async || daemon.log().contains("the file of keys cannot be used");
        eventually("a file that is not valid is told", WAIT_LIMIT, is_told).await;
        assert_eq!(outcome(&ask(&router, &admin, "a").await).0, 200, "and changes nothing");

        let log = daemon.log();
        assert!(log.contains("request finished") && log.contains("key=\"narrow\""), "{log}");
        for secret in [&narrow, &admin, &single] {
            assert!(!log.contains(secret.as_str()), "{log}");
        }
    });
}

#[test]
fn requests_through_the_router_are_counted_and_without_a_router_nothing_is() {
    sandbox(async |sandbox| {
        let port = Port::lease();
        let router = Endpoint::Tcp(port.number());
        let mut fleet = sandbox.fleet();
        fleet.section(&format!("[router]\nlisten = \"127.0.0.1:{}\"", port.number()));
        fleet.server("a", Script::default()).server_with("b", Script::default(), "enabled = false");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        for (model, stream) in [("a", "true"), ("a", "false"), ("b", "false"), ("none", "false")] {
            let body =
                format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"x"}}],"stream":{stream}}}"#);
            TestRequest::post(CHAT).body(body).send(&router).await.unwrap();
        }
        let page = daemon.metrics().await;
        for sample in [
            "requests_total{server=\"a\",route=\"chat\",outcome=\"ok\"} 2\n",
            "requests_total{server=\"b\",route=\"chat\",outcome=\"ok\"} 1\n",
            "requests_total{server=\"\",route=\"chat\",outcome=\"rejected\"} 1\n",
            "requests_in_flight{server=\"a\"} 0\n",
            "requests_waiting{server=\"b\"} 0\n",
            "rejections_total{code=\"model_not_found\"} 1\n",
            "wait_seconds_count{server=\"b\",for=\"start\"} 1\n",
            "request_seconds_count{server=\"a\",route=\"chat\"} 2\n",
            "first_token_seconds_count{server=\"a\"} 1\n",
            "overhead_seconds_count ",
            "retries_total{server=\"a\",cause=\"crash\"} 0\n",
            "evictions_total{server=\"a\",because=\"memory\"} 0\n",
            "body_bytes 0\n",
            "connections{side=\"server\"} ",
        ] {
            assert!(page.contains(&format!("llama_warden_router_{sample}")), "{sample} in {page}");
        }
        let value = |sample: &str| {
            let line = page.lines().find_map(|line| line.strip_prefix(&format!("llama_warden_router_{sample} ")));
            line.and_then(|value| value.parse::<f64>().ok()).unwrap_or_default()
        };
        assert!(value("tokens_total{server=\"a\",kind=\"output\"}") > 0.0, "{page}");

        let off = sandbox.fleet_named("off");
        let daemon = sandbox.up(&off).await;
        assert!(!daemon.metrics().await.contains("llama_warden_router_"));
    });
}

/// With `X-Conversation-Id`, llama-server goes on when the client leaves, so that it can resume the stream.
#[test]
fn a_stream_that_can_be_resumed_stays_in_flight_without_its_client() {
    sandbox(async |sandbox| {
        let port = Port::lease();
        let router = Endpoint::Tcp(port.number());
        let mut fleet = sandbox.fleet();
        fleet.section(&format!("[router]\nlisten = \"127.0.0.1:{}\"", port.number()));
        fleet.server("a", Script { token_ms: 20, ..Script::default() });
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let leave = async |tokens: i32, id: Option<&str>| {
            let body = format!(r#"{{"model":"a","messages":[],"stream":true,"max_tokens":{tokens}}}"#);
            let request = TestRequest::post(CHAT).body(body);
            let request = id.into_iter().fold(request, |request, id| request.header("x-conversation-id", id));
            let mut answer = request.open(&router).await.unwrap();
            answer.body_mut().frame().await.unwrap().unwrap();
        };
        let becomes = async |what: &str, samples: &[&str]| {
            let is_so = async || {
                let page = daemon.metrics().await;
                samples.iter().all(|sample| page.contains(&format!("llama_warden_router_requests_{sample}\n")))
            };
            eventually(what, WAIT_LIMIT, is_so).await;
        };
        let cancelled = |count| format!("total{{server=\"a\",route=\"chat\",outcome=\"cancelled\"}} {count}");
        leave(150, Some("c1")).await;
        becomes(
            "nobody reads it, and it goes on",
            &["detached{server=\"a\"} 1", "in_flight{server=\"a\"} 1", &cancelled(1)],
        )
        .await;
        becomes("it has ended", &["detached{server=\"a\"} 0", "in_flight{server=\"a\"} 0"]).await;
        leave(-1, None).await;
        becomes("another stream ends with its client", &["in_flight{server=\"a\"} 0", &cancelled(2)]).await;
    });
}
