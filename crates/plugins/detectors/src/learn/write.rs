//! Writes the chosen lines as the text of a pack.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use llama_warden_plugin_files::PluginFile as _;

use super::observe::ObservedLine;
use super::recording::{HealthPath, LearnSubject};
use super::select::Selection;
use crate::pack::PackSet;

/// Most `none` examples.
pub(crate) const MOST_EARLY: usize = 8;

/// The text of the pack.
pub(crate) fn pack(
    subject: &LearnSubject,
    selection: &Selection<'_>,
    early: &[&ObservedLine],
    packs: &PackSet,
) -> String {
    let mut text = String::from(
        "# Learnt by `llama-warden detector learn`. `llama-warden detector test` shows what it makes of a log.\n",
    );
    line(&mut text, "name", &quoted(&subject.name));
    let build = subject.build.filter(|build| *build > 1);
    let what = build.map_or_else(|| "a build without a number".to_owned(), |build| format!("build {build}"));
    line(&mut text, "description", &quoted(&format!("Learnt from {what}")));
    match build {
        // No upper bound: an upgrade seldom changes the words, and if it does, the probe still proves readiness.
        Some(build) => line(&mut text, "builds", &format!("{{ min = {build} }}")),
        None => era(&mut text, subject, packs),
    }
    match subject.health {
        HealthPath::Answers => line(&mut text, "probe", "{ path = \"/health\" }"),
        HealthPath::Missing => line(&mut text, "probe", "\"none\""),
    }
    // With `--log-jsonl` a build prints the same messages on standard output: patterns must see both streams.
    let has_jsonl = subject.options.iter().any(|option| option == "log-jsonl");
    if has_jsonl {
        line(&mut text, "structured", "[\"log-jsonl\"]");
    }
    let stream = |found: &ObservedLine| if has_jsonl { "any" } else { found.stream.as_str() };
    let mut pattern = |verdict: &str, found: &ObservedLine| {
        let _ = write!(text, "\n[[pattern]]\nverdict = \"{verdict}\"\nstream = \"{}\"\n", stream(found));
        line(&mut text, "regex", &quoted(&found.template.regex));
    };
    pattern("ready", selection.ready);
    selection.nearly_ready.iter().for_each(|hint| pattern("nearly-ready", hint));
    selection.progress.iter().for_each(|progress| pattern("progress", progress));
    example(&mut text, "ready", selection.ready);
    selection.nearly_ready.iter().for_each(|hint| example(&mut text, "nearly-ready", hint));
    selection.progress.first().into_iter().for_each(|progress| example(&mut text, "progress", progress));
    early.iter().for_each(|line| example(&mut text, "none", line));
    text
}

/// For a build without a number: of the options by which the known packs distinguish eras, those that this build lists
/// and those that it lacks.
fn era(text: &mut String, subject: &LearnSubject, packs: &PackSet) {
    let distinctive = packs.iter().flat_map(|pack| pack.fit().help_lists.iter().chain(&pack.fit().help_lacks));
    let distinctive: BTreeSet<&String> = distinctive.collect();
    let (listed, lacked): (Vec<&String>, Vec<&String>) =
        distinctive.into_iter().partition(|option| subject.options.contains(option));
    for (key, options) in [("help-lists", listed), ("help-lacks", lacked)] {
        if !options.is_empty() {
            let options: Vec<String> = options.iter().map(|option| quoted(&format!("--{option}"))).collect();
            line(text, key, &format!("[{}]", options.join(", ")));
        }
    }
}

fn example(text: &mut String, verdict: &str, found: &ObservedLine) {
    text.push_str("\n[[example]]\n");
    line(text, "line", &quoted(&found.example));
    let _ = write!(text, "stream = \"{}\"\nverdict = \"{verdict}\"\n", found.stream);
}

fn line(text: &mut String, key: &str, value: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{key} = {value}");
}

/// A TOML string: a literal one if possible, so that a pattern needs no escapes.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c != '\'' && !c.is_control();
    if text.chars().all(is_plain) {
        if text.contains(['\\', '"']) { format!("'{text}'") } else { format!("\"{text}\"") }
    } else {
        toml::Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_quoted_so_that_it_is_read_back() {
        for text in ["plain", r"^a\d+$", r#"port="8001""#, "it's", "tab\tand \x1b[0m", "'''", "\"\"\"", r"\'"] {
            let value: toml::Table = format!("x = {}", quoted(text)).parse().expect(text);
            assert_eq!(value["x"].as_str(), Some(text));
        }
    }
}
