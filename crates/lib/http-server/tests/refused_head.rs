//! What a client is told whose request has a head that cannot be read.

#![expect(clippy::expect_used, reason = "a panic is how a test fails")]

use std::time::Duration;

use http::{Request, Response};
use llama_warden_http_server::{HeadFault, HttpService, RefusedLine, RequestBody, ServeLimits, Transport, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const LONGEST: Duration = Duration::from_secs(20);

const LIMITS: ServeLimits =
    ServeLimits { connections: 64, kept_for_probes: 8, head_timeout: LONGEST, drain: Duration::from_secs(1) };

/// Answers everything, and names the path of what it cannot read.
#[derive(Clone)]
struct Answers;

impl HttpService for Answers {
    type Body = String;

    async fn answer(&self, _: Request<RequestBody>, _: Transport) -> Response<String> {
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

const GOOD: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

/// A connection that has had so many answers.
async fn answered(listener: &str, requests: usize) -> TcpStream {
    let mut stream = TcpStream::connect(listener).await.expect("connects");
    for _ in 0..requests {
        stream.write_all(GOOD.as_bytes()).await.expect("taken");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok") {
            let read = timeout(LONGEST, stream.read_buf(&mut answer)).await.expect("in time");
            assert!(read.expect("readable") > 0, "{}", answer.escape_ascii());
        }
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
    let answers = rest(answered(&address, 0).await, &format!("{GOOD}nonsense\r\n\r\n")).await;
    assert!(answers.starts_with("HTTP/1.1 200 OK\r\n") && answers.contains("\r\n\r\nokHTTP/1.1 400 "), "{answers}");
    cancel.cancel();
    serving.await.expect("ends");
}
