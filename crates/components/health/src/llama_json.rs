//! Fields of llama-server's own JSON about its work, across builds from 2023 to 2026.

use serde_json::Value;

/// Whether `/props` says that the weights are unloaded until the next request (`--sleep-idle-seconds`, since 2026).
pub(crate) fn is_asleep(props: &Value) -> bool {
    props["is_sleeping"] == true
}

/// A sum over `/slots` that grows with every token that is read or written; `None` where the build does not count them.
///
/// The depth of the keys depends on the build: in the slot, in `next_token`, or in an array of those.
pub(crate) fn tokens_handled(slots: &Value) -> Option<u64> {
    const KEYS: [&str; 2] = ["n_decoded", "n_prompt_tokens_processed"];
    match slots {
        Value::Array(items) => items.iter().filter_map(tokens_handled).reduce(u64::saturating_add),
        Value::Object(entries) => entries
            .iter()
            .filter_map(|(key, value)| match value {
                Value::Number(number) if KEYS.contains(&key.as_str()) => number.as_u64(),
                Value::Array(_) | Value::Object(_) => tokens_handled(value),
                _ => None,
            })
            .reduce(u64::saturating_add),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_plain_yes_is_sleep() {
        assert!(is_asleep(&json!({ "is_sleeping": true })));
        for awake in [json!({ "is_sleeping": false }), json!({}), json!([]), json!({ "is_sleeping": "true" })] {
            assert!(!is_asleep(&awake), "{awake}");
        }
    }

    #[test]
    fn tokens_are_counted_wherever_they_stand() {
        let cases = [
            (json!([{ "id": 0, "n_decoded": 5 }, { "id": 1, "n_decoded": 2 }]), Some(7)),
            (json!([{ "next_token": { "n_decoded": 3 }, "n_prompt_tokens_processed": 4 }]), Some(7)),
            (json!([{ "next_token": [{ "n_decoded": 6 }] }]), Some(6)),
            (json!([{ "id": 0, "is_processing": true }]), None),
            (json!({ "error": { "code": 501 } }), None),
            (json!([{ "n_decoded": -1 }]), None),
        ];
        for (slots, expected) in cases {
            assert_eq!(tokens_handled(&slots), expected, "{slots}");
        }
    }
}
