//! Requests through the router.

use std::collections::BTreeSet;

use llama_warden_events::{Envelope, Event, FailureReason};
use llama_warden_stand_in::{Script, Wedge};
use llama_warden_state::PhaseName;
use llama_warden_tests::{Endpoint, Port, RoutedDaemon, TestRequest, WAIT_LIMIT, eventually, sandbox};
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

/// It crashes the launch that serves it, and once more the next one. Whoever is at work beside it or waits behind it is answered, and the
/// server goes on.
#[test]
fn a_request_that_crashes_its_server_fails_alone_after_two_launches() {
    sandbox(async |sandbox| {
        let script = Script { poison: Some("arsenic".to_owned()), token_ms: 20, ..Script::default() };
        let keys = "concurrency = 2\n[restart]\ninitial-delay = \"20ms\"\nmax-delay = \"50ms\"";
        let servers = [("a", script, ""), ("b", Script { token_ms: 20, ..Script::default() }, "")];
        let routed = RoutedDaemon::up(sandbox, keys, &servers).await;
        for id in ["a", "b"] {
            routed.daemon.ready(id).await;
        }
        let ask = |model: &str, content: &str, tokens: u32| {
            let body = format!(r#"{{"model":"{model}","messages":[{{"content":"{content}"}}],"max_tokens":{tokens}}}"#);
            routed.send(TestRequest::post("/v1/chat/completions").body(body))
        };
        let (short, long, poison, behind, elsewhere) = tokio::join!(
            ask("a", "water", 50),
            ask("a", "water", 150),
            async {
                routed.counts("a", [2.0, 0.0, 0.0]).await;
                ask("a", "arsenic", 1).await
            },
            async {
                routed.counts("a", [2.0, 1.0, 0.0]).await;
                futures_util::future::join_all((0..5).map(|_| ask("a", "water", 5))).await
            },
            ask("b", "water", 200),
        );
        for answer in [short, long, elsewhere].into_iter().chain(behind) {
            assert_eq!(answer.expect(200).json()["object"], "chat.completion");
        }
        let poison = poison.expect(502);
        let error = &poison.json()["error"];
        assert_eq!((&error["code"], &error["type"]), (&"server_crashed".into(), &"server_error".into()));
        assert_eq!(poison.headers["x-should-retry"], "false");
        eventually("the third launch is ready", WAIT_LIMIT, async || {
            let report = routed.daemon.report("a").await;
            report.phase == PhaseName::Ready && report.incarnation.get() == 3
        })
        .await;
        let (reason, ..) = routed.daemon.failure("a").await;
        assert_eq!((reason, routed.daemon.count("a", "ServerFailed").await), (FailureReason::Crashed, 2));
        assert_eq!(routed.daemon.count("b", "LaunchBegan").await, 1);
        routed.is_idle("a").await;
    });
}

/// They use up the restarts of their server, but not the time of those that ask for it, or for others.
#[test]
fn a_crowd_of_requests_that_crash_their_server_gets_typed_errors_and_causes_few_launches() {
    sandbox(async |sandbox| {
        let script = Script { poison: Some("arsenic".to_owned()), token_ms: 20, ..Script::default() };
        let keys = "[restart]\nmax-attempts = 5\ninitial-delay = \"20ms\"\nmax-delay = \"50ms\"";
        let routed = RoutedDaemon::up(sandbox, keys, &[("a", script.clone(), ""), ("b", script, "")]).await;
        let ask = |model: &str, content: &str| {
            let body = format!(r#"{{"model":"{model}","messages":[{{"content":"{content}"}}],"max_tokens":5}}"#);
            routed.send(TestRequest::post("/v1/chat/completions").body(body))
        };
        for id in ["a", "b"] {
            routed.daemon.ready(id).await;
        }
        let crowd = futures_util::future::join_all((0..20).map(|_| ask("a", "arsenic")));
        let (crowd, elsewhere) = tokio::join!(crowd, ask("b", "water"));
        elsewhere.expect(200);
        for answer in crowd {
            let code = answer.json()["error"]["code"].as_str().map(str::to_owned);
            let known = [(502, Some("server_crashed")), (503, Some("server_failed"))];
            assert!(known.contains(&(answer.status.as_u16(), code.as_deref())), "{}", answer.text());
        }
        assert_eq!(ask("a", "water").await.expect(503).json()["error"]["code"], "server_failed");
        assert_eq!(routed.daemon.count("a", "LaunchBegan").await, 6, "the first one, and five restarts");
        routed.daemon.command("a", "start?wait=20s").await.expect(200);
        ask("a", "water").await.expect(200);
        assert_eq!(routed.daemon.count("b", "LaunchBegan").await, 1);
    });
}
