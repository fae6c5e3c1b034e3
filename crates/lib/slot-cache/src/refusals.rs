//! What must not be tried, by the command line of a launch: it fails, it hangs, or it was never measured.

use std::collections::BTreeMap;
use std::path::Path;

/// Options with which slots are not kept, without dashes and in the spellings of all builds, and why.
const OPTIONS: [(&[&str], &str); 5] = [
    (&["no-cache-prompt"], "it computes each prompt anew"),
    (&["embedding", "embeddings", "rerank", "reranking"], "it has no conversation to keep"),
    // Builds until mid 2026 answer 501; with later ones it was never measured.
    (&["mmproj", "mm", "mmproj-url", "mmu"], "it reads pictures, whose place in a saved slot is not known"),
    (
        &["model-draft", "md", "spec-draft-model", "hf-repo-draft", "hfd", "hfrd"],
        "it has a draft model, whose cache is not saved",
    ),
    // Their scale can be changed while the server runs, which no command line shows.
    (&["lora", "lora-scaled"], "its adapters can be changed by a request"),
];

/// Why the slots of a launch are not kept, where its command line and environment say so. `folder` is where it saves them.
pub fn refused_before(argv: &[String], environment: &BTreeMap<String, String>, folder: &Path) -> Option<String> {
    let names = argv.iter().filter_map(|argument| name(argument));
    let of_environment = environment.keys().filter_map(|key| key.strip_prefix("LLAMA_ARG_"));
    let of_environment = of_environment.map(|key| key.to_ascii_lowercase().replace('_', "-"));
    for name in names.chain(of_environment) {
        let known = OPTIONS.iter().find(|(options, _)| options.contains(&name.as_str()));
        if let Some((_, why)) = known {
            return Some(format!("`{name}` is set: {why}"));
        }
    }
    // The last of several counts.
    match argv.iter().rposition(|argument| name(argument).as_deref() == Some("slot-save-path")) {
        Some(at) if argv.get(at + 1).is_some_and(|value| Path::new(value) == folder) => None,
        Some(_) => Some("`slot-save-path` is set to a folder of others".to_owned()),
        None => Some(
            "its build does not save slots, or is one of those of before June 2025 that hang when they do".to_owned(),
        ),
    }
}

/// The name of an option, without dashes. llama-server takes `_` for `-` in long names.
fn name(argument: &str) -> Option<String> {
    let name = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'))?;
    let name = name.split_once('=').map_or(name, |(name, _)| name);
    name.starts_with(|first: char| first.is_ascii_alphabetic()).then(|| name.replace('_', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(arguments: &[&str], environment: &[(&str, &str)]) -> Option<String> {
        let argv = [&["/bin/llama-server", "--slot-save-path", "/state/slots/a"], arguments].concat();
        let argv: Vec<String> = argv.into_iter().map(str::to_owned).collect();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        refused_before(&argv, &environment, Path::new("/state/slots/a"))
    }

    #[test]
    fn what_is_known_to_fail_or_was_never_measured_is_not_tried() {
        assert_eq!(refused(&["-c", "512", "--parallel", "2", "-lm", "none"], &[]), None);
        for arguments in [
            &["--no-cache-prompt"][..],
            &["--no_cache_prompt"],
            &["--embeddings"],
            &["--mmproj", "/m"],
            &["-mm", "/m"],
            &["-md", "/m"],
            &["--lora=/l"],
            &["--slot-save-path", "/elsewhere"],
        ] {
            assert!(refused(arguments, &[]).is_some(), "{arguments:?}");
        }
        assert!(refused(&[], &[("LLAMA_ARG_MMPROJ", "/m")]).is_some());
        let none = refused_before(&["/bin/llama-server".to_owned()], &BTreeMap::new(), Path::new("/state/slots/a"));
        assert!(none.expect("no folder").contains("does not save slots"));
    }
}
