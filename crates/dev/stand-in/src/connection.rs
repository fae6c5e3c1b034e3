//! The part of HTTP/1.1 that clients of llama-server use: requests with `Content-Length`, responses with it or in chunks.
//!
//! An own parser, because an HTTP library would bring a runtime, and scripts send responses that a library refuses to send.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::AsRawFd,
    thread,
    time::Duration,
};

use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};

use crate::body_digest::BodyDigest;

const HEAD_LIMIT: usize = 64 << 10;

/// Bodies up to this length are kept.
const BODY_LIMIT: usize = 4 << 20;

/// Longest line with the length of a chunk.
const CHUNK_LINE: usize = 32;

/// A request with its whole body.
#[derive(Debug)]
pub(crate) struct HttpRequest {
    pub(crate) method: String,
    /// The path without the query.
    pub(crate) path: String,
    pub(crate) query: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// In place of a body that is too long to be kept.
    pub(crate) digest: Option<BodyDigest>,
}

impl HttpRequest {
    /// The value of a header field; `name` is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter in the query.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| decoded(value)).next()
    }

    /// Adds bytes to the body.
    fn add(&mut self, bytes: &[u8]) {
        if self.digest.is_none() && self.body.len() + bytes.len() > BODY_LIMIT {
            self.digest.get_or_insert_default().feed(&std::mem::take(&mut self.body));
        }
        match &mut self.digest {
            Some(digest) => digest.feed(bytes),
            None => self.body.extend_from_slice(bytes),
        }
    }

    pub(crate) fn keeps_alive(&self) -> bool {
        !self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// A connection, with the bytes that were read beyond the last request.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: File,
    ahead: Vec<u8>,
    sending: SendMode,
    /// Requests that it takes yet.
    requests_left: u32,
}

/// How the bytes of answers are sent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendMode {
    #[default]
    AsEver,
    /// So many more, then the connection ends.
    Cut { left: u64, reset: bool },
    /// One by one, with this pause before each.
    Slow(Duration),
}

impl Connection {
    /// A connection that ends with the answer to the last of so many requests.
    pub(crate) fn new(stream: File, requests: u32) -> Self {
        Self { stream, ahead: Vec::new(), sending: SendMode::default(), requests_left: requests }
    }

    /// Whether it takes another request.
    pub(crate) const fn goes_on(&self) -> bool {
        self.requests_left > 0
    }

