//! Whether a request asks for a stream. Looked for only where it matters, so that other bodies are not looked through twice.

use bytes::Bytes;

use crate::scan::member;

/// Whether `stream` is true at the top level of a JSON body.
pub fn asks_for_stream(body: &Bytes) -> bool {
    member(body, "stream").is_some_and(|member| member.ends_with(b"true"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_asked_for_by_a_member_of_the_top_level_that_is_true() {
        for (body, expected) in [
            (r#"{"model":"a","stream":true}"#, true),
            (r#"{"stream" : true , "model":"a"}"#, true),
            (r#"{"stream":false}"#, false),
            (r#"{"stream":"true"}"#, false),
            (r#"{"messages":[{"stream":true}]}"#, false),
            (r#"{"stream_options":{"include_usage":true}}"#, false),
            (r#"{"stream":true"#, false),
            ("", false),
        ] {
            assert_eq!(asks_for_stream(&Bytes::from(body)), expected, "{body}");
        }
    }
}
