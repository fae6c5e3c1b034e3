//! Where the body of an answer ends, and its bytes up to there.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use httparse::{EMPTY_HEADER, Status};

/// Longest line before a chunk, with what extends it.
const LONGEST_LINE: usize = 4 << 10;

/// Longest trailer section, and the most fields in it.
const LONGEST_TRAILERS: usize = 16 << 10;
const TRAILERS: usize = 64;

/// What came is no answer in HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what came is not HTTP/1.1: {0}")]
pub struct NotHttp(pub(crate) &'static str);

/// What is left of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks, each with its size, up to one of no bytes.
    Chunked(ChunkPart),
    /// Whatever comes before the end of the connection.
    ToEnd,
}

/// What comes next of a body in chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkPart {
    Size,
    Bytes(u64),
    /// The line end behind the bytes.
    LineEnd,
    /// What follows the last chunk.
    Trailers,
}

/// What the bytes that are here are.
#[derive(Debug, PartialEq)]
pub(crate) enum BodyStep {
    Bytes(Bytes),
    Trailers(HeaderMap),
    End,
    /// More has to come.
    Partial,
}

impl Framing {
    /// Nothing, or nothing any more.
    pub(crate) const EMPTY: Self = Self::Length(0);

    pub(crate) fn is_over(self) -> bool {
        self == Self::EMPTY
    }

    /// How much is left, where that is known.
    pub(crate) const fn left(self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(left),
            Self::Chunked(_) | Self::ToEnd => None,
        }
    }

    /// Takes the next part of a body from what has come.
    pub(crate) fn step(&mut self, came: &mut BytesMut) -> Result<BodyStep, NotHttp> {
        loop {
            let part = match self {
                Self::Length(0) => return Ok(BodyStep::End),
                _ if came.is_empty() => return Ok(BodyStep::Partial),
                Self::Length(left) => {
                    let bytes = take(came, *left);
                    *left -= bytes.len() as u64;
                    return Ok(BodyStep::Bytes(bytes));
                }
                Self::ToEnd => return Ok(BodyStep::Bytes(came.split().freeze())),
                Self::Chunked(part) => part,
            };
            match part {
                ChunkPart::Size => match httparse::parse_chunk_size(came) {
                    Ok(Status::Complete((line, size))) => {
                        came.advance(line);
                        *part = if size == 0 { ChunkPart::Trailers } else { ChunkPart::Bytes(size) };
                    }
                    Ok(Status::Partial) if came.len() <= LONGEST_LINE => return Ok(BodyStep::Partial),
                    Ok(Status::Partial) | Err(_) => return Err(NotHttp("a chunk has no size")),
                },
                ChunkPart::Bytes(left) => {
                    let bytes = take(came, *left);
                    *left -= bytes.len() as u64;
                    if *left == 0 {
                        *part = ChunkPart::LineEnd;
                        self.end_early(came);
                    }
                    return Ok(BodyStep::Bytes(bytes));
                }
                ChunkPart::LineEnd => match &came[..] {
                    [b'\r', b'\n', ..] => {
                        came.advance(2);
                        *part = ChunkPart::Size;
                    }
                    [b'\r'] => return Ok(BodyStep::Partial),
                    _ => return Err(NotHttp("a chunk is longer than its size")),
                },
                ChunkPart::Trailers => return self.trailers(came),
            }
        }
    }

    /// A body whose end is here already ends with its last bytes, so that nobody has to ask for it.
    fn end_early(&mut self, came: &mut BytesMut) {
        const END: &[u8] = b"\r\n0\r\n\r\n";
        if came.starts_with(END) {
            came.advance(END.len());
            *self = Self::EMPTY;
        }
    }

    fn trailers(&mut self, came: &mut BytesMut) -> Result<BodyStep, NotHttp> {
        if came.starts_with(b"\r\n") {
            came.advance(2);
            *self = Self::EMPTY;
            return Ok(BodyStep::End);
        }
        let mut fields = [EMPTY_HEADER; TRAILERS];
        let bad = NotHttp("the fields behind the last chunk are none");
        match httparse::parse_headers(came, &mut fields) {
            Ok(Status::Complete((length, fields))) => {
                let mut trailers = HeaderMap::new();
                for field in fields {
                    let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| bad)?;
                    trailers.append(name, HeaderValue::from_bytes(field.value).map_err(|_| bad)?);
                }
                came.advance(length);
                *self = Self::EMPTY;
                Ok(BodyStep::Trailers(trailers))
            }
            Ok(Status::Partial) if came.len() <= LONGEST_TRAILERS => Ok(BodyStep::Partial),
            Ok(Status::Partial) | Err(_) => Err(bad),
        }
    }
}

