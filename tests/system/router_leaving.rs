//! A client of the router that leaves: in whichever state its request is, nothing of it stays.

use std::time::Duration;

use llama_warden_stand_in::{Script, WireFault};
use llama_warden_tests::{
    RoutedDaemon, WAIT_LIMIT, connect, eventually, parsed_answer, post_bytes, post_head, read_answer, sandbox,
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const CHAT: &str = "/v1/chat/completions";

/// A request whose answer would take a minute.
fn ask(stream: bool) -> Vec<u8> {
    post_bytes(CHAT, "", json!({ "model": "a", "stream": stream, "max_tokens": 1200, "messages": [] }).to_string())
}

/// A script that says when a client has left.
fn telling(faults: Vec<WireFault>) -> Script {
    Script { faults, token_ms: 50, ..Script::default() }
}

async fn send(routed: &RoutedDaemon, bytes: &[u8]) -> TcpStream {
    let mut stream = connect(routed.port()).await;
    stream.write_all(bytes).await.unwrap();
    stream
}

/// Waits until the stand-in has seen a client leave.
async fn the_server_sees_it(routed: &RoutedDaemon) {
    eventually("the server sees that the client has left", WAIT_LIMIT, async || {
        routed.daemon.output("a").await.contains("stand-in: the client left")
    })
    .await;
}

async fn up(sandbox: &llama_warden_tests::Sandbox, script: Script, keys: &str) -> RoutedDaemon {
    RoutedDaemon::up(sandbox, "", &[("a", script, keys)]).await
}

#[test]
fn a_client_that_leaves_while_it_uploads_starts_nothing() {
    sandbox(async |sandbox| {
        let routed = up(sandbox, Script::default(), "enabled = false").await;
        for (fields, part) in [
            ("Content-Length: 1000000\r\n", r#"{"model":"a","#),
            ("Transfer-Encoding: chunked\r\n", "d\r\n{\"model\":\"a\",\r\n"),
        ] {
            let uploading = send(&routed, format!("{}{part}", post_head(CHAT, fields)).as_bytes()).await;
            eventually("the body is read", WAIT_LIMIT, async || routed.metric("body_bytes", &[]).await > 0.0).await;
            drop(uploading);
            routed.is_idle("a").await;
        }
        assert_eq!(routed.daemon.count("a", "LaunchBegan").await, 0);
    });
}

#[test]
fn a_client_that_leaves_while_it_waits_for_a_start_leaves_a_server_that_others_use() {
    sandbox(async |sandbox| {
        let routed = up(sandbox, Script { load_ms: 1500, ..Script::default() }, "enabled = false").await;
        let waiting = send(&routed, &ask(true)).await;
        routed.counts("a", [0.0, 1.0, 0.0]).await;
        drop(waiting);
        routed.is_idle("a").await;
        routed.daemon.ready("a").await;
        assert_eq!(routed.daemon.count("a", "StopBegan").await, 0);
    });
}

#[test]
fn a_client_that_leaves_while_it_waits_for_a_slot_leaves_the_slot_to_the_next() {
    sandbox(async |sandbox| {
        let script = telling(vec![WireFault::Hang {}, WireFault::Hang {}]);
        let routed = up(sandbox, script, "router = { concurrency = 1 }").await;
        routed.daemon.ready("a").await;
        let at_work = send(&routed, &ask(false)).await;
        routed.counts("a", [1.0, 0.0, 0.0]).await;
        let waiting = send(&routed, &ask(false)).await;
        routed.counts("a", [1.0, 1.0, 0.0]).await;
        let next = send(&routed, &ask(false)).await;
        routed.counts("a", [1.0, 2.0, 0.0]).await;
        drop(waiting);
        routed.counts("a", [1.0, 1.0, 0.0]).await;
        drop(at_work);
        the_server_sees_it(&routed).await;
        routed.counts("a", [1.0, 0.0, 0.0]).await;
        drop(next);
        routed.is_idle("a").await;
    });
}

/// The way to a busy server is closed for the one that waits; when nobody waits any more, it is open again.
#[test]
fn a_client_that_leaves_while_it_waits_for_room_leaves_the_busy_server_to_others() {
    sandbox(async |sandbox| {
        let quick = Script { token_ms: 50, ..Script::default() };
        let servers = [
            ("a", quick, "enabled = false\nrouter = { concurrency = 8 }"),
            ("b", Script::default(), "enabled = false"),
        ];
        let routed = RoutedDaemon::up(sandbox, "max-loaded = 1\nevict-busy-after = '100ms'", &servers).await;
        let _at_work = send(&routed, &ask(true)).await;
        routed.counts("a", [1.0, 0.0, 0.0]).await;
        let waits = send(&routed, &post_bytes(CHAT, "", r#"{"model":"b","messages":[]}"#)).await;
        routed.counts("b", [0.0, 1.0, 0.0]).await;
        let short = post_bytes(CHAT, "", r#"{"model":"a","messages":[],"max_tokens":1}"#);
        let is_closed = async || routed.metric("requests_waiting", &[("server", "a")]).await == 1.0;
        let mut next = send(&routed, &short).await;
        timeout(WAIT_LIMIT, async {
            // One that comes before the way is closed is answered.
            while !is_closed().await {
                if let Ok(Ok(_)) = timeout(Duration::from_millis(50), next.readable()).await {
                    next = send(&routed, &short).await;
                }
            }
        })
        .await
        .expect("the way to the busy server is closed");
        drop(waits);
        assert_eq!(parsed_answer(&read_answer(&mut next).await).0, 200);
        for (server, kind) in [("b", "LaunchBegan"), ("a", "StopBegan")] {
            assert_eq!(routed.daemon.count(server, kind).await, 0, "{kind} of {server}");
        }
    });
}

#[test]
fn a_client_that_leaves_before_its_answer_begins_takes_the_connection_to_the_server_with_it() {
    sandbox(async |sandbox| {
        let routed = up(sandbox, telling(vec![WireFault::Hang {}]), "").await;
        routed.daemon.ready("a").await;
        let sent = send(&routed, &ask(false)).await;
        routed.counts("a", [1.0, 0.0, 0.0]).await;
        drop(sent);
        the_server_sees_it(&routed).await;
        routed.is_idle("a").await;
    });
}

#[test]
fn a_client_that_leaves_amid_a_stream_takes_the_connection_to_the_server_with_it() {
    sandbox(async |sandbox| {
        let routed = up(sandbox, telling(vec![WireFault::None {}]), "").await;
        routed.daemon.ready("a").await;
        let mut streaming = send(&routed, &ask(true)).await;
        streaming.read_exact(&mut [0; 400]).await.unwrap();
        routed.counts("a", [1.0, 0.0, 0.0]).await;
        drop(streaming);
        the_server_sees_it(&routed).await;
        routed.is_idle("a").await;
    });
}

#[test]
fn a_client_that_leaves_while_its_long_body_passes_through_takes_the_connection_to_the_server_with_it() {
    sandbox(async |sandbox| {
        let routed = up(sandbox, telling(vec![WireFault::None {}]), "").await;
        routed.daemon.ready("a").await;
        let mut uploading = send(&routed, post_head(CHAT, "Content-Length: 50000000\r\n").as_bytes()).await;
        uploading.write_all(br#"{"model":"a","prompt":""#).await.unwrap();
        uploading.write_all(&[b'x'; 1 << 20]).await.unwrap();
        routed.counts("a", [1.0, 0.0, 0.0]).await;
        drop(uploading);
        the_server_sees_it(&routed).await;
        routed.is_idle("a").await;
    });
}

#[test]
fn a_stream_that_can_be_resumed_stays_in_flight_until_its_server_ends_it() {
    sandbox(async |sandbox| {
        let routed = up(sandbox, telling(vec![WireFault::None {}]), "").await;
        routed.daemon.ready("a").await;
        let body = json!({ "model": "a", "stream": true, "max_tokens": 60, "messages": [] }).to_string();
        let mut streaming = send(&routed, &post_bytes(CHAT, "X-Conversation-Id: c1\r\n", body)).await;
        streaming.read_exact(&mut [0; 400]).await.unwrap();
        drop(streaming);
        routed.counts("a", [1.0, 0.0, 1.0]).await;
        routed.is_idle("a").await;
        assert!(!routed.daemon.output("a").await.contains("the client left"), "the router reads it to its end");
    });
}
