//! Bad requests to the router: each gets a typed error in the dialect of its path, and starts no server.

use llama_warden_stand_in::Script;
use llama_warden_tests::{Endpoint, Port, TestDaemon, TestRequest, WAIT_LIMIT, eventually, sandbox};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

/// The head of a POST, with further fields.
fn head(path: &str, fields: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n")
}

/// A whole POST with further fields.
fn post(path: &str, fields: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = head(path, &format!("{fields}Content-Length: {}\r\n", body.len())).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Sends bytes and reads the answer to its end.
async fn exchange(port: u16, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    read(&mut stream).await
}

async fn read(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A connection that is reset behind the answer has delivered it.
    let _ = timeout(WAIT_LIMIT, stream.read_to_end(&mut answer)).await.expect("the answer ends");
    String::from_utf8(answer).unwrap()
}

/// The status of an answer, and its body where that is JSON.
fn parsed(answer: &str) -> (u16, Value) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no status: {answer:?}")), serde_json::from_str(body).unwrap_or(Value::Null))
}

/// The word that clients decide by: OpenAI's `code`, or Anthropic's `type`.
fn word(body: &Value) -> &str {
    let error = &body["error"];
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    error["code"].as_str().or(error["type"].as_str()).unwrap_or_else(|| panic!("no code: {body}"))
}

async fn started_nothing(daemon: &TestDaemon, router: u16) {
    for id in ["a", "b"] {
        for kind in ["LaunchBegan", "CommandAccepted", "StopBegan"] {
            assert_eq!(daemon.count(id, kind).await, 0, "{kind} of {id}");
        }
    }
    let running = TestRequest::get("/running").send(&Endpoint::Tcp(router)).await.unwrap().expect(200).json();
    assert_eq!(running["running"], json!([]));
}