/// So much of it, or what there is.
fn take(came: &mut BytesMut, most: u64) -> Bytes {
    let length = usize::try_from(most).unwrap_or(usize::MAX).min(came.len());
    came.split_to(length).freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKED: Framing = Framing::Chunked(ChunkPart::Size);

    /// Reads a body that comes in pieces of so many bytes: its bytes, its trailers, and what is left behind its end.
    fn read(mut framing: Framing, text: &[u8], size: usize) -> Result<(Vec<u8>, HeaderMap, Vec<u8>), NotHttp> {
        let (mut came, mut body, mut trailers) = (BytesMut::new(), Vec::new(), HeaderMap::new());
        let mut pieces = text.chunks(size);
        loop {
            match framing.step(&mut came)? {
                BodyStep::Bytes(bytes) => body.extend_from_slice(&bytes),
                BodyStep::Trailers(fields) => trailers = fields,
                BodyStep::End => {
                    pieces.for_each(|piece| came.extend_from_slice(piece));
                    return Ok((body, trailers, came.to_vec()));
                }
                BodyStep::Partial => came.extend_from_slice(pieces.next().ok_or(NotHttp("it ends too early"))?),
            }
        }
    }

    #[test]
    fn a_body_is_the_same_however_it_is_cut_and_ends_where_it_says() {
        let chunks = b"3\r\none\r\n0004;name=\"x\"\r\n two\r\n0\r\n\r\nHTTP/1.1";
        let trailed = b"3\r\none\r\n0\r\nx-sum: 7\r\nx-sum: 8\r\n\r\n";
        for size in 1..chunks.len() {
            let (body, trailers, rest) = read(CHUNKED, chunks, size).expect("a body");
            assert_eq!((&body[..], trailers.len(), &rest[..]), (&b"one two"[..], 0, &b"HTTP/1.1"[..]), "{size}");
            let (body, trailers, rest) = read(CHUNKED, trailed, size).expect("a body");
            let sums: Vec<&[u8]> = trailers.get_all("x-sum").iter().map(HeaderValue::as_bytes).collect();
            assert_eq!((&body[..], sums, rest.len()), (&b"one"[..], vec![&b"7"[..], b"8"], 0), "{size}");
            let (body, _, rest) = read(Framing::Length(5), b"12345678", size).expect("a body");
            assert_eq!((&body[..], &rest[..]), (&b"12345"[..], &b"678"[..]), "{size}");
        }
        assert_eq!(read(Framing::EMPTY, b"x", 1).expect("none"), (Vec::new(), HeaderMap::new(), b"x".to_vec()));
    }

    #[test]
    fn a_body_that_is_framed_wrong_is_refused() {
        for text in [
            &b"x\r\n"[..],
            b"-1\r\n",
            b"11111111111111111\r\n",
            b"3\r\nfour\r\n0\r\n\r\n",
            b"3\r\none\n0\r\n\r\n",
            b"3\r\none\r\n0\r\nno field\r\n\r\n",
            b"3\r\none\r\n0\r\n",
            b"3\r\non",
        ] {
            for size in [1, text.len()] {
                assert!(read(CHUNKED, text, size).is_err(), "{}", text.escape_ascii());
            }
        }
        let endless = [&b"1;"[..], &vec![b'x'; LONGEST_LINE]].concat();
        assert_eq!(read(CHUNKED, &endless, 100), Err(NotHttp("a chunk has no size")));
    }

    #[test]
    fn the_end_that_came_with_the_last_bytes_is_known_with_them() {
        let (mut framing, mut came) = (CHUNKED, BytesMut::from(&b"2\r\nok\r\n0\r\n\r\n"[..]));
        assert_eq!(framing.step(&mut came), Ok(BodyStep::Bytes(Bytes::from_static(b"ok"))));
        assert!(framing.is_over() && came.is_empty());
    }
}
