//! One connection against a peer that says what a test wants.

use std::future::poll_fn;
use std::time::Duration;

use super::{LinkBroken, SendError, ServerLink};
use http::Response;
use llama_warden_held_body::HeldBody;
use llama_warden_probe::ProbeAddress;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const LONGEST: Duration = Duration::from_secs(20);

/// A connection, and the server's end of it.
async fn connected() -> (ServerLink, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("bound").port();
    let address = ProbeAddress::Tcp { host: "127.0.0.1".into(), port };
    let (link, accepted) = tokio::join!(ServerLink::connect(&address), listener.accept());
    (link.expect("connects"), accepted.expect("accepts").0)
}

fn head(length: usize) -> impl FnOnce(&mut Vec<u8>) {
    move |head| head.extend_from_slice(format!("POST / HTTP/1.1\r\ncontent-length: {length}\r\n\r\n").as_bytes())
}

async fn send(link: &mut ServerLink, body: &str) -> Result<Response<()>, SendError> {
    let sent = link.send(head(body.len()), HeldBody::whole(body.to_owned()), false);
    timeout(LONGEST, sent).await.expect("in time")
}

async fn read(link: &mut ServerLink) -> Result<String, LinkBroken> {
    let mut text = Vec::new();
    while let Some(frame) = timeout(LONGEST, poll_fn(|context| link.poll_frame(context))).await.expect("in time") {
        text.extend_from_slice(frame?.data_ref().map(|bytes| &**bytes).unwrap_or_default());
    }
    Ok(String::from_utf8(text).expect("text"))
}

/// What the peer got, up to the end of this text.
async fn got(peer: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let count = timeout(LONGEST, peer.read_buf(&mut text)).await.expect("in time").expect("readable");
        assert!(count > 0, "{}", text.escape_ascii());
    }
    String::from_utf8(text).expect("text")
}

#[tokio::test]
async fn a_connection_takes_one_request_after_the_other_however_its_answers_are_cut() {
    let (mut link, mut peer) = connected().await;
    let asked = async {
        for _ in 0..2 {
            assert_eq!(send(&mut link, "ask").await.expect("answered").status(), 200);
            assert_eq!(read(&mut link).await.expect("whole"), "one two");
            assert!(link.is_reusable() && link.is_silent());
        }
    };
    let answered = async {
        for _ in 0..2 {
            assert_eq!(got(&mut peer, "ask").await, "POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nask");
            let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n4\r\n two\r\n0\r\n\r\n";
            for byte in answer {
                peer.write_all(&[*byte]).await.expect("taken");
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::join!(asked, answered);
    assert_eq!(link.requests(), 2);
}

#[tokio::test]
async fn a_connection_whose_answer_leaves_a_doubt_is_not_used_again() {
    for (answer, is_whole) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", true),
        ("HTTP/1.1 200 OK\r\n\r\nok", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", false),
    ] {
        let (mut link, mut peer) = connected().await;
        let answered = async {
            got(&mut peer, "ask").await;
            peer.write_all(answer.as_bytes()).await.expect("taken");
            peer.shutdown().await.expect("closed");
        };
        let (sent, ()) = tokio::join!(send(&mut link, "ask"), answered);
        sent.expect("answered");
        let text = read(&mut link).await;
        assert_eq!(text.is_ok_and(|text| text == "ok"), is_whole, "{answer:?}");
        assert!(!link.is_reusable(), "{answer:?}");
    }
}

#[tokio::test]
async fn an_answer_amid_a_long_body_comes_before_the_body_is_sent() {
    let (mut link, mut peer) = connected().await;
    let long = "x".repeat(32 << 20);
    let answered = async {
        let mut piece = vec![0; 1000];
        peer.read_exact(&mut piece).await.expect("begun");
        peer.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig").await.expect("taken");
    };
    let (sent, ()) = tokio::join!(send(&mut link, &long), answered);
    assert_eq!(sent.expect("answered").status(), 413);
    assert_eq!(read(&mut link).await.expect("whole"), "big");
    assert!(!link.is_reusable(), "the rest of the body would be the next request");
}

#[tokio::test]
async fn an_answer_that_is_none_is_told_apart_from_one_that_did_not_come() {
    let (mut link, mut peer) = connected().await;
    let answered = async {
        got(&mut peer, "ask").await;
        peer.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n").await.expect("taken");
    };
    let (sent, ()) = tokio::join!(send(&mut link, "ask"), answered);
    assert!(matches!(sent, Err(SendError::Switched)), "{sent:?}");
    let (mut link, mut peer) = connected().await;
    let answered = async {
        got(&mut peer, "ask").await;
        drop(peer);
    };
    let (sent, ()) = tokio::join!(send(&mut link, "ask"), answered);
    assert!(matches!(sent, Err(SendError::Lost(_))), "{sent:?}");
}

#[tokio::test]
async fn a_request_that_its_server_never_read_can_go_to_another() {
    // Of its second request: it was closed before, closed with the request unread, and closed behind it.
    for (reads, closes_before, was_read) in
        [(0, true, false), (0, false, false), (10, false, false), (usize::MAX, false, true)]
    {
        let (mut link, mut peer) = connected().await;
        let first = async {
            got(&mut peer, "ask").await;
            peer.write_all(b"HTTP/1.1 204 None\r\n\r\n").await.expect("taken");
        };
        tokio::join!(async { send(&mut link, "ask").await.expect("answered") }, first);
        if closes_before {
            drop(peer);
        } else {
            tokio::spawn(async move {
                peer.readable().await.expect("open");
                match reads {
                    usize::MAX => drop(got(&mut peer, "ask").await),
                    reads => drop(peer.read_exact(&mut vec![0; reads]).await.expect("begun")),
                }
            });
        }
        let lost = send(&mut link, "ask").await.expect_err("nobody answers");
        assert_eq!(!matches!(lost, SendError::NotTaken), was_read, "{reads} {closes_before}: {lost}");
    }
}
