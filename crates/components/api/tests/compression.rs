//! Which answers are compressed.

#![expect(clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

mod common;

use common::ApiFixture;

const ACCEPTS: &str = "Accept-Encoding: gzip";

#[tokio::test]
async fn an_answer_of_some_size_is_compressed_for_clients_that_accept_it() {
    let daemon = ApiFixture::start().await;
    for path in ["/metrics?lines=1000", "/openapi.json"] {
        let plain = daemon.ask(&format!("GET {path}"), &[]).await;
        let compressed = daemon.ask(&format!("GET {path}"), &[ACCEPTS]).await;
        assert_eq!((plain.header("content-encoding"), compressed.header("content-encoding")), (None, Some("gzip")));
        assert_eq!(plain.header("content-type"), compressed.header("content-type"));
        assert_eq!([&plain, &compressed].map(|response| response.header("vary")), [Some("accept-encoding"); 2]);
        assert_eq!(plain.body, compressed.body);
        let length: usize = compressed.header("content-length").expect("is known").parse().expect("a number");
        let head = daemon.ask(&format!("HEAD {path}"), &[ACCEPTS]).await;
        assert_eq!(head.header("content-length"), compressed.header("content-length"), "{path}");
        assert!(length < plain.body.len() / 2, "{path}: {length} of {}", plain.body.len());
    }
    daemon.end().await;
}

#[tokio::test]
async fn a_client_gets_gzip_only_where_it_accepts_it() {
    let daemon = ApiFixture::start().await;
    for (value, expected) in [
        ("GZip", true),
        ("x-gzip", true),
        ("deflate, gzip;q=0.5, br", true),
        ("*", true),
        ("*;q=0, gzip", true),
        ("", false),
        ("identity", false),
        ("gzip;q=0", false),
        ("gzip; q=0.000", false),
        ("*, gzip;q=0", false),
        ("gzip;q=much", false),
        ("notgzip", false),
    ] {
        let answer = daemon.ask("GET /metrics?lines=1000", &[&format!("Accept-Encoding: {value}")]).await;
        assert_eq!(answer.header("content-encoding").is_some(), expected, "{value}");
    }
    daemon.end().await;
}

#[tokio::test]
async fn a_short_answer_a_refusal_and_a_stream_stay_as_they_are() {
    let daemon = ApiFixture::start().await;
    for path in ["GET /metrics?lines=1", "GET /livez", "GET /nothing"] {
        assert_eq!(daemon.ask(path, &[ACCEPTS]).await.header("content-encoding"), None, "{path}");
    }
    let address = daemon.tcp;
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connects");
    let request = format!("GET /api/v1/events?since=0 HTTP/1.1\r\nHost: {address}\r\n{ACCEPTS}\r\n\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.expect("written");
    // The answer has begun; the end of the daemon ends it.
    stream.readable().await.expect("is answered");
    let (followed, ()) = tokio::join!(common::RawResponse::read(stream), daemon.end());
    assert_eq!(followed.header("content-encoding"), None);
}
