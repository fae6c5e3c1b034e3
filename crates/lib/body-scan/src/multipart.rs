//! Finds a field of a multipart body, wherever it stands. Nothing is rebuilt.

use http::{HeaderMap, header};
use memchr::memmem;

/// The boundary that a content type names; `None` where the body is no multipart form.
pub fn boundary(headers: &HeaderMap) -> Option<Vec<u8>> {
    let media_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let (essence, parameters) = media_type.split_once(';')?;
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    parameter(parameters, "boundary").filter(|boundary| !boundary.is_empty()).map(String::into_bytes)
}

/// The value of a field, without surrounding blanks.
pub fn field(body: &[u8], boundary: &[u8], name: &str) -> Option<String> {
    let delimiter = [b"--", boundary].concat();
    let mut places = memmem::find_iter(body, &delimiter).peekable();
    while let Some(start) = places.next() {
        let end = places.peek().copied().unwrap_or(body.len());
        let part = &body[start + delimiter.len()..end];
        let Some(blank) = memmem::find(part, b"\r\n\r\n") else { continue };
        let (head, value) = (std::str::from_utf8(&part[..blank]).unwrap_or_default(), &part[blank + 4..]);
        let is_wanted = head.lines().any(|line| {
            let disposition =
                line.split_once(':').filter(|(key, _)| key.trim().eq_ignore_ascii_case("content-disposition"));
            disposition.is_some_and(|(_, value)| parameter(value, "name").as_deref() == Some(name))
        });
        if is_wanted {
            return std::str::from_utf8(value)
                .ok()
                .map(|value| value.trim().to_owned())
                .filter(|value| !value.is_empty());
        }
    }
    None
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
        RIFF --xy \r\n\r\n name=\"model\"\r\n--xyz\r\ncontent-disposition: form-data; name=model\r\n\r\nwhisper\r\n--xyz--\r\n";

    #[test]
    fn the_model_is_found_behind_the_file() {
        assert_eq!(field(FORM.as_bytes(), b"xyz", "model").as_deref(), Some("whisper"));
        assert_eq!(field(FORM.as_bytes(), b"other", "model"), None);
        let cut = &FORM[..FORM.find("whisper").expect("there") + 4];
        assert_eq!(field(cut.as_bytes(), b"xyz", "model").as_deref(), Some("whis"), "no end of the form");
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
