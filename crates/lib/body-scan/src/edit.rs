//! Removes and sets members of the top level of a JSON body. Everything else stays byte for byte.

use crate::Members;
use crate::scan::Scanner;
use bytes::Bytes;

/// The body with the members of `strip` removed and those of `set` in place of its own. One that is no whole object stays as it is:
/// llama-server says what is wrong with it.
pub fn edited(body: &Bytes, strip: &[String], set: &Members) -> Bytes {
    let mut scanner = Scanner::of_members();
    scanner.feed(body);
    let Some((members, end)) = scanner.members() else { return body.clone() };
    let head = members.first().map_or(end, |first| first.range.start);
    let mut edited = body[..head].to_vec();
    let kept = members.into_iter().filter(|member| !strip.contains(&member.key) && !set.contains_key(&member.key));
    let mut is_first = true;
    let mut add = |bytes: &[u8]| {
        if !std::mem::take(&mut is_first) {
            edited.push(b',');
        }
        edited.extend_from_slice(bytes);
    };
    kept.for_each(|member| add(&body[member.range]));
    for (key, value) in set {
        add(format!("{}:{value}", serde_json::Value::from(key.as_str())).as_bytes());
    }
    edited.extend_from_slice(&body[end..]);
    edited.into()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

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
        ] {
            let edited = edited(&Bytes::from_static(body.as_bytes()), &strip, set);
            let mut expected: Json = serde_json::from_str(body).expect("valid");
            let members = expected.as_object_mut().expect("object");
            members.remove("top_p");
            members.extend(set.clone());
            assert_eq!(serde_json::from_slice::<Json>(&edited).expect("valid"), expected, "{body}");
        }
        let exact = edited(&Bytes::from_static(br#"{"a": 1.50 , "top_p":1}"#), &strip, &Members::new());
        assert_eq!(exact, br#"{"a": 1.50}"#.as_slice(), "numbers are not written anew");
    }

    #[test]
    fn what_is_no_whole_object_stays() {
        for body in ["", "[1]", "{\"a\":1", "x"] {
            let set = json!({ "a": 2 });
            assert_eq!(edited(&Bytes::from(body), &[], set.as_object().expect("object")), body);
        }
    }
}
