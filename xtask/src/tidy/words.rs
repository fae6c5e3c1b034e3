//! Checks that certain words do not appear in certain files.
//!
//! The words below are joined from two halves, so that this table passes its own check.

use super::{Checkout, Source, Violation};

/// Words that some files may not contain.
struct Ban {
    rule: &'static str,
    words: &'static [&'static str],
    applies: fn(&Source) -> bool,
    /// Whether the unit tests at the end of a file are left out.
    spares_unit_tests: bool,
    /// Texts that allow a word on their line and on the line after.
    excuses: &'static [&'static str],
    advice: &'static str,
}

const BANS: [Ban; 6] = [
    Ban {
        rule: "unfinished",
        words: &[
            concat!("TO", "DO"),
            concat!("FIX", "ME"),
            concat!("X", "XX"),
            concat!("to", "do!"),
            concat!("unimple", "mented!"),
        ],
        applies: |source| !is_recorded(source),
        spares_unit_tests: false,
        excuses: &[],
        advice: "do it now, or leave it out",
    },
    Ban {
        rule: "skipped test",
        words: &[concat!("#[ign", "ore")],
        applies: Source::is_rust,
        spares_unit_tests: false,
        excuses: &[],
        advice: "fix the test or delete it; a test that needs a real part asks the environment for it",
    },
    Ban {
        rule: "pure machine",
        words: &["Instant", "SystemTime"],
        applies: |source| source.file_name() == "machine.rs" || (source.is_rust() && source.path.contains("/machine/")),
        spares_unit_tests: false,
        excuses: &[],
        advice: "a machine sees no clock: take the time as an argument",
    },
    Ban {
        rule: "one owner of signals",
        words: &[
            "sys::signal",
            "killpg",
            "libc::kill",
            "process::kill",
            "kill_process",
            "kill_process_group",
            "pidfd_send_signal",
        ],
        applies: |source| source.is_rust() && !may_signal(&source.path),
        spares_unit_tests: true,
        excuses: &[],
        advice: "ask the launcher over the bus: its processes are signalled by their shims alone",
    },
    Ban {
        rule: "no sleeping tests",
        words: &[concat!("time::sl", "eep"), concat!("thread::sl", "eep"), concat!("sl", "eep(Duration")],
        applies: |source| source.is_rust() && (source.path.starts_with("tests/") || source.path.contains("/tests/")),
        spares_unit_tests: false,
        excuses: &[concat!("// aw", "ait:")],
        advice: "await an event with a deadline, or say in a comment (`// await: …`) why there is no event",
    },
    Ban {
        rule: "machine's own path",
        words: &[concat!("/ho", "me/"), concat!("/wo", "rk/"), concat!("/Us", "ers/"), concat!("/ro", "ot/")],
        applies: |_| true,
        // An invented user, for tests about home directories.
        spares_unit_tests: false,
        excuses: &[concat!("/ho", "me/u/"), concat!("/ho", "me/u\"")],
        advice: "use a path below the checkout, a temporary folder, or an invented one such as /srv/models",
    },
];

/// Finds banned words, line by line.
pub fn check(checkout: &Checkout) -> Vec<Violation> {
    checkout.sources.iter().flat_map(check_source).collect()
}

fn check_source(source: &Source) -> Vec<Violation> {
    let mut violations = Vec::new();
    for ban in BANS.iter().filter(|ban| (ban.applies)(source)) {
        let mut before = "";
        let text = if ban.spares_unit_tests { source.without_tests() } else { &source.text };
        for (index, line) in text.lines().enumerate() {
            let found = ban.words.iter().find(|word| holds_word(line, word));
            let excused = ban.excuses.iter().any(|excuse| line.contains(excuse) || before.contains(excuse));
            if let (Some(word), false) = (found, excused) {
                let advice = format!("`{word}`: {}", ban.advice);
                violations.push(Violation::of_line(&source.path, index + 1, ban.rule, advice));
            }
            before = line;
        }
    }
    violations
}

/// Whether `line` contains `word` as a whole word, not inside a longer word or path.
fn holds_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, _)| {
        let (before, after) = (line[..start].chars().next_back(), line[start + word.len()..].chars().next());
        let ends_open = word.ends_with(|letter: char| !letter.is_alphanumeric());
        let path = word.starts_with('/');
        let joined = |letter: char| letter.is_alphanumeric() || letter == '_' || (path && "./-}".contains(letter));
        !before.is_some_and(joined) && (ends_open || !after.is_some_and(joined))
    })
}

/// Whether the file is output of programs of other projects.
fn is_recorded(source: &Source) -> bool {
    ["tests/fixtures/", "fuzz/corpus/", "fuzz/regressions/"].iter().any(|folder| source.path.starts_with(folder))
        || source.path == "Cargo.lock"
}

