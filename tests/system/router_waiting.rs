//! Requests that wait at the router: what their clients hear meanwhile, and how the wait ends.

use llama_warden_stand_in::{LoadProgress, ScheduledAction, Script, ScriptAction, ScriptPhase, Wedge};
use llama_warden_tests::{Endpoint, Sandbox, TestFleet, TestRequest, TestResponse, WAIT_LIMIT, eventually, sandbox};

/// Where the router listens, with these keys.
fn routed(sandbox: &Sandbox, keys: &str) -> (TestFleet, Endpoint) {
    let router = sandbox.file("router.sock");
    let mut fleet = sandbox.fleet();
    fleet.section(&format!("[router]\nlisten = '{}'\n{keys}", router.display()));
    (fleet, Endpoint::Unix(router))
}

fn slow_load(milliseconds: u64) -> Script {
    Script { load_ms: milliseconds, load_progress: LoadProgress::Lines, token_ms: 1, ..Script::default() }
}

/// One that ends before it is ready.
fn failing_load() -> Script {
    let action = ScriptAction::Exit { code: 1, last_words: None };
    let actions = vec![ScheduledAction { at: ScriptPhase::Loading, after_ms: 2500, action }];
    Script { actions, ..slow_load(60_000) }
}

fn stream(path: &str, model: &str) -> TestRequest {
    let body = format!(r#"{{"model": "{model}", "messages": [], "max_tokens": 3, "stream": true}}"#);
    TestRequest::post(path).header("content-type", "application/json").body(body)
}

fn plain(model: &str, tokens: u32) -> TestRequest {
    let body = format!(r#"{{"model": "{model}", "messages": [], "max_tokens": {tokens}}}"#);
    TestRequest::post("/v1/chat/completions").header("content-type", "application/json").body(body)
}

async fn send(request: TestRequest, router: &Endpoint) -> TestResponse {
    request.send(router).await.expect("the router answers")
}

fn comments(answer: &TestResponse) -> Vec<String> {
    answer.text().lines().filter(|line| line.starts_with(':')).map(str::to_owned).collect()
}

/// Waits until the router has so many requests of a server at work, and so many that wait.
async fn stands(router: &Endpoint, model: &str, in_flight: u64, waiting: u64) {
    eventually("requests are at work and wait", WAIT_LIMIT, async || {
        let running = send(TestRequest::get("/running"), router).await.expect(200).json();
        let running = running["running"].as_array().cloned().unwrap_or_default();
        let stands = |entry: &serde_json::Value| entry["in_flight"] == in_flight && entry["waiting"] == waiting;
        running.iter().any(|entry| entry["model"] == model && stands(entry))
    })
    .await;
}

#[test]
fn a_stream_that_waits_hears_how_far_the_load_is_and_then_gets_its_answer() {
    sandbox(async |sandbox| {
        let (mut fleet, router) = routed(sandbox, "ping-after = '0s'");
        fleet.server_with("a", slow_load(2500), "enabled = false\nrouter = { progress = 'comments' }");
        fleet.server_with("b", slow_load(2500), "enabled = false");
        let _daemon = sandbox.up(&fleet).await;
        let chat = "/v1/chat/completions";
        let (told, silent, whole) = tokio::join!(
            send(stream(chat, "a"), &router),
            send(stream(chat, "b"), &router),
            send(plain("a", 3), &router),
        );
        let heard = comments(&told);
        assert!(heard.iter().any(|comment| comment.starts_with(": loading")), "{heard:?}");
        let text = told.text();
        assert!(text.find(':') < text.find("data:") && text.trim_end().ends_with("data: [DONE]"), "{text}");
        assert_eq!((told.status.as_u16(), &told.headers["content-type"]), (200, &"text/event-stream".parse().unwrap()));
        assert_eq!(
            (&told.headers["x-llama-warden-server"], &told.headers["x-accel-buffering"]),
            (&"a".parse().unwrap(), &"no".parse().unwrap())
        );
        assert!(told.headers.contains_key("x-request-id"));
        assert_eq!((comments(&silent).len(), silent.status.as_u16()), (0, 200), "`progress` is that of the server");
        assert_eq!(whole.expect(200).json()["object"], "chat.completion", "no stream, no comments");
    });
}

#[test]
fn a_stream_that_waits_for_long_gets_its_head_and_pings_unless_it_can_be_resumed() {
    sandbox(async |sandbox| {
        let (mut fleet, router) = routed(sandbox, "ping-after = '300ms'");
        fleet.server_with("a", slow_load(1500), "enabled = false");
        let _daemon = sandbox.up(&fleet).await;
        let chat = "/v1/chat/completions";
        let resumable = stream(chat, "a").header("x-conversation-id", "c1");
        let (pinged, resumable) = tokio::join!(send(stream(chat, "a"), &router), send(resumable, &router));
        assert!(comments(&pinged).len() >= 2 && pinged.text().contains("[DONE]"), "{}", pinged.text());
        assert_eq!(comments(&resumable), [""; 0]);
        assert!(resumable.expect(200).text().starts_with("data:"));
    });
}

#[test]
fn an_error_after_the_head_is_an_event_in_the_dialect_of_the_path_and_an_early_one_has_its_status() {
    sandbox(async |sandbox| {
        let (mut fleet, router) = routed(sandbox, "progress = 'comments'");
        fleet.section("[restart]\npolicy = 'never'");
        fleet.server_with("a", failing_load(), "enabled = false");
        let daemon = sandbox.up(&fleet).await;
        let (chat, messages, whole) = tokio::join!(
            send(stream("/v1/chat/completions", "a"), &router),
            send(stream("/v1/messages", "a"), &router),
            send(plain("a", 3), &router),
        );
        let chat = chat.expect(200).text();
        assert!(chat.starts_with(": "), "{chat}");
        let last = chat.trim_end().lines().last().unwrap_or_default().to_owned();
        assert!(last.starts_with("data: {\"error\":") && last.contains("server_failed"), "{chat}");
        let messages = messages.expect(200).text();
        assert!(messages.contains("\nevent: error\ndata: {") && messages.contains("\"type\":\"error\""), "{messages}");
        assert_eq!(whole.expect(503).json()["error"]["code"], "server_failed");
        // It is given up for now, which is known at once.
        let early = send(stream("/v1/chat/completions", "a"), &router).await.expect(503);
        assert_eq!(
            (early.json()["error"]["code"].as_str(), &early.headers["x-should-retry"]),
            (Some("server_failed"), &"false".parse().unwrap())
        );
        assert!(early.text().contains("`llama-warden start a` tries it again"), "{}", early.text());
        assert_eq!(daemon.count("a", "LaunchBegan").await, 1);
    });
}

#[test]
fn a_request_that_a_ready_server_answers_with_loading_waits_for_health_and_is_sent_again() {
    sandbox(async |sandbox| {
        let (mut fleet, router) = routed(sandbox, "");
        fleet.server("a", Script { wedge: Wedge::Loading(2), token_ms: 1, ..Script::default() });
        fleet.server("b", Script { wedge: Wedge::Loading(1000), token_ms: 1, ..Script::default() });
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        daemon.ready("b").await;
        assert_eq!(send(plain("a", 1), &router).await.expect(200).json()["object"], "chat.completion");
        let passed = send(plain("b", 1), &router).await.expect(503);
        assert_eq!(passed.json()["error"]["message"], "Loading model", "its own words, after a number of tries");
        assert_eq!((daemon.count("a", "LaunchBegan").await, daemon.count("b", "ReadyLost").await), (1, 0));
    });
}

#[test]
fn a_server_without_memory_is_told_with_numbers_at_once_and_started_by_no_request() {
    sandbox(async |sandbox| {
        let (mut fleet, router) = routed(sandbox, "");
        fleet.section("[start]\nmemory = 'enforce'");
        // A context whose cache takes two petabytes, which no machine has.
        fleet.server_with("a", Script::default(), "enabled = false\nflags = { ctx-size = 4000000000000 }");
        let daemon = sandbox.up(&fleet).await;
        for _ in 0..2 {
            let refused = send(plain("a", 1), &router).await.expect(503);
            let error = refused.json()["error"].clone();
            let message = error["message"].as_str().unwrap_or_default();
            assert_eq!(error["code"], "no_memory");
            assert!(message.contains("needs ") && message.contains(" is available"), "{message}");
            assert_eq!(refused.headers["x-should-retry"], "false");
        }
        assert_eq!(daemon.count("a", "LaunchBegan").await, 0);
    });
}

#[test]
fn a_server_that_no_rule_lets_in_is_told_at_once() {
    sandbox(async |sandbox| {
        let (mut fleet, router) = routed(sandbox, "max-loaded = 1");
        fleet.server_with("a", Script::default(), "router = { keep = true }");
        fleet.server_with("b", Script::default(), "enabled = false");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let refused = send(plain("b", 1), &router).await.expect(503);
        let error = refused.json()["error"].clone();
        assert_eq!(
            (error["code"].as_str(), &refused.headers["x-should-retry"]),
            (Some("server_failed"), &"false".parse().unwrap())
        );
        assert!(error["message"].as_str().is_some_and(|message| message.contains("max-loaded")), "{error}");
    });
}

#[test]
fn a_full_queue_says_when_its_turn_is_expected_by_the_work_of_earlier_requests() {
    sandbox(async |sandbox| {
        let (mut fleet, router) = routed(sandbox, "queue = 1\nconcurrency = 1");
        fleet.server("a", Script { token_ms: 100, ..Script::default() });
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        send(plain("a", 25), &router).await.expect(200);
        let (first, second, third) = tokio::join!(
            send(plain("a", 25), &router),
            async {
                stands(&router, "a", 1, 0).await;
                send(plain("a", 1), &router).await
            },
            async {
                stands(&router, "a", 1, 1).await;
                send(plain("a", 1), &router).await
            }
        );
        first.expect(200);
        second.expect(200);
        let full = third.expect(429);
        let seconds: u32 = full.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((3..=120).contains(&seconds), "one request of 2.5 s is before it: {seconds}");
    });
}

#[test]
fn a_request_that_waits_for_a_slot_is_served_before_a_younger_one_for_another_server() {
    sandbox(async |sandbox| {
        let (mut fleet, router) = routed(sandbox, "max-loaded = 1\nconcurrency = 1\nevict-busy-after = '100ms'");
        let script = Script { token_ms: 20, ..Script::default() };
        for id in ["a", "b"] {
            fleet.server_with(id, script.clone(), "enabled = false");
        }
        let daemon = sandbox.up(&fleet).await;
        let (first, second, other) = tokio::join!(
            send(plain("a", 400), &router),
            async {
                stands(&router, "a", 1, 0).await;
                send(plain("a", 1), &router).await
            },
            async {
                stands(&router, "a", 1, 1).await;
                send(plain("b", 1), &router).await
            }
        );
        for answer in [first, second, other] {
            answer.expect(200);
        }
        assert_eq!(daemon.count("a", "LaunchBegan").await, 1, "its second request did not wait for a second load");
    });
}
