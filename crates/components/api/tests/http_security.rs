//! Requests that the HTTP security checks refuse, over real sockets.

#![expect(clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

mod common;

use std::io;
use std::time::Duration;

use common::{ApiFixture, RawResponse, Setup, TOKEN, within};
use llama_warden_api::{BindError, Listeners};
use llama_warden_client::{Client, ClientError, DaemonAddress};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const START: &str = "POST /api/v1/servers/good/start";

#[tokio::test]
async fn what_a_browser_could_be_made_to_send_changes_nothing() {
    let mut daemon = ApiFixture::start().await;
    for (headers, status, reason) in [
        (vec!["Host: rebound.example"], 403, "foreign-host"),
        (vec!["Host: "], 403, "foreign-host"),
        (vec!["Origin: http://evil.example"], 403, "foreign-origin"),
        (vec!["Origin: null"], 403, "foreign-origin"),
        (vec!["Sec-Fetch-Site: cross-site"], 403, "foreign-origin"),
        (vec!["Content-Type: text/plain"], 415, "unsupported-media-type"),
        (vec!["Content-Type: application/x-www-form-urlencoded"], 415, "unsupported-media-type"),
    ] {
        let answer = daemon.ask(START, &headers).await;
        assert_eq!((answer.status, answer.json()["reason"].as_str()), (status, Some(reason)), "{headers:?}");
    }
    assert!(daemon.commands.try_recv().is_err(), "a command went through");
    daemon.end().await;
}

#[tokio::test]
async fn a_body_is_taken_only_when_it_is_small_and_says_nothing() {
    let mut daemon = ApiFixture::start().await;
    let json = "Content-Type: application/json";
    let long = vec![b' '; 200_000];
    let chunked = [format!("{:x}\r\n", long.len()).as_bytes(), &long, b"\r\n0\r\n\r\n"].concat();
    for (headers, body, status) in [
        (vec!["Content-Length: 2"], b"{}".as_slice(), 415),
        (vec![json, "Content-Length: 14"], b"{\"force\":true}", 400),
        (vec![json, "Content-Length: 8"], b"nonsense", 400),
        (vec![json, "Content-Length: 200000"], &long, 413),
        (vec![json, "Content-Length: 99999999999"], b"{}", 413),
        (vec![json, "Transfer-Encoding: chunked"], &chunked, 413),
    ] {
        let answer = daemon.ask_with_body(START, &headers, body).await;
        assert_eq!(answer.status, status, "{headers:?}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
    assert!(daemon.commands.try_recv().is_err(), "a command went through");
    let answer = daemon.ask_with_body(START, &[json, "Content-Length: 2"], b"{}").await;
    assert_eq!(answer.status, 202, "an empty object is fine");
    daemon.end().await;
}

#[tokio::test]
async fn a_token_is_asked_for_on_tcp_and_not_on_the_socket() {
    let mut daemon = ApiFixture::start_with(Setup { token: true, ..Setup::default() }).await;
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_ne!(daemon.ask(&format!("GET {path}"), &[]).await.status, 401, "{path}");
    }
    for request in ["GET /api/v1/status", "GET /api/v1/events", "GET /openapi.json", "GET /nowhere", START] {
        let answer = daemon.ask(request, &["Authorization: Bearer wrong"]).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("bearer")), "{request}");
        assert!(!answer.body.contains(TOKEN));
    }
    assert!(daemon.commands.try_recv().is_err(), "a command went through");
    within(daemon.over_tcp().status()).await.expect("the token opens");
    within(daemon.over_socket().status()).await.expect("the socket needs none");
    daemon.end().await;
}

#[tokio::test]
async fn off_loopback_without_a_token_only_probes_and_scrapers_are_answered() {
    let mut daemon = ApiFixture::start_with(Setup { host: "0.0.0.0", ..Setup::default() }).await;
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_ne!(daemon.ask(&format!("GET {path}"), &["Host: gpu-box:9888"]).await.status, 403, "{path}");
    }
    for request in ["GET /api/v1/status", START, "POST /api/v1/shutdown"] {
        let answer = daemon.ask(request, &[]).await;
        assert_eq!((answer.status, answer.json()["reason"].as_str()), (403, Some("token-not-configured")), "{request}");
        assert!(answer.json()["next_step"].as_str().is_some_and(|step| step.contains("token-file")));
    }
    assert!(daemon.commands.try_recv().is_err(), "a command went through");
    within(daemon.over_socket().status()).await.expect("the socket works all the same");
    daemon.end().await;
}

