//! The head of an answer: its status and headers, where its body ends, and whether the connection goes on behind it.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use httparse::{ParserConfig, Status};
use hyper::ext::ReasonPhrase;

use crate::framing::{ChunkPart, Framing, NotHttp};

/// Most lines of a head.
const HEADERS: usize = 128;

/// Longest head.
const LONGEST: usize = 256 << 10;

/// A head.
#[derive(Debug)]
pub(crate) struct AnswerHead {
    pub(crate) answer: Response<()>,
    pub(crate) framing: Framing,
    /// The connection can take another request when this answer is read.
    pub(crate) keeps_connection: bool,
}

/// Takes a head from what has come; `None` where more has to come. Heads such as 100 are passed over, but 101 is the last that is HTTP.
pub(crate) fn take_head(came: &mut BytesMut, asked_for_head: bool) -> Result<Option<AnswerHead>, NotHttp> {
    while !came.is_empty() {
        let mut fields = [const { MaybeUninit::uninit() }; HEADERS];
        let mut parsed = httparse::Response::new(&mut []);
        let status = ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, came, &mut fields);
        let length = match status {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) if came.len() <= LONGEST => return Ok(None),
            Ok(Status::Partial) => return Err(NotHttp("its head is too long")),
            Err(_) => return Err(NotHttp("its head is none")),
        };
        let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or(NotHttp("its status does not exist"))?;
        let is_1_1 = parsed.version == Some(1);
        let reason = parsed.reason.filter(|reason| status.canonical_reason() != Some(reason));
        let reason = reason.map(|reason| Bytes::copy_from_slice(reason.as_bytes()));
        let begin = came.as_ptr().addr();
        let place = |part: &[u8]| {
            let from = part.as_ptr().addr() - begin;
            from..from + part.len()
        };
        let fields: Vec<(HeaderName, Range<usize>)> = parsed
            .headers
            .iter()
            .map(|field| Ok((HeaderName::from_bytes(field.name.as_bytes())?, place(field.value))))
            .collect::<Result<_, header::InvalidHeaderName>>()
            .map_err(|_| NotHttp("a header has no name"))?;
        let head = came.split_to(length).freeze();
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            continue;
        }
        let mut answer = Response::new(());
        *answer.status_mut() = status;
        // Room for those that the router adds.
        let headers = answer.headers_mut();
        headers.reserve(fields.len() + 5);
        for (name, place) in fields {
            let value = HeaderValue::from_maybe_shared(head.slice(place));
            headers.append(name, value.map_err(|_| NotHttp("a header has no value"))?);
        }
        let has_no_body = asked_for_head || matches!(status.as_u16(), 101 | 204 | 304);
        let framing = if has_no_body { Framing::EMPTY } else { framing(headers, is_1_1)? };
        let keeps_connection = framing != Framing::ToEnd && keeps_connection(headers, is_1_1);
        if let Some(reason) = reason.and_then(|reason| ReasonPhrase::try_from(reason).ok()) {
            answer.extensions_mut().insert(reason);
        }
        return Ok(Some(AnswerHead { answer, framing, keeps_connection }));
    }
    Ok(None)
}

fn framing(headers: &HeaderMap, is_1_1: bool) -> Result<Framing, NotHttp> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        // Two ends would be named, or one that only a decoder finds: who reads it otherwise takes the rest for the next answer.
        let is_chunked = coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
        return match is_1_1 && is_chunked {
            true => Ok(Framing::Chunked(ChunkPart::Size)),
            false => Err(NotHttp("its body is in a coding that nobody has asked for")),
        };
    }
    let mut length = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        for part in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let is_number = !part.is_empty() && part.iter().all(u8::is_ascii_digit);
            let number = str::from_utf8(part).ok().filter(|_| is_number).and_then(|part| part.parse::<u64>().ok());
            let number = number.ok_or(NotHttp("its length is no number"))?;
            if length.replace(number).is_some_and(|other| other != number) {
                return Err(NotHttp("it has two lengths"));
            }
        }
    }
    Ok(length.map_or(Framing::ToEnd, Framing::Length))
}

fn keeps_connection(headers: &HeaderMap, is_1_1: bool) -> bool {
    let options =
        || headers.get_all(header::CONNECTION).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    let says = |word: &[u8]| options().any(|option| option.trim_ascii().eq_ignore_ascii_case(word));
    !says(b"close") && (is_1_1 || says(b"keep-alive"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str, asked_for_head: bool) -> Result<Option<AnswerHead>, NotHttp> {
        let mut came = BytesMut::from(text.as_bytes());
        let head = take_head(&mut came, asked_for_head)?;
        if head.is_some() {
            assert_eq!(came, "BODY", "{text:?}");
        }
        Ok(head)
    }

    #[test]
    fn an_answer_ends_where_its_head_says() {
        let chunked = Framing::Chunked(ChunkPart::Size);
        for (head, asked_for_head, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", false, (Framing::Length(7), true)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 7\r\n\r\n", false, (Framing::Length(7), true)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 7, 7\r\n\r\n", false, (Framing::Length(7), true)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", true, (Framing::EMPTY, true)),
            ("HTTP/1.1 204 No Content\r\n\r\n", false, (Framing::EMPTY, true)),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", false, (Framing::EMPTY, true)),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", false, (chunked, true)),
            // The chunks decide (RFC 9112, 6.3).
            ("HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n", false, (chunked, true)),
            ("HTTP/1.1 200 OK\r\n\r\n", false, (Framing::ToEnd, false)),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: x, Close\r\n\r\n",
                false,
                (Framing::Length(7), false),
            ),
            ("HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\n", false, (Framing::Length(7), false)),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 7\r\nConnection: keep-alive\r\n\r\n",
                false,
                (Framing::Length(7), true),
            ),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 204 None\r\n\r\n",
                false,
                (Framing::EMPTY, true),
            ),
        ] {
            let read = taken(&format!("{head}BODY"), asked_for_head).expect("a head").expect("whole");
            assert_eq!((read.framing, read.keeps_connection), expected, "{head:?}");
            for end in 0..head.len() {
                assert!(take_head(&mut BytesMut::from(&head[..end]), asked_for_head).expect("begun").is_none());
            }
        }
    }

    #[test]
    fn a_head_that_leaves_a_doubt_where_its_answer_ends_is_refused() {
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 8\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +7\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 7,\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length : 7\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n folded\r\n\r\n",
            "HTTP/2 200\r\n\r\n",
            "SSH-2.0-OpenSSH\r\n\r\n",
        ] {
            assert!(taken(&format!("{head}BODY"), false).is_err(), "{head:?}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(LONGEST));
        assert_eq!(taken(&endless, false).map(drop), Err(NotHttp("its head is too long")));
    }

    #[test]
    fn headers_and_a_reason_of_its_own_come_out_as_they_came() {
        let text = "HTTP/1.1 200 Fine\r\nX-One: a\r\nx-one:\tb \r\nServer: llama.cpp\r\nContent-Length: 4\r\n\r\nBODY";
        let answer = taken(text, false).expect("a head").expect("whole").answer;
        let pairs: Vec<(&str, &[u8])> =
            answer.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let expected: [(&str, &[u8]); 4] =
            [("x-one", b"a"), ("x-one", b"b"), ("server", b"llama.cpp"), ("content-length", b"4")];
        assert_eq!(pairs, expected);
        assert_eq!(answer.extensions().get::<ReasonPhrase>().map(ReasonPhrase::as_bytes), Some(&b"Fine"[..]));
    }
}
