//! Bodies as they come over a connection, on a paused clock.

use std::convert::Infallible;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;

use super::*;
use crate::coming::PAUSE;

/// Sends the beginning of a request, and gives its reader and the client's end, whose drop is the client's leaving.
async fn reader(fields: &str, limits: &BodyLimits) -> (BodyReader<Incoming>, DuplexStream) {
    let (mut client, server) = duplex(1 << 20);
    let (sender, mut requests) = mpsc::channel(1);
    let serve = service_fn(move |request: Request<Incoming>| {
        let sender = sender.clone();
        async move {
            sender.send(request).await.expect("it is waited for");
            // The connection goes on as long as the body is read.
            std::future::pending::<()>().await;
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(server), serve));
    let head = format!("POST / HTTP/1.1\r\nhost: x\r\n{fields}\r\n");
    client.write_all(head.as_bytes()).await.expect("it is read");
    let (parts, incoming) = requests.recv().await.expect("a request").into_parts();
    (BodyReader::new(incoming, &parts.headers, limits).expect("a proper head").strict(), client)
}

fn limits() -> BodyLimits {
    BodyLimits::new(40 << 20, 100 << 20, Arc::default())
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_coming_is_given_up_after_the_pause_and_not_before() {
    let (mut reader, mut client) = reader("content-length: 20\r\n", &limits()).await;
    let sending = async {
        for _ in 0..3 {
            client.write_all(b" ").await.expect("it is read");
            tokio::time::sleep(PAUSE - Duration::from_secs(1)).await;
        }
        std::future::pending::<()>().await;
    };
    let begun = tokio::time::Instant::now();
    let read = tokio::select! { read = reader.read(ReadUntil::Named) => read, () = sending => unreachable!() };
    assert_eq!(read.expect_err("it is too slow").because, BodyRefusal::TooSlow);
    assert!(begun.elapsed() >= (PAUSE - Duration::from_secs(1)) * 2 + PAUSE);
}

#[tokio::test(start_paused = true)]
async fn a_long_body_is_read_until_its_model_is_known_and_the_rest_passes_through() {
    let (mut reader, mut client) = reader("content-length: 20000000\r\n", &limits()).await;
    client.write_all(br#"{"model":"a","prompt":""#).await.expect("it is read");
    reader.read(ReadUntil::Named).await.expect("the model is known");
    assert_eq!(reader.model(), Some("a"));
    let (mut body, _) = reader.finish();
    assert!(!body.is_whole() && body.length() == Some(20_000_000));
    let first = body.frame().await.expect("a frame").expect("bytes").into_data().expect("data");
    assert_eq!(first, br#"{"model":"a","prompt":""#.as_slice());
    client.write_all(b"xyz").await.expect("it is read");
    let second = body.frame().await.expect("a frame").expect("bytes").into_data().expect("data");
    assert_eq!((second, body.length()), ("xyz".into(), Some(20_000_000 - 26)));
    // Then nothing comes, and the server is not kept waiting for ever.
    body.frame().await.expect("a frame").expect_err("the rest is too slow");
    assert_eq!(body.rest_fault().map(|fault| fault.because), Some(BodyRefusal::TooSlow));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_amid_the_rest_ends_it_with_an_error() {
    let (mut reader, mut client) = reader("content-length: 20000000\r\n", &limits()).await;
    client.write_all(br#"{"model":"a","#).await.expect("it is read");
    reader.read(ReadUntil::Named).await.expect("the model is known");
    let (mut body, _) = reader.finish();
    drop(client);
    body.frame().await.expect("a frame").expect("what was read");
    body.frame().await.expect("a frame").expect_err("the client has left");
    assert_eq!(body.rest_fault().map(|fault| fault.because), Some(BodyRefusal::Broken));
}

#[tokio::test(start_paused = true)]
async fn a_body_without_an_end_is_refused_before_it_goes_anywhere() {
    for until in [ReadUntil::Named, ReadUntil::Begun] {
        let (mut reader, mut client) = reader("transfer-encoding: chunked\r\n", &limits()).await;
        let sending = async {
            client.write_all(b"e\r\n{\"model\":\"a\",\"\r\n").await.expect("it is read");
            loop {
                client.write_all(b"100000\r\n").await.expect("it is read");
                client.write_all(&vec![b' '; 1 << 20]).await.expect("it is read");
                client.write_all(b"\r\n").await.expect("it is read");
            }
        };
        let read = tokio::select! { read = reader.read(until) => read, () = sending => unreachable!() };
        assert_eq!(read.expect_err("it has no end").because, BodyRefusal::TooLong);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_is_read_until_its_model_is_known_however_long_it_is() {
    let (mut reader, mut client) = reader("content-length: 24\r\n", &limits()).await;
    client.write_all(br#"{"prompt":"","model":"a"}"#.get(..24).expect("long")).await.expect("it is read");
    assert_eq!(reader.read(ReadUntil::Named).await.expect_err("it is cut").because, BodyRefusal::Broken);

    let (mut reader, mut client) = self::reader("transfer-encoding: chunked\r\n", &limits()).await;
    let sending = async {
        client.write_all(b"c\r\n{\"prompt\":\"\"\r\n").await.expect("it is read");
        for _ in 0..20 {
            client.write_all(b"100000\r\n").await.expect("it is read");
            client.write_all(&vec![b' '; 1 << 20]).await.expect("it is read");
            client.write_all(b"\r\n").await.expect("it is read");
        }
        client.write_all(b"d\r\n,\"model\":\"a\"}\r\n0\r\n\r\n").await.expect("it is read");
    };
    let (read, ()) = tokio::join!(reader.read(ReadUntil::Named), sending);
    read.expect("a proper body");
    let (body, facts) = reader.finish();
    assert_eq!((facts.model.as_deref(), facts.is_json), (Some("a"), true));
    assert_eq!(body.collect().await.expect("all of it").to_bytes().len(), (20 << 20) + 25);
}
