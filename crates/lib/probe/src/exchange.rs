//! One request and its answer on a connection, in HTTP/1.1.
//!
//! It takes the memory that the answer needs. The client of hyper takes 25 KiB for each connection, whatever is asked: when many servers
//! start at once they are probed at once, and the memory of those connections, freed between blocks that stay, remains with the daemon.

use std::io;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Request, StatusCode};
use httparse::{EMPTY_HEADER, Header, Response, Status};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::reply::{AskError, Reply};

/// Most bytes of an answer's head, or of the line before a chunk.
const HEAD_LIMIT: usize = 32 * 1024;
/// Most lines of an answer's head.
const HEADERS: usize = 100;
/// Least bytes that there is room for at each read.
const PIECE: usize = 1024;

/// Sends a request and reads its answer, with a body of `limit` bytes at most.
///
/// The answer ends where it says that it ends: nothing asks the server to close the connection.
pub(crate) async fn exchange<S>(stream: S, request: &Request<&str>, limit: usize) -> Result<Reply, AskError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut incoming = IncomingBytes { stream, bytes: Vec::new(), taken: 0 };
    // A server may answer and close before it has read everything: what comes from it decides.
    let _ = incoming.stream.write_all(&request_bytes(request)).await;
    let (status, body_end) = incoming.head().await?;
    let body = match body_end {
        BodyEnd::At(length) => incoming.sized(length, limit).await?,
        BodyEnd::LastChunk => incoming.chunked(limit).await?,
        BodyEnd::OfConnection => incoming.until_closed(limit).await?,
    };
    Ok(Reply { status, body: Bytes::from(body) })
}

fn request_bytes(request: &Request<&str>) -> Vec<u8> {
    let mut bytes = format!("{} {} HTTP/1.1\r\n", request.method(), request.uri()).into_bytes();
    for (name, value) in request.headers() {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            bytes.extend_from_slice(part);
        }
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(request.body().as_bytes());
    bytes
}

/// Where the body of an answer ends.
enum BodyEnd {
    /// After so many bytes.
    At(usize),
    /// With a chunk of no bytes.
    LastChunk,
    /// Where the server closes the connection.
    OfConnection,
}

/// A connection, and what came over it.
struct IncomingBytes<S> {
    stream: S,
    bytes: Vec<u8>,
    /// How many of the bytes are read already.
    taken: usize,
}

impl<S: AsyncRead + Unpin> IncomingBytes<S> {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }

    /// Waits for more; returns whether anything came before the end of the connection.
    async fn more(&mut self) -> Result<bool, AskError> {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.reserve(PIECE);
        Ok(self.stream.read_buf(&mut self.bytes).await.map_err(AskError::BrokenOff)? > 0)
    }

    /// Waits for more, where the answer cannot end.
    async fn needed(&mut self) -> Result<(), AskError> {
        match self.more().await? {
            true => Ok(()),
            false => Err(AskError::BrokenOff(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Waits until what a head or a line of a chunk needs has come, within [`HEAD_LIMIT`].
    async fn within_limit(&mut self) -> Result<(), AskError> {
        if self.rest().len() > HEAD_LIMIT {
            return Err(AskError::TooLarge(HEAD_LIMIT));
        }
        self.needed().await
    }

    async fn head(&mut self) -> Result<(StatusCode, BodyEnd), AskError> {
        loop {
            let Some((length, status, end)) = parse_head(self.rest())? else {
                self.within_limit().await?;
                continue;
            };
            self.taken += length;
            // The answer comes after answers such as 100, but 101 is the last that is HTTP.
            if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok((status, end));
            }
        }
    }

    async fn sized(&mut self, length: usize, limit: usize) -> Result<Vec<u8>, AskError> {
        if length > limit {
            return Err(AskError::TooLarge(limit));
        }
        while self.rest().len() < length {
            self.needed().await?;
        }
        Ok(self.rest().get(..length).unwrap_or_default().to_vec())
    }

    async fn until_closed(&mut self, limit: usize) -> Result<Vec<u8>, AskError> {
        loop {
            let is_over = !self.more().await?;
            if self.bytes.len() > limit {
                return Err(AskError::TooLarge(limit));
            }
            if is_over {
                return Ok(std::mem::take(&mut self.bytes));
            }
        }
    }

    async fn chunked(&mut self, limit: usize) -> Result<Vec<u8>, AskError> {
        let mut body = Vec::new();
        loop {
            let size = httparse::parse_chunk_size(self.rest());
            let size = size.map_err(|_| AskError::NotHttp("a chunk without a size".to_owned()))?;
            let Status::Complete((line, size)) = size else {
                self.within_limit().await?;
                continue;
            };
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            if size == 0 {
                return Ok(body);
            }
            if size.saturating_add(body.len()) > limit {
                return Err(AskError::TooLarge(limit));
            }
            self.taken += line;
            body.extend_from_slice(&self.sized(size, limit).await?);
            self.taken += size;
            while self.rest().len() < 2 {
                self.needed().await?;
            }
            if !self.rest().starts_with(b"\r\n") {
                return Err(AskError::NotHttp("a chunk that is longer than its size".to_owned()));
            }
            self.taken += 2;
        }
    }
}

/// Reads the head of an answer: its length, its status, and where its body ends. `None`: more has to come.
fn parse_head(bytes: &[u8]) -> Result<Option<(usize, StatusCode, BodyEnd)>, AskError> {
    let mut headers = [EMPTY_HEADER; HEADERS];
    let mut response = Response::new(&mut headers);
    let parsed = response.parse(bytes).map_err(|error| AskError::NotHttp(error.to_string()))?;
    let Status::Complete(length) = parsed else { return Ok(None) };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or_else(|| AskError::NotHttp("a status that does not exist".to_owned()))?;
    let has_body = !(status.is_informational() || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status));
    let end = if has_body { body_end(response.headers)? } else { BodyEnd::At(0) };
    Ok(Some((length, status, end)))
}

fn body_end(headers: &[Header<'_>]) -> Result<BodyEnd, AskError> {
    let value = |name: &str| headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    if let Some(coding) = value(TRANSFER_ENCODING.as_str()) {
        let is_chunked = coding.value.to_ascii_lowercase().ends_with(b"chunked");
        return Ok(if is_chunked { BodyEnd::LastChunk } else { BodyEnd::OfConnection });
    }
    let Some(length) = value(CONTENT_LENGTH.as_str()) else { return Ok(BodyEnd::OfConnection) };
    let length = std::str::from_utf8(length.value).ok().and_then(|length| length.trim().parse().ok());
    length.map(BodyEnd::At).ok_or_else(|| AskError::NotHttp("a length that is no number".to_owned()))
}
