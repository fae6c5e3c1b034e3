//! Removes and sets members of the top level of a JSON body. Everything else stays byte for byte, and where it is.

use std::ops::Range;

use crate::Members;
use crate::scan::Scanner;

/// A part of a changed body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyPart {
    /// These bytes of the body as it came.
    Kept(Range<usize>),
    /// Something new.
    New(String),
}

/// The body in `chunks` with the members of `strip` removed and those of `set` in place of its own, in parts; `None` of one that is no
/// whole object and stays as it is: llama-server says what is wrong with it.
pub fn edited<'a>(
    chunks: impl IntoIterator<Item = &'a [u8]>,
    strip: &[String],
    set: &Members,
) -> Option<Vec<BodyPart>> {
    let mut scanner = Scanner::of_members(strip.iter().map(String::as_str).chain(set.keys().map(String::as_str)));
    let mut length = 0;
    for chunk in chunks {
        length += chunk.len();
        scanner.feed(chunk);
    }
    let (members, end) = scanner.members()?;
    let mut parts = vec![BodyPart::Kept(0..members.first.unwrap_or(end))];
    let kept = members.others.into_iter().map(BodyPart::Kept);
    let new =
        set.iter().map(|(key, value)| BodyPart::New(format!("{}:{value}", serde_json::Value::from(key.as_str()))));
    for part in kept.chain(new) {
        if parts.len() > 1 {
            parts.push(BodyPart::New(",".to_owned()));
        }
        parts.push(part);
    }
    parts.push(BodyPart::Kept(end..length));
    Some(parts)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    /// As one, however it is split.
    fn edited_text(body: &str, strip: &[String], set: &Members) -> String {
        let edit = |size: usize| {
            let Some(parts) = edited(body.as_bytes().chunks(size), strip, set) else { return body.to_owned() };
            let text = |part: BodyPart| match part {
                BodyPart::Kept(range) => body[range].to_owned(),
                BodyPart::New(text) => text,
            };
            parts.into_iter().map(text).collect::<String>()
        };
        let whole = edit(body.len().max(1));
        for size in [1, 2, 3, 7] {
            assert_eq!(edit(size), whole);
        }
        whole
    }

    #[test]
    fn members_are_removed_and_set_and_the_rest_stays() {
        let set = json!({ "temperature": 0.7, "k\"": { "e": "high" } });
        let set = set.as_object().expect("object");
        let strip = ["top_p".to_owned(), "absent".to_owned()];
        for body in [
            r#"{"model":"a","top_p":0.1,"temperature":2,"x":[1,{"top_p":2}]}"#,
            r#"{ "top_p" : 1 }"#,
            r#"{}"#,
            r#" { "a" : "," , "t\u006fp_p" : "}" , "b" : 1.0e5 } "#,
            r#"{"top_p":1,"a":1,"b":2,"top_p":3,"temperature":4,"c":5,"top_p":6}"#,
        ] {
            let edited = edited_text(body, &strip, set);
            let mut expected: Json = serde_json::from_str(body).expect("valid");
            let members = expected.as_object_mut().expect("object");
            members.remove("top_p");
            members.extend(set.clone());
            assert_eq!(serde_json::from_str::<Json>(&edited).expect("valid"), expected, "{body}");
        }
        let exact = edited_text(r#"{"a": 1.50 , "b":2, "top_p":1}"#, &strip, &Members::new());
        assert_eq!(exact, r#"{"a": 1.50 , "b":2}"#, "what stays is not written anew");
    }

    #[test]
    fn what_is_no_whole_object_stays() {
        for body in ["", "[1]", "{\"a\":1", "x"] {
            let set = json!({ "a": 2 });
            assert_eq!(edited_text(body, &[], set.as_object().expect("object")), body);
        }
    }

    #[test]
    fn millions_of_members_that_stay_are_few_parts() {
        let body = format!("{{\"top_p\":1{}}}", ",\"\":1".repeat(1_000_000));
        let parts = edited([body.as_bytes()], &["top_p".to_owned()], &Members::new()).expect("an object");
        assert_eq!(parts.len(), 3);
    }
}
