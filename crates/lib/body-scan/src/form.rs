//! Finds a field of a multipart form while its bytes come, wherever it stands. Nothing is rebuilt.
//!
//! A boundary counts at the beginning of a line only, as for llama-server: a file may contain its text.

use http::{HeaderMap, header};
use memchr::memmem;

use crate::text::cut;
use crate::{BodyFault, LONGEST};

/// Longest head of a part.
const LONGEST_HEAD: usize = 16 << 10;

/// The boundary that a content type names; `None` where the body is no multipart form.
pub(crate) fn boundary(headers: &HeaderMap) -> Option<Vec<u8>> {
    let media_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let (essence, parameters) = media_type.split_once(';')?;
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    parameter(parameters, "boundary").filter(|boundary| !boundary.is_empty()).map(String::into_bytes)
}

/// A scanner of one form.
#[derive(Debug)]
pub(crate) struct FormScanner {
    /// A line's end and the boundary behind it.
    delimiter: memmem::Finder<'static>,
    wanted: &'static str,
    state: FormState,
    /// Bytes that cannot be told yet: shorter than the delimiter, or a head.
    rest: Vec<u8>,
    /// The bytes of the wanted field, as far as they may be its value.
    text: Vec<u8>,
    value: Option<String>,
    /// Parts that have begun.
    parts: usize,
    broken: Option<BodyFault>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FormState {
    /// Before the first boundary.
    Preamble,
    /// Right behind a boundary.
    Boundary,
    /// In the head of a part. It includes the line's end behind the boundary.
    Head,
    Content {
        is_wanted: bool,
    },
    /// Behind the last boundary.
    Over,
}

impl FormScanner {
    pub(crate) fn new(boundary: &[u8], wanted: &'static str) -> Self {
        let delimiter = [b"\r\n--", boundary].concat();
        Self {
            delimiter: memmem::Finder::new(&delimiter).into_owned(),
            wanted,
            state: FormState::Preamble,
            // The first boundary needs no line before it.
            rest: b"\r\n".to_vec(),
            text: Vec::new(),
            value: None,
            parts: 0,
            broken: None,
        }
    }

    /// The value of the field, without surrounding blanks, as soon as it is whole.
    pub(crate) fn value(&self) -> Option<&str> {
        self.value.as_deref()
    }

    pub(crate) const fn broken(&self) -> Option<BodyFault> {
        self.broken
    }

    pub(crate) fn fault(&self) -> Option<BodyFault> {
        self.broken.or_else(|| (self.state != FormState::Over).then_some(BodyFault::CutForm))
    }

    pub(crate) fn feed(&mut self, chunk: &[u8]) {
        if self.state == FormState::Over || self.broken.is_some() {
            return;
        }
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend_from_slice(chunk);
        let mut at = 0;
        while let Some(next) = self.step(&bytes[at..]) {
            at += next;
        }
        self.rest = bytes.split_off(at);
    }

    /// Takes bytes from the beginning, and gives their number; `None` where more have to come first.
    fn step(&mut self, bytes: &[u8]) -> Option<usize> {
        match self.state {
            FormState::Preamble | FormState::Content { .. } => {
                let needle = self.delimiter.needle().len();
                let Some(end) = self.delimiter.find(bytes) else {
                    let sure = bytes.len().saturating_sub(needle - 1);
                    self.content(&bytes[..sure]);
                    return (sure > 0).then_some(sure);
                };
                self.content(&bytes[..end]);
                self.content_ends();
                self.state = FormState::Boundary;
                Some(end + needle)
            }
            FormState::Boundary => {
                match bytes.get(..2)? {
                    b"--" if self.parts > 0 => self.state = FormState::Over,
                    b"\r\n" => (self.state, self.parts) = (FormState::Head, self.parts + 1),
                    _ => self.broken = Some(BodyFault::BadPart(self.parts + 1)),
                }
                // The line's end is the first of the two that end an empty head.
                Some(0).filter(|_| self.state == FormState::Head)
            }
            FormState::Head => {
                let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
                    if bytes.len() > LONGEST_HEAD {
                        self.broken = Some(BodyFault::BadPart(self.parts));
                    }
                    return None;
                };
                let is_wanted = self.value.is_none() && names(&bytes[..end], self.wanted);
                self.state = FormState::Content { is_wanted };
                self.text.clear();
                Some(end + 4)
            }
            FormState::Over => None,
        }
    }

