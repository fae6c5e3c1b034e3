//! Bad requests to the router: each gets a typed error in the dialect of its path, and starts no server.

use llama_warden_stand_in::{BodyDigest, Script};
use llama_warden_tests::{
    Endpoint, Port, Sandbox, TestDaemon, TestRequest, WAIT_LIMIT, connect, error_word, exchange_bytes, parsed_answer,
    post_bytes, post_head, read_answer, sandbox,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

/// A daemon with a router for small bodies and two servers that only a request starts.
async fn up_with_router(sandbox: &Sandbox) -> (Port, TestDaemon) {
    let router = Port::lease();
    let mut fleet = sandbox.fleet();
    fleet.section(&format!("[router]\nlisten = \"127.0.0.1:{}\"\nmax-body = \"1MiB\"", router.number()));
    for id in ["a", "b"] {
        fleet.server_with(id, Script { digest_bodies: true, ..Script::default() }, "enabled = false");
    }
    let daemon = sandbox.up(&fleet).await;
    (router, daemon)
}

async fn started_nothing(daemon: &TestDaemon, router: u16) {
    for id in ["a", "b"] {
        for kind in ["LaunchBegan", "CommandAccepted", "StopBegan"] {
            assert_eq!(daemon.count(id, kind).await, 0, "{kind} of {id}");
        }
    }
    assert_eq!(running(router).await, json!([]));
}

/// What the router says of the servers that run.
async fn running(router: u16) -> Value {
    TestRequest::get("/running").send(&Endpoint::Tcp(router)).await.unwrap().expect(200).json()["running"].take()
}

#[test]
fn a_bad_request_gets_a_typed_error_in_the_dialect_of_its_path_and_starts_nothing() {
    sandbox(async |sandbox| {
        let (router, daemon) = up_with_router(sandbox).await;
        let port = router.number();
        let form = "Content-Type: multipart/form-data; boundary=x\r\n";
        let file = "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"model\"\r\n\r\nRIFF\r\n--x--\r\n";
        let too_long = post_head(CHAT, "Content-Length: 104857601\r\n").into_bytes();
        let look = b"GET /slots?model=a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_vec();
        let replaced = |from: &str, to: &str| {
            let request = post_bytes(CHAT, "", "{}");
            String::from_utf8(request).unwrap().replace(from, to).into_bytes()
        };
        let (old, rebound) = (replaced("HTTP/1.1", "HTTP/1.0"), replaced("localhost", "evil.example"));
        let chat = |body: &str| post_bytes(CHAT, "", body);
        // The kind of fault, the bytes, the status, OpenAI's code.
        let table: Vec<(&str, Vec<u8>, u16, &str)> = vec![
            ("no model", chat("{}"), 400, "model_missing"),
            ("an empty name", chat(r#"{"model":""}"#), 400, "model_missing"),
            ("no body", chat(""), 400, "bad_body"),
            ("a number as the name", chat(r#"{"model":7}"#), 400, "model_missing"),
            ("no object", chat(r#"["model","a"]"#), 400, "model_missing"),
            ("a nested model", chat(r#"{"messages":[{"model":"a"}],"x":{"model":"a"}}"#), 400, "model_missing"),
            ("a model in the query", post_bytes("/v1/chat/completions?model=a", "", "{}"), 400, "model_missing"),
            ("a model in a header", post_bytes(CHAT, "Model: a\r\n", "{}"), 400, "model_missing"),
            ("an unknown model", chat(r#"{"model":"c"}"#), 404, "model_not_found"),
            ("the first of two names is unknown", chat(r#"{"model":"c","model":"a"}"#), 404, "model_not_found"),
            ("a path as a name", chat(r#"{"model":"../a"}"#), 404, "model_not_found"),
            ("bad UTF-8 in the name", post_bytes(CHAT, "", b"{\"model\":\"a\xff\"}"), 400, "bad_body"),
            ("a form without a model", post_bytes("/v1/audio/transcriptions", form, file), 400, "model_missing"),
            ("gzip", post_bytes(CHAT, "Content-Encoding: gzip\r\n", r#"{"model":"a"}"#), 415, "unsupported_encoding"),
            ("an announced length above the limit", too_long.clone(), 413, "body_too_large"),
            (
                "such a length that waits for 100",
                post_head(CHAT, "Expect: 100-continue\r\nContent-Length: 104857601\r\n").into(),
                413,
                "body_too_large",
            ),
            (
                "another site",
                post_bytes(CHAT, "Origin: http://evil.example\r\n", r#"{"model":"a"}"#),
                403,
                "foreign_origin",
            ),
            ("an opaque page", post_bytes(CHAT, "Origin: null\r\n", r#"{"model":"a"}"#), 403, "foreign_origin"),
            (
                "a site's form",
                post_bytes(CHAT, "Sec-Fetch-Site: cross-site\r\n", r#"{"model":"a"}"#),
                403,
                "foreign_origin",
            ),
            ("an unknown path", post_bytes("/v2/chat", "", r#"{"model":"a"}"#), 404, "path_not_found"),
            ("a tool", post_bytes("/tools", "", r#"{"model":"a"}"#), 404, "path_not_found"),
            ("a look at a server that is down", look, 503, "server_failed"),
            ("HTTP/1.0", old, 400, "model_missing"),
            ("a rebound name", rebound, 403, "foreign_host"),
        ];
        for (case, bytes, status, code) in &table {
            let answer = exchange_bytes(port, bytes).await;
            let (got, body) = parsed_answer(&answer);
            assert_eq!((got, error_word(&body)), (*status, *code), "{case}: {answer}");
            assert!(body.get("type").is_none() && answer.contains("x-request-id"), "{case}: {answer}");
        }
        for (case, bytes, status, kind) in [
            ("no model", post_bytes(MESSAGES, "", "{}"), 400, "invalid_request_error"),
            ("an unknown model", post_bytes(MESSAGES, "", r#"{"model":"c"}"#), 404, "not_found_error"),
            ("to count", post_bytes("/v1/messages/count_tokens", "", r#"{"model":"c"}"#), 404, "not_found_error"),
            ("a long body", post_head(MESSAGES, "Content-Length: 104857601\r\n").into(), 413, "request_too_large"),
            ("another site", post_bytes(MESSAGES, "Origin: http://evil.example\r\n", "{}"), 403, "permission_error"),
        ] {
            let answer = exchange_bytes(port, &bytes).await;
            let (got, body) = parsed_answer(&answer);
            assert_eq!((got, error_word(&body)), (status, kind), "{case}: {answer}");
            assert!(body["type"] == "error" && body["request_id"].is_string(), "{case}: {answer}");
        }
        started_nothing(&daemon, port).await;
    });
}

/// Each of these bodies names a model, and every build of llama-server refuses it; builds of 2024 end with an abort over those that are no
/// UTF-8.
#[test]
fn a_body_that_no_llama_server_reads_starts_nothing_though_it_names_a_model() {
    sandbox(async |sandbox| {
        let (router, daemon) = up_with_router(sandbox).await;
        let port = router.number();
        let form = "Content-Type: multipart/form-data; boundary=x\r\n";
        let model = "--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\na\r\n";
        let bodies: Vec<(&str, &str, Vec<u8>)> = vec![
            ("no end", "", br#"{"model":"a","messages":[]"#.to_vec()),
            ("an end amid a string", "", br#"{"model":"a","messages":"#.to_vec()),
            ("something behind the end", "", br#"{"model":"a"}{}"#.to_vec()),
            ("a comma too many", "", br#"{"model":"a",}"#.to_vec()),
            ("a bracket that is none of its own", "", br#"{"model":"a","messages":[}}"#.to_vec()),
            ("a word that is none", "", br#"{"model":"a","stream":True}"#.to_vec()),
            ("a line's end in a string", "", b"{\"model\":\"a\",\"prompt\":\"x\ny\"}".to_vec()),
            ("half a pair", "", br#"{"model":"a","prompt":"\ud83d"}"#.to_vec()),
            ("bad UTF-8", "", b"{\"model\":\"a\",\"prompt\":\"\xff\"}".to_vec()),
            ("a model's name of bad UTF-8", "", b"{\"model\":\"a\xc3\"}".to_vec()),
            ("a form without its end", form, model.into()),
            ("a form that ends amid a boundary", form, format!("{model}--x-").into()),
            ("a form that goes on", form, format!("{model}{model}--x\r\n").into()),
        ];
        for (case, fields, body) in &bodies {
            for (path, word) in [
                (CHAT, "bad_body"),
                (MESSAGES, "invalid_request_error"),
                ("/v1/messages/count_tokens", "invalid_request_error"),
                ("/upstream/b/tokenize", "bad_body"),
                ("/v1/audio/transcriptions", "bad_body"),
                ("/v1/of/tomorrow", "bad_body"),
            ] {
                let answer = exchange_bytes(port, &post_bytes(path, fields, body)).await;
                let (status, body) = parsed_answer(&answer);
                assert_eq!((status, error_word(&body)), (400, word), "{case} to {path}: {answer}");
                assert!(answer.contains("x-should-retry: false"), "{case} to {path}: {answer}");
            }
        }
        // Before all of it has come.
        let mut endless = connect(port).await;
        endless.write_all(post_head(CHAT, "Content-Length: 1000\r\n").as_bytes()).await.unwrap();
        endless.write_all(br#"{"model":"a"}x"#).await.unwrap();
        assert_eq!(error_word(&parsed_answer(&read_answer(&mut endless).await).1), "bad_body");
        started_nothing(&daemon, port).await;
    });
}

/// What looks odd and is read by every build reaches the server as it is.
#[test]
fn a_body_that_llama_server_reads_arrives_byte_for_byte() {
    sandbox(async |sandbox| {
        let (router, daemon) = up_with_router(sandbox).await;
        for (case, fields, body) in [
            ("a byte order mark", "", b"\xef\xbb\xbf {\"model\":\"a\"}".as_slice()),
            ("another content type", "Content-Type: application/x-www-form-urlencoded\r\n", br#"{"model":"a"}"#),
            ("blanks behind", "", b"\n{\"model\":\"a\"} \r\n\t"),
            ("a NUL behind", "", b"{\"model\":\"a\"}\0"),
            ("two models", "", br#"{"model":"a","x":1,"model":"b"}"#),
            ("escapes", "", br#"{"mod\u0065l":"\u0061","x":"\ud83d\ude00","n":-1.5e-3}"#),
        ] {
            let answer = exchange_bytes(router.number(), &post_bytes(CHAT, fields, body)).await;
            let digest = BodyDigest::of(body).finish();
            assert_eq!(parsed_answer(&answer), (200, json!({ "body_digest": digest })), "{case}: {answer}");
            assert!(answer.contains("x-llama-warden-server: a"), "{case}: {answer}");
        }
        assert_eq!(daemon.count("b", "LaunchBegan").await, 0, "the first model counts");
    });
}

#[test]
fn a_request_whose_framing_is_ambiguous_reaches_no_server() {
    sandbox(async |sandbox| {
        let (router, daemon) = up_with_router(sandbox).await;
        let port = router.number();
        let body = r#"{"model":"a"}"#;
        for (case, bytes) in [
            ("two lengths", format!("{}{body}", post_head(CHAT, "Content-Length: 13\r\nContent-Length: 14\r\n"))),
            (
                "a folded field",
                format!("{}{body}", post_head(CHAT, "X-A: 1\r\n Content-Length: 13\r\nContent-Length: 13\r\n")),
            ),
            ("a signed length", format!("{}{body}", post_head(CHAT, "Content-Length: +13\r\n"))),
            (
                "an encoding behind chunked",
                format!("{}d\r\n{body}\r\n0\r\n\r\n", post_head(CHAT, "Transfer-Encoding: chunked, gzip\r\n")),
            ),
            ("a blank before the colon", format!("{}{body}", post_head(CHAT, "Content-Length : 13\r\n"))),
            (
                "chunks of HTTP/1.0",
                format!("{}d\r\n{body}\r\n0\r\n\r\n", post_head(CHAT, "Transfer-Encoding: chunked\r\n"))
                    .replace("HTTP/1.1", "HTTP/1.0"),
            ),
            (
                "a chunk's size with a sign",
                format!("{}+d\r\n{body}\r\n0\r\n\r\n", post_head(CHAT, "Transfer-Encoding: chunked\r\n")),
            ),
            (
                "a bare line feed in a chunk's size",
                format!("{}d\n{body}\r\n0\r\n\r\n", post_head(CHAT, "Transfer-Encoding: chunked\r\n")),
            ),
            ("no chunk size", format!("{}x\r\n{body}\r\n0\r\n\r\n", post_head(CHAT, "Transfer-Encoding: chunked\r\n"))),
        ] {
            let answer = exchange_bytes(port, bytes.as_bytes()).await;
            assert_eq!(parsed_answer(&answer).0, 400, "{case}: {answer}");
        }
        started_nothing(&daemon, port).await;
    });
}

#[test]
fn a_body_without_end_is_refused_at_the_limit_and_one_that_breaks_off_starts_nothing() {
    sandbox(async |sandbox| {
        let (router, daemon) = up_with_router(sandbox).await;
        let port = router.number();
        let stream = connect(port).await;
        let (mut reading, mut writing) = stream.into_split();
        let endless = async {
            writing.write_all(post_head(CHAT, "Transfer-Encoding: chunked\r\n").as_bytes()).await.unwrap();
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
        let (status, body) = parsed_answer(&answer);
        assert_eq!((status, error_word(&body)), (413, "body_too_large"), "{answer}");

        // Clients that leave while the router reads: with half a head, half a body, half a chunk.
        for bytes in [
            "POST /v1/chat/completions HTTP/1.1\r\nHost: loc".to_owned(),
            format!("{}{{\"model\":\"a\"", post_head(CHAT, "Content-Length: 100\r\n")),
            format!("{}ff\r\n{{\"model\":\"a\"", post_head(CHAT, "Transfer-Encoding: chunked\r\n")),
        ] {
            let mut stream = connect(port).await;
            stream.write_all(bytes.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let answer = read_answer(&mut stream).await;
            assert!(answer.is_empty() || parsed_answer(&answer).0 == 400, "{answer}");
        }
        started_nothing(&daemon, port).await;
    });
}
