//! Many requests at a time, and clients that take their time.

use llama_warden_stand_in::{HealthScript, Script};
use llama_warden_tests::{
    RoutedDaemon, TestRequest, WAIT_LIMIT, connect, eventually, post_bytes, read_answer, sandbox,
};
use nix::sys::signal::Signal;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

const CHAT: &str = "/v1/chat/completions";

fn ask(tokens: i64, stream: bool) -> Vec<u8> {
    let body = format!(r#"{{"model":"a","messages":[],"stream":{stream},"max_tokens":{tokens}}}"#);
    post_bytes(CHAT, "Content-Type: application/json\r\n", body)
}

#[test]
fn five_hundred_requests_for_a_server_that_is_down_cause_one_launch_and_are_all_answered() {
    sandbox(async |sandbox| {
        let script = Script { load_ms: 500, ..Script::default() };
        let routed = RoutedDaemon::up(sandbox, "queue = 500", &[("a", script, "enabled = false")]).await;
        let port = routed.port();
        let mut asked = JoinSet::new();
        for _ in 0..500 {
            asked.spawn(async move {
                let mut stream = connect(port).await;
                stream.write_all(&ask(1, false)).await.expect("it is read");
                read_answer(&mut stream).await
            });
        }
        while let Some(answer) = asked.join_next().await {
            let answer = answer.expect("it is answered");
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        assert_eq!(routed.daemon.count("a", "LaunchBegan").await, 1);
        routed.is_idle("a").await;
    });
}

#[test]
fn a_hundred_streams_end_whole_or_with_an_error_when_the_daemon_ends() {
    sandbox(async |sandbox| {
        let script = Script { token_ms: 20, ..Script::default() };
        let routed = RoutedDaemon::up(sandbox, "", &[("a", script, "router = { concurrency = 100 }")]).await;
        routed.daemon.ready("a").await;
        let port = routed.port();
        let mut asked = JoinSet::new();
        for number in 0..100 {
            asked.spawn(async move {
                let mut stream = connect(port).await;
                // Every other one ends before the servers do.
                stream.write_all(&ask(if number % 2 == 0 { 50 } else { 100_000 }, true)).await.expect("it is read");
                (number, read_answer(&mut stream).await)
            });
        }
        routed.counts("a", [100.0, 0.0, 0.0]).await;
        routed.daemon.signal(Signal::SIGTERM);
        while let Some(answer) = asked.join_next().await {
            let (number, answer) = answer.expect("it ends");
            let is_whole = answer.ends_with("data: [DONE]\n\n\r\n0\r\n\r\n");
            let has_error = answer.contains("data: {\"error\":") && answer.ends_with("\r\n0\r\n\r\n");
            assert!(is_whole || has_error, "{number}: {:?}", answer.get(answer.len().saturating_sub(300)..));
            assert_eq!(is_whole, number % 2 == 0, "{number}");
        }
        assert_eq!(routed.daemon.exit_code().await, 0);
    });
}

#[test]
fn a_client_that_reads_nothing_of_a_stream_holds_up_nobody_and_takes_little_memory() {
    sandbox(async |sandbox| {
        let routed = RoutedDaemon::up(sandbox, "", &[("a", Script::default(), "router = { concurrency = 4 }")]).await;
        routed.daemon.ready("a").await;
        let send = async |tokens| {
            let mut stream = connect(routed.port()).await;
            stream.write_all(&ask(tokens, true)).await.expect("it is read");
            stream
        };
        drop(read_answer(&mut send(10).await).await);
        let before = routed.daemon.resident_bytes();
        // About 60 MB.
        let silent = send(300_000).await;
        routed.counts("a", [1.0, 0.0, 0.0]).await;
        for _ in 0..10 {
            assert!(read_answer(&mut send(100).await).await.contains("[DONE]"));
        }
        let grown = routed.daemon.resident_bytes().saturating_sub(before);
        assert!(grown < 8 << 20, "{grown} bytes more");
        drop(silent);
        routed.is_idle("a").await;
        let server = async || routed.send(TestRequest::get("/running")).await.json()["running"][0]["in_flight"] == 0;
        eventually("nothing is left of it", WAIT_LIMIT, server).await;
    });
}

/// Builds with a fixed number of threads answer nobody else while each of them waits for another request on a connection of ours.
#[test]
fn requests_that_take_no_slot_leave_no_more_connections_open_than_there_are_slots_and_one() {
    sandbox(async |sandbox| {
        let script = Script { health: HealthScript::Delay(300), ..Script::default() };
        let routed = RoutedDaemon::up(sandbox, "", &[("a", script, "")]).await;
        routed.daemon.ready("a").await;
        let look = || routed.send(TestRequest::get("/upstream/a/health"));
        let together = futures_util::future::join_all((0..20).map(|_| look()));
        let (answers, ()) = tokio::join!(together, routed.counts("a", [20.0, 0.0, 0.0]));
        for answer in answers {
            answer.expect(200);
        }
        look().await.expect(200);
        let open = routed.metric("connections", &[("side", "server")]).await;
        assert!((1.0..=5.0).contains(&open), "of a server with four slots: {open}");
    });
}
