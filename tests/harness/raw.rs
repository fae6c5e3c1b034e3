//! HTTP as bytes: requests that no client library sends, and answers as they come.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::WAIT_LIMIT;

/// The head of a POST, with further fields.
pub fn post_head(path: &str, fields: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n")
}

/// A whole POST with further fields.
pub fn post_bytes(path: &str, fields: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = post_head(path, &format!("{fields}Content-Length: {}\r\n", body.len())).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// A connection to a port of this machine.
///
/// # Panics
/// If nothing listens there.
pub async fn connect(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).await.expect("it listens")
}

/// Sends bytes and reads the answer to the end of its connection.
///
/// # Panics
/// If the bytes are not taken, or the answer does not end.
pub async fn exchange_bytes(port: u16, bytes: &[u8]) -> String {
    let mut stream = connect(port).await;
    // Who answers early may close the connection before all of it is sent.
    let _ = timeout(WAIT_LIMIT, stream.write_all(bytes)).await.expect("the bytes are taken");
    read_answer(&mut stream).await
}

/// Reads an answer to the end of its connection.
///
/// # Panics
/// If it does not end.
pub async fn read_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A connection that is reset behind the answer has delivered it.
    let _ = timeout(WAIT_LIMIT, stream.read_to_end(&mut answer)).await.expect("the answer ends");
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status of an answer, and its body where that is JSON.
///
/// # Panics
/// If it has no head.
pub fn parsed_answer(answer: &str) -> (u16, Value) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no status: {answer:?}")), serde_json::from_str(body).unwrap_or(Value::Null))
}

/// The word that clients decide by: OpenAI's `code`, or Anthropic's `type`.
///
/// # Panics
/// If the body is no error of the router.
pub fn error_word(body: &Value) -> &str {
    let error = &body["error"];
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    error["code"].as_str().or(error["type"].as_str()).unwrap_or_else(|| panic!("no code: {body}"))
}
