//! Requests whose server is stopped on purpose, cannot be started for now, or whose daemon ends: their clients are told which.

use std::time::{Duration, Instant};

use llama_warden_stand_in::{ScheduledAction, Script, ScriptAction, ScriptPhase};
use llama_warden_tests::{
    Endpoint, Port, RoutedDaemon, Sandbox, TestRequest, WAIT_LIMIT, connect, error_word, eventually, exchange_bytes,
    parsed_answer, post_bytes, post_head, read_answer, sandbox,
};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CHAT: &str = "/v1/chat/completions";

/// Long before any limit of a wait in these tests.
const AT_ONCE: Duration = Duration::from_secs(10);

/// A request whose answer takes minutes.
fn long(stream: bool) -> Vec<u8> {
    post_bytes(CHAT, "", json!({ "model": "a", "stream": stream, "max_tokens": 100_000, "messages": [] }).to_string())
}

async fn sent(routed: &RoutedDaemon, bytes: &[u8]) -> TcpStream {
    let mut stream = connect(routed.port()).await;
    stream.write_all(bytes).await.expect("it is read");
    stream
}

/// One that ends before it is ready.
fn failing() -> Script {
    let action = ScriptAction::Exit { code: 1, last_words: None };
    Script { actions: vec![ScheduledAction { at: ScriptPhase::Loading, after_ms: 0, action }], ..Script::default() }
}

/// The code in the last event of a stream that ends as one should.
fn last_code(answer: &str) -> String {
    assert!(answer.ends_with("\r\n0\r\n\r\n"), "its end is no proper one: {answer}");
    let error = answer.rsplit("data: ").next().and_then(|event| event.lines().next()).unwrap_or_default();
    let error: serde_json::Value = serde_json::from_str(error).unwrap_or_else(|error| panic!("{error}: {answer}"));
    error_word(&error).to_owned()
}

#[test]
fn a_stream_is_told_that_its_server_was_stopped_and_that_it_crashed_only_where_it_did() {
    sandbox(async |sandbox| {
        let script = Script { token_ms: 20, ..Script::default() };
        let routed = RoutedDaemon::up(sandbox, "drain = '0s'", &[("a", script, "")]).await;
        for (command, code) in [
            ("stop?force=true&wait=30s", "server_stopped"),
            ("stop?grace=0s&wait=30s", "server_stopped"),
            ("restart?force=true&wait=30s", "server_stopped"),
        ] {
            routed.daemon.command("a", "start?wait=30s").await.expect(200);
            let mut streaming = sent(&routed, &long(true)).await;
            streaming.read_exact(&mut [0; 400]).await.expect("it streams");
            let (answer, ended) = tokio::join!(read_answer(&mut streaming), routed.daemon.command("a", command));
            ended.expect(200);
            assert_eq!(last_code(&answer), code, "{command}");
        }
        let mut streaming = sent(&routed, &long(true)).await;
        streaming.read_exact(&mut [0; 400]).await.expect("it streams");
        let pid = routed.daemon.report("a").await.pid.expect("it runs");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).expect("ours");
        assert_eq!(last_code(&read_answer(&mut streaming).await), "server_crashed");
        routed.daemon.failure("a").await;
        routed.daemon.command("a", "start?wait=30s").await.expect(200);
        let mut streaming = sent(&routed, &long(true)).await;
        streaming.read_exact(&mut [0; 400]).await.expect("it streams");
        routed.daemon.signal(Signal::SIGTERM);
        assert_eq!(last_code(&read_answer(&mut streaming).await), "shutting_down");
        assert_eq!(routed.daemon.exit_code().await, 0);
    });
}

#[test]
fn a_body_that_is_not_whole_when_the_daemon_ends_is_answered_and_holds_nothing_up() {
    sandbox(async |sandbox| {
        let routed = RoutedDaemon::up(sandbox, "", &[("a", Script::default(), "")]).await;
        routed.daemon.ready("a").await;
        let half = format!("{}{{\"model\":\"a\",", post_head(CHAT, "Content-Length: 1000\r\n"));
        let mut uploading = sent(&routed, half.as_bytes()).await;
        let mut silent = sent(&routed, b"POST /v1/chat").await;
        eventually("the body is read", WAIT_LIMIT, async || routed.metric("body_bytes", &[]).await > 0.0).await;
        routed.daemon.signal(Signal::SIGTERM);
        let answer = read_answer(&mut uploading).await;
        let (status, body) = parsed_answer(&answer);
        assert_eq!((status, error_word(&body)), (503, "shutting_down"), "{answer}");
        assert_eq!(
            silent.read(&mut [0; 1]).await.unwrap_or_default(),
            0,
            "a head that does not come is not waited for"
        );
        assert_eq!(routed.daemon.exit_code().await, 0);
        assert!(!routed.daemon.log().contains("did not end in time"), "{}", routed.daemon.log());
    });
}

