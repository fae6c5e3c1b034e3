//! Requests through the router.

use std::collections::BTreeSet;

use llama_warden_events::{Envelope, Event};
use llama_warden_stand_in::{Script, Wedge};
use llama_warden_tests::{Endpoint, Port, TestRequest, WAIT_LIMIT, eventually, sandbox};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A server that is killed amid ten requests has answered none of them; the next launch answers all.
#[test]
fn requests_outlive_the_server_that_has_not_begun_to_answer_them() {
    sandbox(async |sandbox| {
        let port = Port::lease();
        let mut fleet = sandbox.fleet();
        fleet.section(&format!("[router]\nlisten = \"127.0.0.1:{}\"", port.number()));
        fleet.section("[restart]\ninitial-delay = \"20ms\"\nmax-delay = \"50ms\"");
        fleet.server("a", Script { wedge: Wedge::Idle, ..Script::default() });
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let router = Endpoint::Tcp(port.number());
        let asked: Vec<_> = (0..10)
            .map(|_| {
                let router = router.clone();
                let body = r#"{"model":"a","messages":[]}"#;
                tokio::spawn(async move { TestRequest::post("/v1/chat/completions").body(body).send(&router).await })
            })
            .collect();
        let is_at_work = async || {
            let running = TestRequest::get("/running").send(&router).await.unwrap().json();
            let entry = &running["running"][0];
            let count = |key: &str| entry[key].as_u64().unwrap();
            count("in_flight") > 0 && count("in_flight") + count("waiting") == 10
        };
        eventually("all ten are at the server or wait for it", WAIT_LIMIT, is_at_work).await;
        let pid = daemon.report("a").await.pid.expect("it runs");
        fleet.rewrite("a", &Script::default());
        kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
        let mut statuses = BTreeSet::new();
        for answer in asked {
            let answer = answer.await.unwrap().unwrap();
            statuses.insert((answer.status.as_u16(), answer.json()["object"].as_str().map(str::to_owned)));
        }
        assert_eq!(statuses, BTreeSet::from([(200, Some("chat.completion".to_owned()))]));
        let ended = |event: &Envelope| matches!(event.event, Event::ServerExited { .. });
        daemon.event("the kill", ended).await;
    });
}

/// `request-timeout` bounds the whole answer, not only its beginning.
#[test]
fn a_stream_that_takes_too_long_ends_with_an_error() {
    sandbox(async |sandbox| {
        let port = Port::lease();
        let mut fleet = sandbox.fleet();
        fleet.section(&format!("[router]\nlisten = \"127.0.0.1:{}\"\nrequest-timeout = \"500ms\"", port.number()));
        fleet.server("a", Script { token_ms: 20, ..Script::default() });
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let body = r#"{"model":"a","messages":[],"stream":true,"max_tokens":-1}"#;
        let request = TestRequest::post("/v1/chat/completions").body(body);
        let answer = request.send(&Endpoint::Tcp(port.number())).await.unwrap();
        let text = answer.text();
        assert_eq!(answer.status.as_u16(), 200);
        let last = text.trim_end().lines().last().unwrap_or_default();
        assert!(text.contains("chat.completion.chunk") && last.contains("upstream_timeout"), "{text}");
    });
}
