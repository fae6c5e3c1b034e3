//! Faults of the connection between the router and a server: the client gets a whole answer or a typed error, the gate and the counts of
//! the server go back to zero, and nobody else is disturbed.

use llama_warden_stand_in::{Script, WireFault};
use llama_warden_tests::{
    RoutedDaemon, Sandbox, TestRequest, WAIT_LIMIT, error_word, eventually, exchange_bytes, parsed_answer, post_bytes,
    sandbox,
};
use serde_json::json;

const CHAT: &str = "/v1/chat/completions";

/// A server `a` whose connections have these faults, and a server `b` without any.
async fn with_faults(sandbox: &Sandbox, keys: &str, faults: Vec<WireFault>) -> RoutedDaemon {
    let script = Script { token_ms: 1, ..Script::default() };
    let faulty = Script { faults, ..script.clone() };
    let routed = RoutedDaemon::up(sandbox, keys, &[("a", faulty, ""), ("b", script, "")]).await;
    routed.daemon.ready("a").await;
    routed.daemon.ready("b").await;
    routed
}

fn body(model: &str, stream: bool) -> String {
    json!({ "model": model, "stream": stream, "max_tokens": 4, "messages": [] }).to_string()
}

async fn chat(routed: &RoutedDaemon, stream: bool) -> String {
    exchange_bytes(routed.port(), &post_bytes(CHAT, "", body("a", stream))).await
}

/// Nothing is left of the fault, no process was started or stopped for it, and the other server answers.
async fn nothing_is_left(routed: &RoutedDaemon) {
    routed.is_idle("a").await;
    for server in ["a", "b"] {
        assert_eq!(routed.daemon.count(server, "LaunchBegan").await, 1, "{server}");
        let answer = routed.send(TestRequest::post(CHAT).body(body(server, false))).await.expect(200).json();
        assert_eq!(answer["choices"][0]["message"]["content"], "all work and no", "{server}");
    }
}

fn garbage() -> Vec<WireFault> {
    [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ]
    .map(|text| WireFault::Raw { text: text.to_owned() })
    .to_vec()
}

/// Once each, so that the request that is sent again finds none.
#[test]
fn a_request_whose_connection_fails_once_before_its_answer_is_answered() {
    sandbox(async |sandbox| {
        let faults: Vec<WireFault> = garbage()
            .into_iter()
            .chain([
                WireFault::ResetRequest { after: 0 },
                WireFault::ResetRequest { after: 20 },
                WireFault::ResetRequest { after: u64::MAX },
                WireFault::HalfClose {},
                WireFault::CutAnswer { after: 0, reset: false },
                WireFault::CutAnswer { after: 10, reset: true },
                WireFault::CutAnswer { after: 100, reset: false },
                // Amid the body of the answer, of which the client has nothing yet.
                WireFault::CutAnswer { after: 300, reset: false },
                WireFault::CutAnswer { after: 300, reset: true },
            ])
            .collect();
        let each: Vec<WireFault> = faults.iter().cloned().flat_map(|fault| [fault, WireFault::None {}]).collect();
        let routed = with_faults(sandbox, "", each).await;
        for fault in &faults {
            let answer = chat(&routed, false).await;
            let (status, body) = parsed_answer(&answer);
            assert_eq!((status, &body["object"]), (200, &json!("chat.completion")), "{fault:?}: {answer}");
            routed.is_idle("a").await;
        }
        nothing_is_left(&routed).await;
    });
}