#[test]
fn a_request_for_a_server_whose_model_is_missing_is_told_so_at_once_and_served_once_it_is_there() {
    sandbox(async |sandbox| {
        let router = Port::lease();
        let mut fleet = sandbox.fleet();
        fleet.section(&format!("[router]\nlisten = '127.0.0.1:{}'", router.number()));
        fleet.section("[restart]\ninitial-delay = '50ms'\nmax-delay = '50ms'");
        fleet.server_with("a", Script { token_ms: 1, ..Script::default() }, "enabled = false");
        let (model, elsewhere) = (fleet.model("a"), fleet.model("a").with_extension("elsewhere"));
        std::fs::rename(&model, &elsewhere).expect("ours");
        let daemon = sandbox.up(&fleet).await;
        let body = |stream| json!({ "model": "a", "stream": stream, "messages": [], "max_tokens": 3 }).to_string();
        for stream in [false, true] {
            let begun = Instant::now();
            let request = TestRequest::post(CHAT).header("content-type", "application/json").body(body(stream));
            let answer = request.send(&Endpoint::Tcp(router.number())).await.expect("an answer").expect(503);
            assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
            let error = answer.json();
            assert_eq!(error_word(&error), "server_failed", "{error}");
            let message = error["error"]["message"].as_str().unwrap_or_default();
            assert!(message.contains("model-not-found") && message.contains("it is looked for again in"), "{message}");
            assert_eq!(answer.headers["retry-after"], "1");
        }
        std::fs::rename(&elsewhere, &model).expect("ours");
        daemon.ready("a").await;
        let request = TestRequest::post(CHAT).header("content-type", "application/json").body(body(false));
        request.send(&Endpoint::Tcp(router.number())).await.expect("an answer").expect(200);
    });
}

/// With the delays of this test, the restart comes within the time of the request once in some hundred thousand runs.
#[test]
fn a_request_does_not_wait_for_a_restart_that_comes_after_its_time() {
    sandbox(async |sandbox: &Sandbox| {
        let router = Port::lease();
        let mut fleet = sandbox.fleet();
        fleet.section(&format!("[router]\nlisten = '127.0.0.1:{}'\nqueue-timeout = '25s'", router.number()));
        fleet.section("[restart]\ninitial-delay = '1000h'\nmax-delay = '1000h'");
        fleet.server_with("a", failing(), "enabled = false");
        let daemon = sandbox.up(&fleet).await;
        // The first has it launched and waits when it fails; the second finds it so.
        for _ in 0..2 {
            let begun = Instant::now();
            let bytes = post_bytes("/v1/messages", "", r#"{"model":"a","messages":[]}"#);
            let answer = exchange_bytes(router.number(), &bytes).await;
            assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
            let (status, body) = parsed_answer(&answer);
            assert_eq!((status, error_word(&body)), (503, "api_error"), "{answer}");
            assert!(
                answer.contains("retry-after: 120\r\n") && answer.contains("; it is started again in "),
                "{answer}"
            );
        }
        assert_eq!(daemon.count("a", "LaunchBegan").await, 1);
    });
}

#[test]
fn a_name_of_a_reverse_proxy_is_served_by_the_router_as_by_the_daemon() {
    sandbox(async |sandbox| {
        let router = Port::lease();
        let mut fleet = sandbox.fleet();
        fleet.section(&format!("[router]\nlisten = '127.0.0.1:{}'", router.number()));
        fleet.daemon("hosts = ['models.example']");
        fleet.server_with("a", Script::default(), "enabled = false");
        let _daemon = sandbox.up(&fleet).await;
        for (host, expected) in [("Models.example:443", 200), ("models.example.evil", 403)] {
            let request = format!("GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            let answer = exchange_bytes(router.number(), request.as_bytes()).await;
            let (status, body) = parsed_answer(&answer);
            assert_eq!(status, expected, "{answer}");
            if expected == 403 {
                assert_eq!(error_word(&body), "foreign_host");
                assert!(answer.contains("`hosts` in [daemon]"), "{answer}");
            }
        }
    });
}