    fn content(&mut self, bytes: &[u8]) {
        if self.state == (FormState::Content { is_wanted: true }) {
            let room = (LONGEST + 1).saturating_sub(self.text.len());
            self.text.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    fn content_ends(&mut self) {
        if self.state != (FormState::Content { is_wanted: true }) {
            return;
        }
        self.value = if self.text.len() > LONGEST {
            Some(cut(&self.text[..LONGEST]))
        } else {
            let text = std::str::from_utf8(&self.text).map(str::trim).unwrap_or_default();
            Some(text.to_owned()).filter(|text| !text.is_empty())
        };
    }
}

/// Whether the head of a part gives it this name.
fn names(head: &[u8], wanted: &str) -> bool {
    let head = String::from_utf8_lossy(head);
    head.lines().filter_map(|line| line.split_once(':')).any(|(key, value)| {
        key.trim().eq_ignore_ascii_case("content-disposition") && parameter(value, "name").as_deref() == Some(wanted)
    })
}

/// A parameter of a header's value, quoted or not.
fn parameter(parameters: &str, name: &str) -> Option<String> {
    parameters.split(';').find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        let is_wanted = key.trim().eq_ignore_ascii_case(name);
        is_wanted.then(|| value.trim().trim_matches('"').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const FORM: &str = "--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"model\"\r\nContent-Type: audio/wav\r\n\r\n\
        RIFF --xyz \r\n\r\n name=\"model\"\r\n--xyz\r\ncontent-disposition: form-data; name=model\r\n\r\nwhisper\r\n--xyz--\r\n";

    fn scan<'a>(boundary: &str, chunks: impl IntoIterator<Item = &'a [u8]>) -> (Option<String>, Option<BodyFault>) {
        let mut scanner = FormScanner::new(boundary.as_bytes(), "model");
        chunks.into_iter().for_each(|chunk| scanner.feed(chunk));
        (scanner.value().map(str::to_owned), scanner.fault())
    }

    #[test]
    fn the_model_is_found_behind_the_file_at_every_split() {
        for split in 0..=FORM.len() {
            let (first, second) = FORM.as_bytes().split_at(split);
            assert_eq!(scan("xyz", [first, second]), (Some("whisper".to_owned()), None), "{split}");
        }
        assert_eq!(scan("xyz", FORM.as_bytes().chunks(1)), (Some("whisper".to_owned()), None));
    }

    /// As b11434 does, which refuses the latter with 400.
    #[test]
    fn what_llama_server_takes_for_a_form_is_whole_and_the_rest_is_not() {
        let part = "--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\na\r\n";
        for whole in [
            format!("{part}--x--\r\n"),
            format!("{part}--x--"),
            format!("{part}--x--more"),
            format!("hello\r\n{part}--x--"),
            format!("\r\n{part}--x--"),
            format!("--x\r\n\r\nno head\r\n{part}--x--"),
        ] {
            assert_eq!(scan("x", [whole.as_bytes()]), (Some("a".to_owned()), None), "{whole:?}");
        }
        let long = part.replace("\r\na\r\n", &format!("\r\n{}\r\n", "a".repeat(LONGEST + 1))) + "--x--";
        assert_eq!(scan("x", [long.as_bytes()]), (Some(cut(&[b'a'; LONGEST])), None), "a name that is too long");
        for (broken, model, fault) in [
            (part.to_owned(), None, BodyFault::CutForm),
            (format!("{part}--x"), Some("a"), BodyFault::CutForm),
            (format!("{part}--x-"), Some("a"), BodyFault::CutForm),
            (format!("{part}{part}"), Some("a"), BodyFault::CutForm),
            (format!("{part}--x \r\n"), Some("a"), BodyFault::BadPart(2)),
            (String::new(), None, BodyFault::CutForm),
            ("--x--\r\n".to_owned(), None, BodyFault::BadPart(1)),
            (format!("--x\r\n{}", "h".repeat(LONGEST_HEAD)), None, BodyFault::BadPart(1)),
        ] {
            assert_eq!(scan("x", [broken.as_bytes()]), (model.map(str::to_owned), Some(fault)), "{broken:?}");
        }
        assert_eq!(scan("other", [FORM.as_bytes()]), (None, Some(BodyFault::CutForm)));
    }

    #[test]
    fn the_boundary_is_read_from_the_content_type() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(text));
            boundary(&headers)
        };
        assert_eq!(of("multipart/form-data; boundary=xyz").as_deref(), Some(b"xyz".as_slice()));
        assert_eq!(of("Multipart/Form-Data; charset=x; Boundary=\"x y\"").as_deref(), Some(b"x y".as_slice()));
        assert_eq!(of("application/json"), None);
        assert_eq!(of("multipart/form-data"), None);
    }
}