#[test]
fn a_request_whose_connection_fails_again_gets_a_typed_error() {
    sandbox(async |sandbox| {
        let faults = [
            WireFault::HalfClose {},
            WireFault::CutAnswer { after: 50, reset: true },
            WireFault::Raw { text: "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned() },
            WireFault::ResetRequest { after: 0 },
        ];
        let mut twice: Vec<WireFault> = faults.iter().cloned().flat_map(|fault| [fault.clone(), fault]).collect();
        // A server that takes no request is asked by health too, whose look may meet one.
        twice.extend(faults.last().cloned());
        let routed = with_faults(sandbox, "", twice).await;
        for fault in &faults {
            let answer = chat(&routed, false).await;
            let (status, body) = parsed_answer(&answer);
            assert_eq!(status, 502, "{fault:?}: {answer}");
            assert_eq!(error_word(&body), "server_crashed", "{fault:?}: {answer}");
            routed.is_idle("a").await;
        }
        nothing_is_left(&routed).await;
    });
}

#[test]
fn a_stream_that_is_cut_ends_with_an_error_and_a_slow_one_comes_whole() {
    sandbox(async |sandbox| {
        let faults = vec![
            WireFault::CutAnswer { after: 500, reset: false },
            WireFault::CutAnswer { after: 500, reset: true },
            WireFault::Trickle { pause_us: 200 },
        ];
        let routed = with_faults(sandbox, "", faults).await;
        for end in ["a close", "a reset"] {
            let answer = chat(&routed, true).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{end}: {answer}");
            assert!(answer.contains(r#""content":"all""#), "{end}: {answer}");
            assert!(answer.contains(r#"data: {"error":"#) && answer.contains("server_crashed"), "{end}: {answer}");
            assert!(!answer.contains("[DONE]") && answer.ends_with("\r\n0\r\n\r\n"), "{end}: {answer}");
            routed.is_idle("a").await;
        }
        let slow = routed.send(TestRequest::post(CHAT).body(body("a", true))).await.expect(200).text();
        assert!(slow.ends_with("data: [DONE]\n\n"), "{slow}");
        nothing_is_left(&routed).await;
    });
}

#[test]
fn heads_before_the_answer_are_no_answer() {
    sandbox(async |sandbox| {
        let heads = [
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
        ];
        let faults = heads.iter().map(|text| WireFault::Before { text: (*text).to_owned() }).collect();
        let routed = with_faults(sandbox, "", faults).await;
        for head in heads {
            let answer = chat(&routed, false).await;
            assert_eq!(parsed_answer(&answer).0, 200, "{head:?}: {answer}");
        }
        nothing_is_left(&routed).await;
    });
}

#[test]
fn trailers_of_an_answer_reach_a_client_that_takes_them() {
    sandbox(async |sandbox| {
        let head = "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = WireFault::Raw { text: format!("{head}3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n") };
        let routed = with_faults(sandbox, "", vec![answer.clone(), answer]).await;
        for (fields, end) in [("TE: trailers\r\n", "\r\n0\r\nx-sum: 1\r\n\r\n"), ("", "\r\n0\r\n\r\n")] {
            let answer = exchange_bytes(routed.port(), &post_bytes(CHAT, fields, body("a", false))).await;
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(&format!("abc{end}")), "{answer}");
        }
        nothing_is_left(&routed).await;
    });
}

#[test]
fn a_server_that_says_nothing_is_left_when_the_time_of_a_request_is_over() {
    sandbox(async |sandbox| {
        let routed = with_faults(sandbox, "request-timeout = \"500ms\"", vec![WireFault::Hang {}]).await;
        let answer = chat(&routed, false).await;
        let (status, body) = parsed_answer(&answer);
        assert_eq!((status, error_word(&body)), (504, "upstream_timeout"), "{answer}");
        left(&routed, 1).await;
        nothing_is_left(&routed).await;
    });
}

/// Waits until the stand-in has seen so many clients leave.
async fn left(routed: &RoutedDaemon, times: usize) {
    eventually("the server sees the client leave", WAIT_LIMIT, async || {
        routed.daemon.output("a").await.matches("the client left").count() == times
    })
    .await;
}

/// llama-server answers a wrong key, a body above its limit, or a bad head before it has read the body, and closes the connection.
#[test]
fn an_answer_that_comes_amid_a_large_upload_reaches_the_client() {
    sandbox(async |sandbox| {
        let statuses = [401, 413, 400];
        // Bodies that are held, and bodies that pass through.
        let early = |after| statuses.map(|status| WireFault::AnswerEarly { status, after });
        let faults: Vec<WireFault> = [0, 1_400_000, 0, 1_400_000].into_iter().flat_map(early).collect();
        let routed = with_faults(sandbox, "", faults).await;
        for length in [12_000_000, 12_000_000, 60_000_000, 60_000_000] {
            let long = format!(r#"{{"model":"a","prompt":"{}"}}"#, "x".repeat(length));
            for status in statuses {
                let answer = exchange_bytes(routed.port(), &post_bytes(CHAT, "", &long)).await;
                let (found, body) = parsed_answer(&answer);
                assert_eq!(
                    (found, &body["error"]["message"]),
                    (status, &json!("answered early")),
                    "{length}: {answer}"
                );
                routed.is_idle("a").await;
            }
        }
        nothing_is_left(&routed).await;
    });
}

#[test]
fn a_long_upload_whose_connection_is_reset_is_not_sent_again() {
    sandbox(async |sandbox| {
        let routed = with_faults(sandbox, "", vec![WireFault::ResetRequest { after: 1 << 20 }]).await;
        let long = format!(r#"{{"model":"a","prompt":"{}"}}"#, "x".repeat(20_000_000));
        let answer = exchange_bytes(routed.port(), &post_bytes(CHAT, "", long)).await;
        let (status, body) = parsed_answer(&answer);
        assert_eq!((status, error_word(&body)), (502, "server_crashed"), "{answer}");
        nothing_is_left(&routed).await;
    });
}
