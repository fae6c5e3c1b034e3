//! Bad requests to the router: each gets a typed error in the dialect of its path, and starts no server.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use llama_warden_stand_in::{BodyDigest, Script};
use llama_warden_tests::{
    Endpoint, Port, RoutedDaemon, Sandbox, TestDaemon, TestRequest, WAIT_LIMIT, connect, error_word, exchange_bytes,
    parsed_answer, post_bytes, post_head, read_answer, sandbox,
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

/// A request for `a` whose body comes in chunks, by this value of `Transfer-Encoding`.
fn in_chunks(path: &str, encoding: &str) -> Vec<u8> {
    let head = post_head(path, &format!("Transfer-Encoding: {encoding}\r\n"));
    format!("{head}d\r\n{{\"model\":\"a\"}}\r\n0\r\n\r\n").into()
}

fn other_method(method: &str, target: &str, fields: &str) -> Vec<u8> {
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n").into()
}

async fn started_nothing(daemon: &TestDaemon, router: u16) {
    for id in ["a", "b"] {
        for kind in ["LaunchBegan", "CommandAccepted", "StopBegan"] {
            assert_eq!(daemon.count(id, kind).await, 0, "{kind} of {id}");
        }
    }
    assert_eq!(running(router).await, json!([]));
}

/// A field that makes a head too long.
fn long_field() -> String {
    format!("X-Long: {}\r\n", "x".repeat(70_000))
}

/// What the router says of the servers that run.
async fn running(router: u16) -> Value {
    TestRequest::get("/running").send(&Endpoint::Tcp(router)).await.unwrap().expect(200).json()["running"].take()
}

#[test]
fn a_bad_request_gets_a_typed_error_in_the_dialect_of_openai_and_starts_nothing() {
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
        let long_name = format!(r#"{{"model":"{}"}}"#, "a".repeat(8192));
        let chat_at = |target: &str| post_bytes(target, "", r#"{"model":"a"}"#);
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
            (
                "gzip in a second field",
                post_bytes(CHAT, "Content-Encoding: identity\r\nContent-Encoding: gzip\r\n", r#"{"model":"a"}"#),
                415,
                "unsupported_encoding",
            ),
            ("gzip in chunks", in_chunks(CHAT, "gzip, chunked"), 415, "unsupported_encoding"),
            ("chunks of chunks", in_chunks(CHAT, "chunked, chunked"), 415, "unsupported_encoding"),
            (
                "chunks of chunks in two fields",
                in_chunks(CHAT, "chunked\r\nTransfer-Encoding: chunked"),
                415,
                "unsupported_encoding",
            ),
            ("another site in the target", chat_at("http://evil.example/v1/chat/completions"), 403, "foreign_host"),
            ("another site in a second Host", post_bytes(CHAT, "Host: evil.example\r\n", "{}"), 400, "repeated_host"),
            ("the same Host twice", post_bytes(CHAT, "Host: localhost\r\n", r#"{"model":"a"}"#), 400, "repeated_host"),
            ("no Host", replaced("Host: localhost\r\n", ""), 403, "foreign_host"),
            ("two slashes", chat_at("//v1/chat/completions"), 404, "path_not_found"),
            ("a tunnel", other_method("CONNECT", "localhost:80", ""), 404, "path_not_found"),
            ("a trace", other_method("TRACE", CHAT, ""), 404, "path_not_found"),
            (
                "a websocket",
                other_method("GET", CHAT, "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
                404,
                "path_not_found",
            ),
            (
                "a websocket to a server that is down",
                other_method("GET", "/upstream/a/ws", "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
                503,
                "server_not_ready",
            ),
            ("an announced length above the limit", too_long, 413, "body_too_large"),
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
            ("a look at a server that is down", look, 503, "server_not_ready"),
            ("a name that is too long", chat(&long_name), 404, "model_not_found"),
            ("a head that is too long", post_bytes(CHAT, &long_field(), r#"{"model":"a"}"#), 431, "head_too_long"),
            ("two lengths", post_head(CHAT, "Content-Length: 1\r\nContent-Length: 2\r\n").into(), 400, "bad_head"),
            ("HTTP/1.0", old, 400, "model_missing"),
            ("a rebound name", rebound, 403, "foreign_host"),
        ];
        for (case, bytes, status, code) in &table {
            let answer = exchange_bytes(port, bytes).await;
            let (got, body) = parsed_answer(&answer);
            assert_eq!((got, error_word(&body)), (*status, *code), "{case}: {answer}");
            assert!(body.get("type").is_none() && answer.contains("x-request-id"), "{case}: {answer}");
        }
        started_nothing(&daemon, port).await;
    });
}

#[test]
fn a_bad_request_for_messages_gets_a_typed_error_in_the_dialect_of_anthropic_and_starts_nothing() {
    sandbox(async |sandbox| {
        let (router, daemon) = up_with_router(sandbox).await;
        let port = router.number();
        for (case, bytes, status, kind) in [
            ("no model", post_bytes(MESSAGES, "", "{}"), 400, "invalid_request_error"),
            ("an unknown model", post_bytes(MESSAGES, "", r#"{"model":"c"}"#), 404, "not_found_error"),
            ("to count", post_bytes("/v1/messages/count_tokens", "", r#"{"model":"c"}"#), 404, "not_found_error"),
            ("a long body", post_head(MESSAGES, "Content-Length: 104857601\r\n").into(), 413, "request_too_large"),
            ("gzip", post_bytes(MESSAGES, "Content-Encoding: gzip\r\n", "{}"), 415, "invalid_request_error"),
            ("gzip in chunks", in_chunks(MESSAGES, "gzip, chunked"), 415, "invalid_request_error"),
            (
                "two lengths",
                post_head(MESSAGES, "Content-Length: 1\r\nContent-Length: 2\r\n").into(),
                400,
                "invalid_request_error",
            ),
            ("a long head", post_bytes(MESSAGES, &long_field(), "{}"), 431, "invalid_request_error"),
            ("two hosts", post_bytes(MESSAGES, "Host: localhost\r\n", "{}"), 400, "invalid_request_error"),
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

/// Each of these bodies names a model, and no build of llama-server answers it. Over those that are no UTF-8, builds of 2024 end with an
/// abort, and those of 2025 say 200 and nothing.
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
        let whole = |fields: &str| format!("{}{{\"model\":\"a\"}}", post_head(CHAT, fields));
        let chunks = |encoding: &str, chunks: &str| {
            format!("{}{chunks}0\r\n\r\n", post_head(CHAT, &format!("Transfer-Encoding:{encoding}\r\n")))
        };
        let one = "d\r\n{\"model\":\"a\"}\r\n";
        for (case, bytes) in [
            ("two lengths", whole("Content-Length: 13\r\nContent-Length: 14\r\n")),
            ("a list of lengths", whole("Content-Length: 13, 13\r\n")),
            ("a folded field", whole("X-A: 1\r\n Content-Length: 13\r\nContent-Length: 13\r\n")),
            ("a signed length", whole("Content-Length: +13\r\n")),
            ("a length beyond every number", whole("Content-Length: 99999999999999999999999\r\n")),
            ("a blank before the colon", whole("Content-Length : 13\r\n")),
            ("a NUL in a field", whole("X-A: 1\0\r\nContent-Length: 13\r\n")),
            ("a carriage return in a field", whole("X-A: 1\rContent-Length: 14\r\nContent-Length: 13\r\n")),
            ("an encoding that is none", whole("Transfer-Encoding: identity\r\nContent-Length: 13\r\n")),
            ("an empty encoding", whole("Transfer-Encoding:\r\nContent-Length: 13\r\n")),
            ("an encoding behind chunked", chunks(" chunked, gzip", one)),
            ("an encoding like chunked", chunks(" xchunked", one)),
            ("a quoted encoding", chunks(" \"chunked\"", one)),
            ("an encoding with a parameter", chunks(" chunked;a=b", one)),
            ("another blank before the encoding", chunks("\u{b}chunked", one)),
            ("an encoding in the next line", chunks("\r\n chunked", one)),
            ("a blank before the colon of an encoding", chunks(" chunked", one).replace("Encoding:", "Encoding :")),
            ("chunks of HTTP/1.0", chunks(" chunked", one).replace("HTTP/1.1", "HTTP/1.0")),
            ("a chunk's size with a sign", chunks(" chunked", &format!("+{one}"))),
            ("a chunk's size beyond every number", chunks(" chunked", &one.replacen('d', "fffffffffffffffff", 1))),
            ("a bare line feed in a chunk's size", chunks(" chunked", &one.replacen("\r\n", "\n", 1))),
            ("a bare line feed in what extends a chunk", chunks(" chunked", &one.replacen("\r\n", ";a\nb\r\n", 1))),
            ("a chunk longer than its size", chunks(" chunked", &one.replacen('d', "c", 1))),
            ("no chunk's size", chunks(" chunked", &one.replacen('d', "x", 1))),
            ("another version", whole("Content-Length: 13\r\n").replace("HTTP/1.1", "HTTP/1.2")),
            ("no version", "GET /health\r\n\r\n".to_owned()),
            ("what is no HTTP", "\u{16}\u{3}\u{1}\u{2}\r\n\r\n".to_owned()),
        ] {
            let answer = exchange_bytes(port, bytes.as_bytes()).await;
            let (status, body) = parsed_answer(&answer);
            // Heads are refused where they are wrong, and bodies where they are read.
            let has_head = bytes.contains("HTTP/1.1\r\n") && bytes.contains("Transfer-Encoding: chunked\r\n");
            let word = if has_head { "bad_body" } else { "bad_head" };
            assert_eq!((status, error_word(&body)), (400, word), "{case}: {answer}");
            assert!(answer.contains("x-request-id") && answer.contains("connection: close"), "{case}: {answer}");
        }
        started_nothing(&daemon, port).await;
    });
}

/// A proxy in front of the router that goes by the length takes what follows for a part of the body.
#[test]
fn what_follows_a_request_with_a_length_and_chunks_is_no_request() {
    sandbox(async |sandbox| {
        let (router, daemon) = up_with_router(sandbox).await;
        let port = router.number();
        let (length, chunked) = ("Content-Length: 4\r\n", "Transfer-Encoding: chunked\r\n");
        let hidden = r#"{"model":"b"}"#;
        let hidden = format!("POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 13\r\n\r\n{hidden}");
        for fields in [format!("{length}{chunked}"), format!("{chunked}{length}")] {
            let head = post_head(CHAT, &fields).replace("Connection: close\r\n", "");
            for (model, expected) in [("a", 200), ("c", 404)] {
                let bytes = format!("{head}d\r\n{{\"model\":\"{model}\"}}\r\n0\r\n\r\n{hidden}");
                let answer = exchange_bytes(port, bytes.as_bytes()).await;
                let (status, body) = parsed_answer(&answer);
                assert_eq!((status, answer.matches("HTTP/1.1").count()), (expected, 1), "{fields}: {answer}");
                if status == 200 {
                    assert_eq!(body, json!({ "body_digest": BodyDigest::of(br#"{"model":"a"}"#).finish() }));
                }
            }
        }
        assert_eq!(daemon.count("b", "LaunchBegan").await, 0, "what was hidden was read");
    });
}

/// What is written in another way than most clients write it means the same, and the server sees one way alone.
#[test]
fn a_request_is_read_in_every_way_that_http_allows() {
    sandbox(async |sandbox| {
        let (router, _daemon) = up_with_router(sandbox).await;
        let body = r#"{"model":"a"}"#;
        let expected = json!({ "body_digest": BodyDigest::of(body.as_bytes()).finish() });
        let with = |fields: &str| String::from_utf8(post_bytes(CHAT, fields, body)).unwrap();
        let chunks = |fields: &str, rest: &str| {
            format!("{}{rest}", post_head(CHAT, &format!("Transfer-Encoding: {fields}\r\n")))
        };
        for (case, bytes) in [
            ("bare line feeds", with("").replace("\r\n", "\n")),
            ("the same length twice", with("Content-Length: 13\r\n")),
            ("the whole target", with("").replace(CHAT, &format!("http://localhost{CHAT}"))),
            ("another case", chunks("CHUNKED", "D\r\n{\"model\":\"a\"}\r\n0\r\n\r\n")),
            ("what extends a chunk", chunks("chunked", "d;a=\"b\"\r\n{\"model\":\"a\"}\r\n0\r\n\r\n")),
            ("a trailer", chunks("chunked", "d\r\n{\"model\":\"a\"}\r\n0\r\nContent-Length: 5\r\n\r\n")),
            ("a length that concerns the connection", with("Connection: content-length\r\n")),
            ("an upgrade", with("Connection: Upgrade\r\nUpgrade: h2c\r\n")),
            ("an expectation that is none", with("Expect: 200-ok\r\n")),
            ("HTTP/1.0", with("").replace("HTTP/1.1", "HTTP/1.0")),
            ("HTTP/1.0 that waits for 100", with("Expect: 100-continue\r\n").replace("HTTP/1.1", "HTTP/1.0")),
        ] {
            let answer = exchange_bytes(router.number(), bytes.as_bytes()).await;
            assert_eq!(parsed_answer(&answer), (200, expected.clone()), "{case}: {answer}");
        }
        let mut waiting = connect(router.number()).await;
        let head = post_head(CHAT, "Expect: 100-continue\r\nContent-Length: 13\r\n");
        waiting.write_all(head.as_bytes()).await.unwrap();
        let mut go_on = [0; 25];
        timeout(WAIT_LIMIT, waiting.read_exact(&mut go_on)).await.expect("it is asked for").unwrap();
        assert_eq!(go_on, *b"HTTP/1.1 100 Continue\r\n\r\n");
        waiting.write_all(body.as_bytes()).await.unwrap();
        assert_eq!(parsed_answer(&read_answer(&mut waiting).await), (200, expected));
    });
}

#[test]
fn a_client_of_http_1_0_gets_a_stream_without_chunks() {
    sandbox(async |sandbox| {
        let routed = RoutedDaemon::up(sandbox, "", &[("a", Script::default(), "enabled = false")]).await;
        let body = r#"{"model":"a","stream":true,"max_tokens":3,"messages":[]}"#;
        let request = String::from_utf8(post_bytes(CHAT, "", body)).unwrap().replace("HTTP/1.1", "HTTP/1.0");
        let answer = exchange_bytes(routed.port(), request.as_bytes()).await;
        let (head, stream) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.0 200") && !head.contains("transfer-encoding"), "{head}");
        assert!(stream.starts_with("data: ") && stream.ends_with("data: [DONE]\n\n"), "{stream}");
    });
}

#[test]
fn a_key_that_opens_nothing_gets_401_in_the_dialect_of_its_path_and_starts_nothing() {
    sandbox(async |sandbox| {
        let keys = sandbox.file("keys.toml");
        let hash = "0".repeat(64);
        fs::write(&keys, format!("[[keys]]\nname = 'k'\nsha256 = '{hash}'\n")).unwrap();
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).unwrap();
        let keys = format!("keys-file = '{}'", keys.display());
        let routed = RoutedDaemon::up(sandbox, &keys, &[("a", Script::default(), "enabled = false")]).await;
        for fields in [
            "",
            "Authorization: Bearer lw-wrong\r\n",
            "Authorization: Bearer\r\n",
            "Authorization: lw-wrong\r\n",
            "Authorization: Basic bHc6d3Jvbmc=\r\n",
            "Authorization: Basic ***\r\n",
            "x-api-key: \r\n",
            "x-api-key: lw-wrong\r\napi-key: lw-wrong\r\n",
        ]
        .into_iter()
        .chain([&*format!("Authorization: Bearer {hash}\r\n")])
        {
            for (path, word) in [(CHAT, "unauthorized"), (MESSAGES, "authentication_error")] {
                let answer = exchange_bytes(routed.port(), &post_bytes(path, fields, r#"{"model":"a"}"#)).await;
                let (status, body) = parsed_answer(&answer);
                assert_eq!((status, error_word(&body)), (401, word), "{fields} to {path}: {answer}");
                assert!(answer.contains("www-authenticate: "), "{answer}");
            }
        }
        assert_eq!(routed.daemon.count("a", "LaunchBegan").await, 0);
    });
}

/// The answer to a body that names its model and never ends, in chunks like this one.
async fn endless(port: u16, chunk: &[u8]) -> String {
    let (mut reading, mut writing) = connect(port).await.into_split();
    let sending = async {
        writing.write_all(post_head(CHAT, "Transfer-Encoding: chunked\r\n").as_bytes()).await.unwrap();
        writing.write_all(b"d\r\n{\"model\":\"a\",\r\n").await.unwrap();
        // Until the router closes the connection.
        while writing.write_all(chunk).await.is_ok() {}
    };
    let answer = async {
        let mut answer = Vec::new();
        let _ = reading.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    };
    timeout(WAIT_LIMIT, async { tokio::join!(sending, answer).1 }).await.expect("it ends")
}

/// A long body passes through to its server, which this one must not: another server would be stopped for it.
#[test]
fn a_body_without_end_starts_nothing_where_long_ones_pass_through() {
    sandbox(async |sandbox| {
        let servers = [("a", Script::default(), "enabled = false"), ("b", Script::default(), "")];
        let routed = RoutedDaemon::up(sandbox, "max-loaded = 1\nmax-body = '24MiB'", &servers).await;
        routed.daemon.ready("b").await;
        let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 1 << 20], b"\r\n"].concat();
        let answer = endless(routed.port(), &chunk).await;
        let (status, body) = parsed_answer(&answer);
        assert_eq!((status, error_word(&body)), (413, "body_too_large"), "{answer}");
        assert_eq!(
            (routed.daemon.count("a", "LaunchBegan").await, routed.daemon.count("b", "StopBegan").await),
            (0, 0)
        );
    });
}

#[test]
fn a_body_without_end_is_refused_at_the_limit_and_one_that_breaks_off_starts_nothing() {
    sandbox(async |sandbox| {
        let (router, daemon) = up_with_router(sandbox).await;
        let port = router.number();
        let answer = endless(port, b"10\r\n                \r\n").await;
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