#[tokio::test]
async fn a_head_that_does_not_end_is_cut_off_and_holds_nobody_up() {
    let daemon = ApiFixture::start().await;
    let mut slow = TcpStream::connect(daemon.tcp).await.expect("connects");
    slow.write_all(b"GET /livez HTTP/1.1\r\nHost: local").await.expect("written");
    assert_eq!(daemon.ask("GET /livez", &[]).await.status, 200, "others are served meanwhile");
    let answer = RawResponse::read(slow).await;
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    daemon.end().await;
}

#[tokio::test]
async fn a_body_that_does_not_end_is_cut_off() {
    let mut daemon = ApiFixture::start().await;
    let headers = ["Content-Type: application/json", "Content-Length: 2"];
    let answer = daemon.ask_with_body(START, &headers, b"{").await;
    assert_eq!((answer.status, answer.json()["reason"].as_str()), (408, Some("request-timeout")));
    assert!(daemon.commands.try_recv().is_err(), "a command went through");
    daemon.end().await;
}

#[tokio::test]
async fn a_huge_head_and_garbage_are_refused() {
    let daemon = ApiFixture::start().await;
    let cookie = format!("Cookie: {}", "x".repeat(200_000));
    assert_eq!(daemon.ask("GET /livez", &[&cookie]).await.status, 431);
    let mut garbage = TcpStream::connect(daemon.tcp).await.expect("connects");
    garbage.write_all(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n").await.expect("written");
    assert_eq!(RawResponse::read(garbage).await.status, 400);
    daemon.end().await;
}

/// Fault S27.
#[tokio::test]
async fn a_client_that_never_reads_holds_up_neither_others_nor_the_end() {
    let daemon = ApiFixture::start().await;
    let mut silent = TcpStream::connect(daemon.tcp).await.expect("connects");
    let request = format!("GET /api/v1/events?since=0 HTTP/1.1\r\nHost: {}\r\n\r\n", daemon.tcp);
    silent.write_all(request.as_bytes()).await.expect("written");
    silent.readable().await.expect("the answer began");
    assert_eq!(daemon.ask("GET /livez", &[]).await.status, 200);
    let asked = std::time::Instant::now();
    daemon.end().await;
    assert!(asked.elapsed() < Duration::from_secs(3), "took {:?}", asked.elapsed());
    let mut rest = Vec::new();
    within(silent.read_to_end(&mut rest)).await.expect("ended in order");
}

#[tokio::test]
async fn an_address_in_use_is_told_before_anything_runs() {
    let directory = tempfile::tempdir().expect("directory");
    let bind = |name: &str, port| Listeners::bind(Some(("127.0.0.1", port)), &directory.path().join(name), Vec::new());
    let first = bind("one.sock", 0).expect("binds");
    let port = first.tcp_address().expect("tcp").port();
    let error = bind("two.sock", port).expect_err("taken");
    assert!(matches!(&error, BindError::Tcp { source, .. } if source.kind() == io::ErrorKind::AddrInUse), "{error}");
    assert!(!directory.path().join("two.sock").exists(), "nothing is left behind");
    let error = bind("one.sock", 0).expect_err("taken");
    assert!(matches!(error, BindError::Answered { .. }), "{error}");
}

#[tokio::test]
async fn nobody_and_somebody_else_are_told_apart() {
    let directory = tempfile::tempdir().expect("directory");
    let nobody = Client::new(DaemonAddress::Unix(directory.path().join("control.sock")), None);
    let error = within(nobody.status()).await.expect_err("nobody");
    assert!(matches!(&error, ClientError::Unreachable { source, .. } if source.kind() == io::ErrorKind::NotFound));

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
        }
    });
    let other = Client::new(DaemonAddress::Tcp { host: "127.0.0.1".to_owned(), port }, None);
    let error = within(other.status()).await.expect_err("no daemon");
    assert!(matches!(&error, ClientError::Protocol { .. }), "{error}");
}
