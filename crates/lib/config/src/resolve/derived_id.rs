//! The id of a server that has none written: from the file name of its model.

use std::path::Path;

use llama_warden_events::ServerId;

/// An id from a model's file name: lower case, without `.gguf` and the number of a shard, `-` for what an id cannot
/// hold. `None` where nothing is left.
pub(crate) fn derived_id(model: &str) -> Option<ServerId> {
    let name = Path::new(model).file_name()?.to_str()?.to_lowercase();
    let stem = name.strip_suffix(".gguf").unwrap_or(&name);
    let stem = without_shard(stem);
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let text: String = stem.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
    let text = text.trim_start_matches(['-', '.']);
    ServerId::new(&text[..text.len().min(ServerId::MAX_LEN)]).ok()
}

/// `model-00001-of-00003` is a part of `model`.
fn without_shard(stem: &str) -> &str {
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts = stem.rsplitn(4, '-');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(count), Some("of"), Some(index), Some(name)) if is_number(count) && is_number(index) => name,
        _ => stem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_derived_from_the_file_name_of_the_model() {
        for (model, id) in [
            ("models/Qwen3-8B-Q4_K_M.gguf", Some("qwen3-8b-q4_k_m")),
            ("Big-00001-of-00003.gguf", Some("big")),
            ("Not-0001-of-00003.gguf", Some("not-0001-of-00003")),
            ("--host", Some("host")),
            ("my model (1).GGUF", Some("my-model--1-")),
            (".gguf", None),
            ("..", None),
        ] {
            assert_eq!(derived_id(model).as_ref().map(ServerId::as_str), id, "{model}");
        }
        let long = format!("{}.gguf", "x".repeat(200));
        assert_eq!(derived_id(&long).map(|id| id.as_str().len()), Some(ServerId::MAX_LEN));
    }
}