    /// What an answer says of the connection.
    const fn fate(&self) -> &'static str {
        if self.goes_on() { "" } else { "Connection: close\r\n" }
    }

    /// Reads the head of the next request; `None` at the end of the connection, and for a head that is invalid or too large.
    pub(crate) fn request(&mut self) -> io::Result<Option<HttpRequest>> {
        // A client may send the head in pieces, or the next request together with this one.
        let head_end = loop {
            if let Some(at) = self.ahead.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if self.ahead.len() > HEAD_LIMIT || !self.read_more()? {
                return Ok(None);
            }
        };
        self.requests_left = self.requests_left.saturating_sub(1);
        let head: Vec<u8> = self.ahead.drain(..head_end).collect();
        Ok(parse_head(&String::from_utf8_lossy(&head)))
    }

    /// Reads the body of a request, or so many bytes of it.
    pub(crate) fn read_body(&mut self, request: &mut HttpRequest, most: u64) -> io::Result<()> {
        let is_chunked = request.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        if !is_chunked {
            let length = request.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
            return self.take(request, length.min(most));
        }
        loop {
            let line = loop {
                if let Some(at) = self.ahead.windows(2).take(CHUNK_LINE).position(|window| window == b"\r\n") {
                    break self.ahead.drain(..at + 2).collect::<Vec<u8>>();
                }
                if self.ahead.len() > CHUNK_LINE || !self.read_more()? {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            };
            let length = u64::from_str_radix(String::from_utf8_lossy(&line).trim(), 16)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let read = request.body.len() as u64 + request.digest.as_ref().map_or(0, BodyDigest::bytes);
            if read + length > most {
                return self.take(request, most.saturating_sub(read));
            }
            self.take(request, length)?;
            while self.ahead.len() < 2 {
                if !self.read_more()? {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            self.ahead.drain(..2);
            if length == 0 {
                return Ok(());
            }
        }
    }

    /// Takes this many bytes for the body of a request.
    fn take(&mut self, request: &mut HttpRequest, mut length: u64) -> io::Result<()> {
        while length > 0 {
            if self.ahead.is_empty() && !self.read_more()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let count = self.ahead.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            request.add(&self.ahead[..count]);
            self.ahead.drain(..count);
            length -= count as u64;
        }
        Ok(())
    }

    /// Sends a whole response, and returns its status.
    pub(crate) fn respond(&mut self, response: &HttpResponse) -> io::Result<Option<u16>> {
        let HttpResponse { status, content_type, body } = response;
        let head = format!(
            "HTTP/1.1 {status} {}\r\nServer: llama.cpp\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n{}\r\n",
            reason(*status),
            body.len(),
            self.fate()
        );
        self.send(&[head.as_bytes(), body.as_bytes()].concat())?;
        Ok(Some(*status))
    }

    /// Sends the head of a response of server-sent events.
    pub(crate) fn begin_events(&mut self) -> io::Result<()> {
        let head =
            "HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n";
        self.send(format!("{head}{}\r\n", self.fate()).as_bytes())
    }

    /// Sends one event.
    pub(crate) fn event(&mut self, data: &str) -> io::Result<()> {
        self.chunk(format!("data: {data}\n\n").as_bytes())
    }

    /// Sends a piece of a stream of events.
    pub(crate) fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.send(&[format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat())
    }

    pub(crate) fn end_events(&mut self) -> io::Result<()> {
        self.send(b"0\r\n\r\n")
    }

    /// Sends bytes unchanged.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.sending {
            SendMode::AsEver => self.stream.write_all(bytes),
            SendMode::Slow(pause) => bytes.iter().try_for_each(|byte| {
                thread::sleep(pause);
                self.stream.write_all(&[*byte])
            }),
            SendMode::Cut { left, reset } => {
                let count = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                self.stream.write_all(&bytes[..count])?;
                self.sending = SendMode::Cut { left: left - count as u64, reset };
                if count == bytes.len() {
                    return Ok(());
                }
                if reset {
                    self.reset()?;
                }
                Err(io::ErrorKind::ConnectionAborted.into())
            }
        }
    }

    /// Changes how the bytes of the next answers are sent.
    pub(crate) fn send_as(&mut self, sending: SendMode) {
        self.sending = sending;
    }

    /// Has the kernel reset the connection when it is closed.
    pub(crate) fn reset(&mut self) -> io::Result<()> {
        let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        Ok(setsockopt(&self.stream, sockopt::Linger, &at_once)?)
    }

    /// Closes our side of the connection.
    pub(crate) fn stop_sending(&mut self) -> io::Result<()> {
        Ok(shutdown(self.stream.as_raw_fd(), Shutdown::Write)?)
    }

    /// Waits until the client closes the connection, and discards what it sends until then.
    pub(crate) fn await_hang_up(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                // The read timeout: the client is silent, and still connected.
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(_) => return,
            }
        }
    }

    fn read_more(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 64 << 10];
        let count = self.stream.read(&mut buffer)?;
        self.ahead.extend(&buffer[..count]);
        Ok(count > 0)
    }
}

fn parse_head(head: &str) -> Option<HttpRequest> {
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Some(HttpRequest {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body: Vec::new(),
        digest: None,
    })
}

/// A percent-encoded text.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (hex, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        bytes.extend(u8::from_str_radix(hex, 16));
        bytes.extend(rest.bytes());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A response with a known length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
}

impl HttpResponse {
    pub(crate) fn json(status: u16, body: impl Into<String>) -> Self {
        Self { status, content_type: "application/json; charset=utf-8", body: body.into() }
    }

    pub(crate) fn not_found() -> Self {
        Self::error(404, "File Not Found", "not_found_error")
    }

    pub(crate) fn error(status: u16, message: &str, kind: &str) -> Self {
        Self::json(status, format!(r#"{{"error":{{"message":"{message}","type":"{kind}","code":{status}}}}}"#))
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        413 => "Payload Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Other",
    }
}
