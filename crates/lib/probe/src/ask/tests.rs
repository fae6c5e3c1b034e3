//! Questions to servers that mean harm, on loopback and in real time.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

use super::*;

const TIMEOUT: Duration = Duration::from_secs(2);
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}";

/// What a server writes after it has read a request head: a beginning, then for ever something else.
#[derive(Clone, Copy)]
enum Script {
    Say(&'static [u8]),
    SayForEver(&'static [u8], &'static [u8]),
    Trickle(&'static [u8]),
    Hang,
    HangUp,
}

async fn play<S: AsyncReadExt + AsyncWriteExt + Unpin>(mut stream: S, script: Script) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    // The client may be gone at any time; that is its right.
    match script {
        Script::Say(text) => {
            let _ = stream.write_all(text).await;
            let _ = stream.shutdown().await;
        }
        Script::SayForEver(first, rest) => {
            let _ = stream.write_all(first).await;
            while stream.write_all(rest).await.is_ok() {}
        }
        Script::Trickle(text) => {
            for byte in text {
                if stream.write_all(&[*byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
        Script::Hang => {
            let _ = stream.read_u8().await;
        }
        Script::HangUp => {}
    }
    String::from_utf8_lossy(&head).into_owned()
}

async fn target(script: Script) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("has an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(play(stream, script));
        }
    });
    tcp(port)
}

fn tcp(port: u16) -> Target {
    let address = ProbeAddress::Tcp { host: "127.0.0.1".into(), port };
    Target { address, prefix: String::new(), key: None, encrypted: false }
}

async fn answer(script: Script) -> ProbeAnswer {
    let target = target(script).await;
    let began = Instant::now();
    let answer = probe(&target, "/health", TIMEOUT).await;
    assert!(began.elapsed() < TIMEOUT + Duration::from_secs(1), "took {:?}", began.elapsed());
    answer
}

#[tokio::test]
async fn an_honest_answer_is_taken_for_what_it_says() {
    let cases: [(&[u8], ProbeAnswer); 6] = [
        (OK, ProbeAnswer::Ok),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ProbeAnswer::Ok),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}", ProbeAnswer::NotReady),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", ProbeAnswer::NotFound),
        (b"HTTP/1.0 401 Unauthorized\r\n\r\n", ProbeAnswer::Other(401)),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", ProbeAnswer::Other(302)),
    ];
    for (text, expected) in cases {
        assert_eq!(answer(Script::Say(text)).await, expected, "{}", String::from_utf8_lossy(text));
    }
}

#[tokio::test]
async fn nobody_there_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("has an address").port();
    drop(listener);
    assert_eq!(probe(&tcp(port), "/health", TIMEOUT).await, ProbeAnswer::Refused);
}

#[tokio::test]
async fn a_server_that_says_nothing_in_time_gives_no_answer() {
    let (hang, trickle, broken, hung_up, cut) = tokio::join!(
        answer(Script::Hang),
        answer(Script::Trickle(OK)),
        answer(Script::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")),
        answer(Script::HangUp),
        answer(Script::Say(b"HTTP/1.1 200")),
    );
    assert_eq!([hang, trickle, broken, hung_up, cut], [ProbeAnswer::NoAnswer; 5]);
}

#[tokio::test]
async fn what_is_endless_or_no_http_is_garbage() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n";
    let (body, header, length, text) = tokio::join!(
        answer(Script::SayForEver(head, &[b'x'; 8192])),
        answer(Script::SayForEver(b"HTTP/1.1 200 OK\r\nX: ", &[b'x'; 8192])),
        answer(Script::Say(b"HTTP/1.1 200 OK\r\nContent-Length: nine\r\n\r\n")),
        answer(Script::Say(b"SSH-2.0-OpenSSH_9.2\r\n")),
    );
    assert_eq!([body, header, length, text], [ProbeAnswer::Garbage; 4]);
}