/// Where a process may be signalled, and why.
const MAY_SIGNAL: &[(&str, &str)] = &[
    ("crates/lib/processes/", "its shims signal what they run, for the launcher and for hooks"),
    ("crates/dev/stand-in/", "it plays a llama-server that ends by a signal"),
    ("crates/lib/support/src/fail_point.rs", "it ends its own process, in builds for tests"),
    ("crates/dev/measured/src/killer.rs", "it plays the kernel that kills a server behind the daemon's back"),
    ("crates/dev/bench/src/functions/trace.rs", "it lets a process that it traces go on"),
    ("crates/dev/bench/src/soak/session.rs", "it plays operators who signal servers and the daemon"),
    ("tests/", "they play the outside world"),
    ("xtask/src/tidy/", "it names the words"),
];

fn may_signal(path: &str) -> bool {
    path.contains("/tests/") || MAY_SIGNAL.iter().any(|(place, _)| path.starts_with(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<&'static str> {
        check(&Checkout::of(&[(path, text)])).into_iter().map(|violation| violation.rule).collect()
    }

    #[test]
    fn unfinished_work_is_found_as_a_whole_word() {
        assert_eq!(rules("README.md", concat!("a TO", "DO here")), ["unfinished"]);
        assert_eq!(rules("a.sh", "mktemp -d /tmp/x.XXXXXX"), [""; 0]);
        assert_eq!(rules("a.rs", concat!("to", "do!(\"later\")")), ["unfinished"]);
    }

    #[test]
    fn skipped_tests_are_found_with_and_without_a_reason() {
        assert_eq!(rules("a.rs", concat!("#[ign", "ore]")), ["skipped test"]);
        assert_eq!(rules("a.rs", concat!("#[ign", "ore = \"slow\"]")), ["skipped test"]);
    }

    #[test]
    fn clocks_are_banned_in_machines_only() {
        let line = "let now = Instant::now();";
        assert_eq!(rules("crates/components/readiness/src/machine.rs", line), ["pure machine"]);
        assert_eq!(rules("crates/components/readiness/src/machine/stall.rs", line), ["pure machine"]);
        assert_eq!(rules("crates/components/readiness/src/component.rs", line), [""; 0]);
        assert_eq!(rules("crates/components/readiness/src/machine.rs", "// Instantly."), [""; 0]);
    }

    #[test]
    fn only_shims_and_the_outside_world_signal() {
        let line = "use nix::sys::signal::Signal;";
        assert_eq!(rules("crates/components/terminator/src/component.rs", line), ["one owner of signals"]);
        let group = "let _ = kill_process_group(group, Signal::KILL);";
        assert_eq!(rules("crates/components/health/src/cpu.rs", group), ["one owner of signals"]);
        assert_eq!(
            rules("crates/components/health/src/cpu.rs", &format!("#[cfg(test)]\nmod tests {{\n{group}")),
            [""; 0]
        );
        assert_eq!(rules("crates/components/launcher/src/component.rs", line), ["one owner of signals"]);
        for path in ["crates/lib/processes/src/shim.rs", "crates/components/api/tests/stop.rs"] {
            assert_eq!(rules(path, line), [""; 0], "{path}");
        }
    }

    #[test]
    fn each_place_that_may_signal_does() {
        let checkout = Checkout::read().expect("git lists the files");
        let ban = BANS.iter().find(|ban| ban.rule == "one owner of signals").expect("a rule");
        let signals = |source: &&Source| ban.words.iter().any(|word| source.text.contains(word));
        let signalling: Vec<&Source> =
            checkout.sources.iter().filter(|source| source.is_rust()).filter(signals).collect();
        for (place, _) in MAY_SIGNAL {
            assert!(signalling.iter().any(|source| source.path.starts_with(place)), "{place} needs no exception");
        }
    }

    #[test]
    fn a_sleep_in_a_test_needs_a_reason() {
        let line = concat!("tokio::time::sl", "eep(wait).await;");
        assert_eq!(rules("tests/system/stop.rs", line), ["no sleeping tests"]);
        assert_eq!(rules("crates/core/bus/tests/order.rs", line), ["no sleeping tests"]);
        assert_eq!(rules("crates/core/bus/src/clock.rs", line), [""; 0]);
        let reason = concat!("// aw", "ait: the kernel says nothing when a port is free again");
        assert_eq!(rules("tests/system/stop.rs", &format!("{line} {reason}")), [""; 0]);
        assert_eq!(rules("tests/system/stop.rs", &format!("{reason}\n{line}")), [""; 0]);
    }

    #[test]
    fn paths_of_a_machine_are_found_at_their_start_only() {
        assert_eq!(rules("docs/a.md", concat!("see /ho", "me/me/model.gguf")), ["machine's own path"]);
        assert_eq!(rules("a.rs", concat!("(\"HOME\", \"/ho", "me/u\")")), [""; 0]);
        assert_eq!(rules("docs/a.md", concat!("https://example.org/ho", "me/page")), [""; 0]);
    }
}
