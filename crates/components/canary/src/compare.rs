//! The differences of two builds that can be read from what is known of them: options and warnings.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use llama_warden_events::{OptionDifference, OptionNote, OptionTreatment};

/// What the id of a canary has and that of its server has not.
const CANARY: &str = "~canary";

/// Most warnings of a report.
const MOST_WARNINGS: usize = 20;

/// Most characters of a warning.
const MOST_CHARS: usize = 300;

/// The options that two builds get in different ways. Without the old build, those that the new one does not get as they are
/// written.
pub(crate) fn option_differences(old: Option<&[Arc<OptionNote>]>, new: &[Arc<OptionNote>]) -> Vec<OptionDifference> {
    let by_option = |notes: &[Arc<OptionNote>]| -> BTreeMap<String, Arc<OptionNote>> {
        notes.iter().map(|note| (note.option.to_string(), Arc::clone(note))).collect()
    };
    let (old_notes, new_notes) = (by_option(old.unwrap_or_default()), by_option(new));
    let options: BTreeSet<&String> = old_notes.keys().chain(new_notes.keys()).collect();
    let differences = options.into_iter().filter_map(|option| {
        let [before, after] = [old_notes.get(option), new_notes.get(option)];
        let [before_text, after_text] = [(before, after), (after, before)].map(|(note, other)| describe(note, other));
        let because = match (after, before) {
            (Some(note), _) => note.because.to_string(),
            (None, Some(note)) if note.treatment == OptionTreatment::Added => {
                format!("added for the old build only: {}", note.because)
            }
            (None, Some(note)) => format!("the new build takes it as written; for the old one: {}", note.because),
            (None, None) => return None,
        };
        let is_same = if old.is_some() { before_text == after_text } else { after.is_none_or(|note| is_kept(note)) };
        (!is_same).then(|| OptionDifference {
            option: option.clone(),
            old: old.map(|_| before_text),
            new: after_text,
            because,
        })
    });
    differences.collect()
}

fn is_kept(note: &OptionNote) -> bool {
    note.treatment == OptionTreatment::Kept
}

/// What a build gets for an option. Options that are passed as they are written have no note.
fn describe(note: Option<&Arc<OptionNote>>, other: Option<&Arc<OptionNote>>) -> String {
    match note {
        // What llama-warden adds for one build, it leaves out for the other.
        None if other.is_some_and(|other| other.treatment == OptionTreatment::Added) => "not passed".to_owned(),
        Some(note) if note.treatment == OptionTreatment::Dropped || note.spelled.is_empty() => "not passed".to_owned(),
        // The name of the canary is in its alias and its socket; that is no difference of the builds.
        Some(note) if !is_kept(note) => note.spelled.to_vec().join(" ").replace(CANARY, ""),
        _ => "as written".to_owned(),
    }
}

/// The warnings among `printed` of which `known` has none that differs in numbers only.
pub(crate) fn new_warnings(
    printed: impl Iterator<Item = Vec<u8>>,
    known: impl Iterator<Item = Vec<u8>>,
) -> Vec<String> {
    let warnings = |lines: &mut dyn Iterator<Item = Vec<u8>>| -> Vec<String> {
        let lines = lines.map(|line| String::from_utf8_lossy(&line).trim().to_owned());
        lines.filter(|line| is_warning(line)).collect()
    };
    let mut known: BTreeSet<String> = warnings(&mut { known }).iter().map(|line| without_numbers(line)).collect();
    let new = warnings(&mut { printed }).into_iter().filter(|line| known.insert(without_numbers(line)));
    new.take(MOST_WARNINGS).map(|line| line.chars().take(MOST_CHARS).collect()).collect()
}

/// Whether a line warns: it says so, or has the level `W` of builds since 2024, behind a time or at its start.
fn is_warning(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    let mut words = line.split_ascii_whitespace();
    let first = words.next().unwrap_or_default();
    let is_time = first.starts_with(|c: char| c.is_ascii_digit()) && first.contains('.');
    let level = if is_time { words.next().unwrap_or_default() } else { first };
    level == "W" || lower.contains("warn") || lower.contains("deprecat")
}

/// The line without its numbers, which differ with times, addresses and sizes.
fn without_numbers(line: &str) -> String {
    let kept = line.chars().filter(|c| !c.is_ascii_digit() && *c != '.');
    kept.collect::<String>().split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(option: &str, treatment: OptionTreatment, spelled: &[&str]) -> Arc<OptionNote> {
        let spelled = spelled.iter().collect();
        Arc::new(OptionNote { option: option.into(), treatment, spelled, because: "of its help".into(), dialect: None })
    }

    fn told(differences: &[OptionDifference]) -> Vec<String> {
        let line = |d: &OptionDifference| format!("{}: {} -> {}", d.option, d.old.as_deref().unwrap_or("?"), d.new);
        differences.iter().map(line).collect()
    }

    #[test]
    fn an_option_is_told_if_the_builds_get_it_in_different_ways() {
        use OptionTreatment::{Added, Dropped, Kept, Translated};
        let old = [
            note("alias", Added, &["--alias", "a"]),
            note("flash-attn", Translated, &["-fa"]),
            note("gone", Kept, &["--gone"]),
            note("same", Dropped, &[]),
        ];
        let new = [
            note("alias", Added, &["--alias", "a~canary"]),
            note("flash-attn", Translated, &["--flash-attn", "on"]),
            note("same", Dropped, &[]),
            note("mlock", Dropped, &[]),
        ];
        assert_eq!(
            told(&option_differences(Some(&old), &new)),
            ["flash-attn: -fa -> --flash-attn on", "mlock: as written -> not passed"]
        );
        assert_eq!(
            told(&option_differences(None, &new)),
            [
                "alias: ? -> --alias a",
                "flash-attn: ? -> --flash-attn on",
                "mlock: ? -> not passed",
                "same: ? -> not passed"
            ]
        );
        assert_eq!(told(&option_differences(Some(&new), &[])).len(), 4);
    }

    #[test]
    fn a_warning_is_new_if_no_known_one_differs_in_numbers_only() {
        let lines = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>().into_iter();
        let known = lines(&["0.00.100.001 W load: 5 of 9 layers", "main: WARNING: old habit"]);
        let printed = lines(&[
            "0.00.200.002 W load: 7 of 9 layers",
            "0.00.200.003 I all is well",
            "0.00.200.004 W common: --mlock is not available",
            "0.00.200.005 W common: --mlock is not available",
            "warning: no usable GPU found",
            "DEPRECATED: argument '--defrag-thold'",
        ]);
        assert_eq!(
            new_warnings(printed, known),
            [
                "0.00.200.004 W common: --mlock is not available",
                "warning: no usable GPU found",
                "DEPRECATED: argument '--defrag-thold'"
            ]
        );
    }
}
