//! The identity check over HTTP, on loopback.

use llama_warden_config::KeySource;
use llama_warden_probe::ProbeAddress;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

/// Answers as many connections as there are texts, one each, and gives back the heads of the requests.
async fn serve(answers: Vec<&'static [u8]>) -> (Target, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("has an address").port();
    let heads = tokio::spawn(async move {
        let mut heads = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.expect("accepts");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("reads"));
            }
            stream.write_all(answer).await.expect("writes");
            heads.push(String::from_utf8_lossy(&head).to_lowercase());
        }
        heads
    });
    let address = ProbeAddress::Tcp { host: "127.0.0.1".into(), port };
    (Target { address, prefix: String::new(), key: None, encrypted: false }, heads)
}

#[tokio::test]
async fn identity_falls_back_to_props_and_reads_the_key_from_its_file() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let file = directory.path().join("key");
    std::fs::write(&file, "# team keys\nsecret\nother\n").expect("writes");
    let (target, heads) = serve(vec![
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 34\r\n\r\n{\"model_path\":\"/models/tiny.gguf\"}",
    ])
    .await;
    let target = Target { key: Some(KeySource::file(file)), ..target };
    let identity = identify(&target, &["/models/tiny.gguf".into()]).await;
    let heads = heads.await.expect("serves");
    assert!(heads.iter().all(|head| head.contains("authorization: bearer secret")), "{heads:?}");
    assert_eq!(identity, Identity::Same);
}

#[tokio::test]
async fn a_model_that_cannot_be_read_is_unknown_not_wrong() {
    let cases: [&'static [u8]; 4] = [
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\noops",
        b"no http",
    ];
    for text in cases {
        let (target, _) = serve(vec![text, text]).await;
        let identity = identify(&target, &["x".into()]).await;
        assert!(matches!(identity, Identity::Unknown { .. }), "{identity:?}");
    }
    let (target, _) = serve(vec![b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"]).await;
    assert_eq!(identify(&target, &["x".into()]).await, Identity::NotReady);
}

#[tokio::test]
async fn a_server_that_has_closed_its_port_is_not_ready() {
    // At once, and behind the first answer.
    let (gone, listening) = serve(vec![]).await;
    listening.await.expect("serves");
    let (going, _) = serve(vec![b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"]).await;
    for target in [gone, going] {
        assert_eq!(identify(&target, &["x".into()]).await, Identity::NotReady);
    }
}