#[tokio::test]
async fn a_body_is_read_to_the_end_that_the_answer_gives_it() {
    let cases: [(&[u8], &str); 4] = [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokmore", "ok"),
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", "to the end"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nin \r\n6\r\npieces\r\n0\r\n\r\n", "in pieces"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nafter", "after"),
    ];
    for (text, expected) in cases {
        let reply = ask(&target(Script::Say(text)).await, Question::get("/props", TIMEOUT)).await.expect("answers");
        assert_eq!((reply.status, String::from_utf8_lossy(&reply.body)), (StatusCode::OK, expected.into()));
    }
    let nothing =
        ask(&target(Script::Say(b"HTTP/1.1 204 No Content\r\n\r\n")).await, Question::get("/", TIMEOUT)).await;
    assert!(nothing.expect("answers").body.is_empty());
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_too_large_whichever_way_its_length_is_told() {
    for text in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\n\r\n123456789",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n4\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    ] {
        let asked = ask(&target(Script::Say(text)).await, Question::get("/props", TIMEOUT).with_limit(8)).await;
        assert!(matches!(asked, Err(AskError::TooLarge(8))), "{asked:?}");
    }
}

#[tokio::test]
async fn chunks_that_are_none_are_no_http() {
    for text in [
        &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfive\r\n"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nthree\r\n0\r\n\r\n",
    ] {
        assert_eq!(answer(Script::Say(text)).await, ProbeAnswer::Garbage, "{}", String::from_utf8_lossy(text));
    }
}

#[tokio::test]
async fn the_request_is_plain_and_carries_prefix_and_key() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("has an address").port();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("accepts");
        play(stream, Script::Say(OK)).await
    });
    let target = Target { prefix: "/llama".into(), ..tcp(port) };
    let reply = ask(&target, Question::get("/v1/models", TIMEOUT).with_key(Some("secret"))).await.expect("answers");
    assert_eq!((reply.status, &*reply.body), (StatusCode::OK, &b"{\"status\":\"ok\"}"[..]));
    let head = server.await.expect("serves").to_lowercase();
    assert!(head.starts_with("get /llama/v1/models http/1.1\r\n"), "{head}");
    for line in [format!("host: 127.0.0.1:{port}"), "authorization: bearer secret".into()] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{head}");
    }
}

#[tokio::test]
async fn the_connection_is_closed_by_the_client_so_that_the_port_of_the_server_is_free() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("has an address").port();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accepts");
        let mut request = vec![0; 4096];
        let read = stream.read(&mut request).await.expect("reads");
        stream.write_all(OK).await.expect("writes");
        let after = tokio::time::timeout(TIMEOUT, stream.read(&mut [0; 16])).await.expect("the client closes");
        (String::from_utf8_lossy(&request[..read]).to_lowercase(), after.expect("it closes in order"))
    });
    assert_eq!(probe(&tcp(port), "/health", TIMEOUT).await, ProbeAnswer::Ok);
    let (request, after) = server.await.expect("serves");
    assert_eq!(after, 0);
    assert!(!request.contains("\r\nconnection:"), "the server is not told to close: {request}");
}

#[tokio::test]
async fn a_unix_socket_is_asked_too() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let path = directory.path().join("llama.sock");
    let target = Target { address: ProbeAddress::Unix(path.clone()), ..tcp(1) };
    assert_eq!(probe(&target, "/health", TIMEOUT).await, ProbeAnswer::Refused);
    let listener = UnixListener::bind(&path).expect("binds");
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("accepts");
        play(stream, Script::Say(OK)).await
    });
    assert_eq!(probe(&target, "/health", TIMEOUT).await, ProbeAnswer::Ok);
}

#[tokio::test]
async fn a_post_carries_its_json() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("has an address").port();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accepts");
        let mut request = vec![0; 4096];
        let mut read = 0;
        while !request[..read].ends_with(b"{\"n\":1}") {
            read += stream.read(&mut request[read..]).await.expect("reads");
        }
        stream.write_all(OK).await.expect("writes");
        String::from_utf8_lossy(&request[..read]).to_lowercase()
    });
    let reply = ask(&tcp(port), Question::post("/completion", "{\"n\":1}", TIMEOUT)).await.expect("answers");
    assert_eq!(reply.status, StatusCode::OK);
    let request = server.await.expect("serves");
    assert!(request.starts_with("post /completion http/1.1\r\n"), "{request}");
    assert!(request.contains("\r\ncontent-type: application/json\r\n"), "{request}");
    assert!(request.contains("\r\ncontent-length: 7\r\n"), "{request}");
}

#[tokio::test]
async fn a_connection_alone_tells_whether_somebody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("has an address").port();
    assert_eq!(connect(&tcp(port), TIMEOUT).await, ProbeAnswer::Ok);
    drop(listener);
    assert_eq!(connect(&tcp(port), TIMEOUT).await, ProbeAnswer::Refused);
}
