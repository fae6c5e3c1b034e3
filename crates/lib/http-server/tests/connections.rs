//! What becomes of a connection whose request is not read to its end, and of one whose request has a head that cannot be read.

#![expect(clippy::expect_used, reason = "a panic is how a test fails")]

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Body;
use llama_warden_http_server::{HeadFault, HttpService, RefusedLine, RequestBody, ServeLimits, Transport, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const LONGEST: Duration = Duration::from_secs(20);

const LIMITS: ServeLimits =
    ServeLimits { connections: 64, kept_for_probes: 8, head_timeout: LONGEST, drain: Duration::from_secs(1) };

/// Answers `/read` when it has read the body, and everything else at once. Names the path of what it cannot read.
#[derive(Clone)]
struct Answers;

impl HttpService for Answers {
    type Body = String;

    async fn answer(&self, request: Request<RequestBody>, _: Transport) -> Response<String> {
        let is_read = request.uri().path() == "/read";
        let mut body = request.into_body();
        while is_read && poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await.is_some() {}
        Response::new("ok".to_owned())
    }

    fn is_probe(&self, _: &str) -> bool {
        true
    }

    fn too_many_connections(&self, _: usize) -> Response<String> {
        Response::default()
    }

    fn refused_head(&self, fault: HeadFault, line: &RefusedLine) -> Response<String> {
        let mut answer = Response::new(format!("{}: {}", line.path, fault.message()));
        *answer.status_mut() = fault.status();
        answer
    }
}

/// A connection that has had so many answers.
async fn answered(listener: &str, requests: usize) -> TcpStream {
    let mut stream = TcpStream::connect(listener).await.expect("connects");
    for _ in 0..requests {
        let (answer, ended) = ask(&mut stream, "/", "", 0).await;
        assert!(!ended, "{answer}");
    }
    stream
}

/// What follows on what is sent, until the connection ends.
async fn rest(mut stream: TcpStream, sent: &str) -> String {
    stream.write_all(sent.as_bytes()).await.expect("taken");
    let mut answer = Vec::new();
    timeout(LONGEST, stream.read_to_end(&mut answer)).await.expect("in time").expect("readable");
    String::from_utf8(answer).expect("text")
}

#[tokio::test]
async fn a_head_that_is_refused_is_answered_by_the_service_also_behind_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound").to_string();
    let cancel = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, Answers, LIMITS, cancel.clone()));
    let long = format!("GET /long HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(70_000));
    for (head, status, path) in [
        ("POST /a HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400, "/a"),
        ("POST /b HTTP/1.1\r\na: 1\r\n b: 2\r\n\r\n", 400, "/b"),
        ("GET /c HTTP/9.9\r\n\r\n", 400, "/c"),
        ("\u{16}\u{3}\u{1}\u{2}\r\n\r\n", 400, ""),
        (&long, 431, "/long"),
    ] {
        for before in [0, 1, 2] {
            let answer = rest(answered(&address, before).await, head).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head:.40} {before}: {answer}");
            let (fields, said) = answer.split_once("\r\n\r\n").expect("a head");
            assert!(said.starts_with(&format!("{path}: the head of the request ")), "{head:.40} {before}: {answer}");
            assert!(fields.contains("connection: close"), "{fields}");
            assert!(fields.ends_with(&format!("content-length: {}", said.len())), "{fields}");
        }
    }
    // In one packet, the answer to the first may still be on its way; then the refusal has its status at least.
    let two = "GET / HTTP/1.1\r\nhost: x\r\n\r\nnonsense\r\n\r\n";
    let answers = rest(answered(&address, 0).await, two).await;
    assert!(answers.starts_with("HTTP/1.1 200 OK\r\n") && answers.contains("\r\n\r\nokHTTP/1.1 400 "), "{answers}");
    cancel.cancel();
    serving.await.expect("ends");
}

/// The answer to a request whose body is sent so far, and whether the connection ended with it.
async fn ask(stream: &mut TcpStream, path: &str, length: &str, sent: usize) -> (String, bool) {
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\n{length}\r\n");
    stream.write_all(&[head.as_bytes(), &vec![b'x'; sent]].concat()).await.expect("taken");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok") {
        let count = timeout(LONGEST, stream.read_buf(&mut answer)).await.expect("in time").expect("readable");
        assert!(count > 0, "{}", answer.escape_ascii());
    }
    let answer = String::from_utf8(answer).expect("text");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let says_close = answer.contains("connection: close\r\n");
    if says_close {
        let ended = timeout(LONGEST, stream.read_buf(&mut Vec::new())).await.expect("in time");
        assert!(matches!(ended, Ok(0)), "{ended:?}");
    }
    (answer, says_close)
}

#[tokio::test]
async fn a_connection_ends_with_an_answer_amid_a_body_which_says_so_and_goes_on_after_any_other() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound");
    let cancel = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, Answers, LIMITS, cancel.clone()));
    for (path, length, sent, ends) in [
        ("/", "", 0, false),
        ("/read", "content-length: 200000\r\n", 200_000, false),
        // Little that is there already is read, so that the connection can stay.
        ("/", "content-length: 200\r\n", 200, false),
        ("/", "content-length: 200\r\n", 1, true),
        ("/", "content-length: 200000\r\n", 200_000, true),
        ("/", "transfer-encoding: chunked\r\n", 0, true),
        // It is not asked for what nobody reads.
        ("/", "content-length: 200\r\nexpect: 100-continue\r\n", 0, true),
    ] {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        let (answer, ended) = ask(&mut stream, path, length, sent).await;
        assert_eq!(ended, ends, "{path} {length:?} {sent}: {answer}");
        if !ends {
            assert!(!ask(&mut stream, "/", "", 0).await.1, "{path} {length:?} {sent}");
        }
    }
    cancel.cancel();
    serving.await.expect("ends");
}