#[test]
fn a_bad_request_gets_a_typed_error_in_the_dialect_of_its_path_and_starts_nothing() {
    sandbox(async |sandbox| {
        let router = Port::lease();
        let port = router.number();
        let mut fleet = sandbox.fleet();
        fleet.section(&format!("[router]\nlisten = \"127.0.0.1:{port}\"\nmax-body = \"1MiB\""));
        for id in ["a", "b"] {
            fleet.server_with(id, Script::default(), "enabled = false");
        }
        let daemon = sandbox.up(&fleet).await;
        let form = "Content-Type: multipart/form-data; boundary=x\r\n";
        let file = "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"model\"\r\n\r\nRIFF\r\n--x--\r\n";
        let too_long = head(CHAT, "Content-Length: 104857601\r\n").into_bytes();
        let look = b"GET /slots?model=a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_vec();
        let replaced = |from: &str, to: &str| {
            let request = post(CHAT, "", "{}");
            String::from_utf8(request).unwrap().replace(from, to).into_bytes()
        };
        let (old, rebound) = (replaced("HTTP/1.1", "HTTP/1.0"), replaced("localhost", "evil.example"));
        let chat = |body: &str| post(CHAT, "", body);
        // The kind of fault, the bytes, the status, OpenAI's code.
        let table: Vec<(&str, Vec<u8>, u16, &str)> = vec![
            ("no model", chat("{}"), 400, "model_missing"),
            ("an empty name", chat(r#"{"model":""}"#), 400, "model_missing"),
            ("no body", chat(""), 400, "model_missing"),
            ("a number as the name", chat(r#"{"model":7}"#), 400, "model_missing"),
            ("no object", chat(r#"["model","a"]"#), 400, "model_missing"),
            ("a nested model", chat(r#"{"messages":[{"model":"a"}],"x":{"model":"a"}}"#), 400, "model_missing"),
            ("a model in the query", post("/v1/chat/completions?model=a", "", "{}"), 400, "model_missing"),
            ("a model in a header", post(CHAT, "Model: a\r\n", "{}"), 400, "model_missing"),
            ("an unknown model", chat(r#"{"model":"c"}"#), 404, "model_not_found"),
            ("the first of two names is unknown", chat(r#"{"model":"c","model":"a"}"#), 404, "model_not_found"),
            ("a path as a name", chat(r#"{"model":"../a"}"#), 404, "model_not_found"),
            ("bad UTF-8 in the name", post(CHAT, "", b"{\"model\":\"a\xff\"}"), 400, "model_missing"),
            ("a form without a model", post("/v1/audio/transcriptions", form, file), 400, "model_missing"),
            ("gzip", post(CHAT, "Content-Encoding: gzip\r\n", r#"{"model":"a"}"#), 415, "unsupported_encoding"),
            ("an announced length above the limit", too_long.clone(), 413, "body_too_large"),
            (
                "such a length that waits for 100",
                head(CHAT, "Expect: 100-continue\r\nContent-Length: 104857601\r\n").into(),
                413,
                "body_too_large",
            ),
            ("another site", post(CHAT, "Origin: http://evil.example\r\n", r#"{"model":"a"}"#), 403, "foreign_origin"),
            ("an opaque page", post(CHAT, "Origin: null\r\n", r#"{"model":"a"}"#), 403, "foreign_origin"),
            ("a site's form", post(CHAT, "Sec-Fetch-Site: cross-site\r\n", r#"{"model":"a"}"#), 403, "foreign_origin"),
            ("an unknown path", post("/v2/chat", "", r#"{"model":"a"}"#), 404, "path_not_found"),
            ("a tool", post("/tools", "", r#"{"model":"a"}"#), 404, "path_not_found"),
            ("a look at a server that is down", look, 503, "server_failed"),
            ("HTTP/1.0", old, 400, "model_missing"),
            ("a rebound name", rebound, 403, "foreign_host"),
        ];
        for (case, bytes, status, code) in &table {
            let answer = exchange(port, bytes).await;
            let (got, body) = parsed(&answer);
            assert_eq!((got, word(&body)), (*status, *code), "{case}: {answer}");
            assert!(body.get("type").is_none() && answer.contains("x-request-id"), "{case}: {answer}");
        }
        for (case, bytes, status, kind) in [
            ("no model", post(MESSAGES, "", "{}"), 400, "invalid_request_error"),
            ("an unknown model", post(MESSAGES, "", r#"{"model":"c"}"#), 404, "not_found_error"),
            ("to count", post("/v1/messages/count_tokens", "", r#"{"model":"c"}"#), 404, "not_found_error"),
            ("a long body", head(MESSAGES, "Content-Length: 104857601\r\n").into(), 413, "request_too_large"),
            ("another site", post(MESSAGES, "Origin: http://evil.example\r\n", "{}"), 403, "permission_error"),
        ] {
            let answer = exchange(port, &bytes).await;
            let (got, body) = parsed(&answer);
            assert_eq!((got, word(&body)), (status, kind), "{case}: {answer}");
            assert!(body["type"] == "error" && body["request_id"].is_string(), "{case}: {answer}");
        }
        started_nothing(&daemon, port).await;
    });
}

#[test]
fn a_request_whose_framing_is_ambiguous_reaches_no_server() {
    sandbox(async |sandbox| {
        let router = Port::lease();
        let port = router.number();
        let mut fleet = sandbox.fleet();
        fleet.section(&format!("[router]\nlisten = \"127.0.0.1:{port}\"\nmax-body = \"1MiB\""));
        for id in ["a", "b"] {
            fleet.server_with(id, Script::default(), "enabled = false");
        }
        let daemon = sandbox.up(&fleet).await;
        let body = r#"{"model":"a"}"#;
        for (case, bytes) in [
            ("two lengths", format!("{}{body}", head(CHAT, "Content-Length: 13\r\nContent-Length: 14\r\n"))),
            (
                "a folded field",
                format!("{}{body}", head(CHAT, "X-A: 1\r\n Content-Length: 13\r\nContent-Length: 13\r\n")),
            ),
            ("a signed length", format!("{}{body}", head(CHAT, "Content-Length: +13\r\n"))),
            (
                "an encoding behind chunked",
                format!("{}d\r\n{body}\r\n0\r\n\r\n", head(CHAT, "Transfer-Encoding: chunked, gzip\r\n")),
            ),
            ("a blank before the colon", format!("{}{body}", head(CHAT, "Content-Length : 13\r\n"))),
            ("no chunk size", format!("{}x\r\n{body}\r\n0\r\n\r\n", head(CHAT, "Transfer-Encoding: chunked\r\n"))),
        ] {
            let answer = exchange(port, bytes.as_bytes()).await;
            assert_eq!(parsed(&answer).0, 400, "{case}: {answer}");
        }
        started_nothing(&daemon, port).await;
    });
}

#[test]
fn a_body_without_end_is_refused_at_the_limit_and_one_that_breaks_off_starts_nothing() {
    sandbox(async |sandbox| {
        let router = Port::lease();
        let port = router.number();
        let mut fleet = sandbox.fleet();
        fleet.section(&format!("[router]\nlisten = \"127.0.0.1:{port}\"\nmax-body = \"1MiB\""));
        for id in ["a", "b"] {
            fleet.server_with(id, Script::default(), "enabled = false");
        }
        let daemon = sandbox.up(&fleet).await;
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut reading, mut writing) = stream.into_split();
        let endless = async {
            writing.write_all(head(CHAT, "Transfer-Encoding: chunked\r\n").as_bytes()).await.unwrap();
            writing.write_all(b"d\r\n{\"model\":\"a\",\r\n").await.unwrap();
            // Until the router closes the connection.
            while writing.write_all(b"10\r\n                \r\n").await.is_ok() {}
        };
        let answer = async {
            let mut answer = Vec::new();
            let _ = reading.read_to_end(&mut answer).await;
            String::from_utf8(answer).unwrap()
        };
        let ((), answer) = timeout(WAIT_LIMIT, async { tokio::join!(endless, answer) }).await.expect("it ends");
        let (status, body) = parsed(&answer);
        assert_eq!((status, word(&body)), (413, "body_too_large"), "{answer}");

        // Clients that leave while the router reads: with half a head, half a body, half a chunk.
        for bytes in [
            "POST /v1/chat/completions HTTP/1.1\r\nHost: loc".to_owned(),
            format!("{}{{\"model\":\"a\"", head(CHAT, "Content-Length: 100\r\n")),
            format!("{}ff\r\n{{\"model\":\"a\"", head(CHAT, "Transfer-Encoding: chunked\r\n")),
        ] {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            stream.write_all(bytes.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let answer = read(&mut stream).await;
            assert!(answer.is_empty() || parsed(&answer).0 == 400, "{answer}");
        }
        started_nothing(&daemon, port).await;
    });
}

/// How many requests the router counts for a server: those at work, and those that wait.
async fn counted(router: u16) -> (u64, u64) {
    let running = TestRequest::get("/running").send(&Endpoint::Tcp(router)).await.unwrap().expect(200).json();
    let number =
        |key: &str| running["running"].as_array().unwrap().iter().filter_map(|entry| entry[key].as_u64()).sum();
    (number("in_flight"), number("waiting"))
}

#[test]
fn a_client_that_leaves_in_any_state_leaves_no_request_behind() {
    sandbox(async |sandbox| {
        let router = Port::lease();
        let port = router.number();
        let mut fleet = sandbox.fleet();
        fleet.section(&format!("[router]\nlisten = \"127.0.0.1:{port}\""));
        fleet.server_with("a", Script { load_ms: 1500, token_ms: 50, ..Script::default() }, "enabled = false");
        let daemon = sandbox.up(&fleet).await;
        let ask = |stream: bool| {
            let body = json!({
                "model": "a", "stream": stream, "max_tokens": 1000, "messages": [{ "role": "user", "content": "x" }]
            });
            post(CHAT, "", body.to_string())
        };
        let is_counted = async |expected: (u64, u64)| {
            eventually(&format!("{expected:?} at work and waiting"), WAIT_LIMIT, async || {
                counted(port).await == expected
            })
            .await;
        };
        // While it waits for the start.
        let mut waiting = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        waiting.write_all(&ask(true)).await.unwrap();
        is_counted((0, 1)).await;
        drop(waiting);
        is_counted((0, 0)).await;
        // The load goes on, and the server is there for the next request.
        daemon.ready("a").await;
        // While it is sent, and while the answer streams.
        for stream in [false, true] {
            let mut sent = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            sent.write_all(&ask(stream)).await.unwrap();
            is_counted((1, 0)).await;
            if stream {
                let mut first = [0];
                sent.read_exact(&mut first).await.unwrap();
            }
            drop(sent);
            is_counted((0, 0)).await;
        }
        assert_eq!(daemon.count("a", "LaunchBegan").await, 1);
        assert_eq!(daemon.count("a", "StopBegan").await, 0);
    });
}
