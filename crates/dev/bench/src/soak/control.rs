//! Requests over the control socket of the daemon.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use llama_warden_test_parts::error::{Error, OnPath};
use serde_json::Value;

/// Longest wait for an answer. Commands that wait are answered within their own limit, which is shorter.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);

/// A daemon's control socket. Each request has a connection of its own.
#[derive(Debug)]
pub struct SoakClient(pub PathBuf);

impl SoakClient {
    /// Posts a command and returns status and body of the answer: a refusal is an answer too.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn post(&self, path: &str) -> Result<(u16, String), Error> {
        self.request("POST", path)
    }

    /// Reads a page and returns status and body of the answer.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn get(&self, path: &str) -> Result<(u16, String), Error> {
        self.request("GET", path)
    }

    /// The status of every server.
    ///
    /// # Errors
    /// When there is no answer, or it is not JSON.
    pub fn servers(&self) -> Result<Vec<Value>, Error> {
        let (status, body) = self.get("/api/v1/status")?;
        let report: Value = serde_json::from_str(&body).unwrap_or_default();
        let servers = report["servers"].as_array().cloned();
        servers.ok_or_else(|| Error::missing(format!("no status, but {status}: {body}"), "read the log of the daemon"))
    }

    fn request(&self, method: &str, path: &str) -> Result<(u16, String), Error> {
        let mut stream = UnixStream::connect(&self.0).on("connect to", &self.0)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT)).on("use", &self.0)?;
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(head.as_bytes()).on("write to", &self.0)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).on("read from", &self.0)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| {
            Error::missing(format!("`{method} {path}` was answered with `{answer}`"), "read the log of the daemon")
        })?;
        Ok((status, dechunked(head, body)))
    }
}

/// The body without the lengths of its chunks, if it has any.
fn dechunked(head: &str, body: &str) -> String {
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return body.to_owned();
    }
    let (mut text, mut rest) = (String::new(), body);
    while let Some((length, chunks)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length.trim(), 16).unwrap_or_default();
        let Some(chunk) = chunks.get(..length).filter(|chunk| !chunk.is_empty()) else { break };
        text.push_str(chunk);
        rest = chunks.get(length + 2..).unwrap_or_default();
    }
    text
}
