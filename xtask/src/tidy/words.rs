//! Words that may not appear, and where.
//!
//! The words below are put together from halves, so that this table passes its own check.

use super::{Checkout, Source, Violation};

/// Words that are banned in some files.
struct Ban {
    rule: &'static str,
    words: &'static [&'static str],
    applies: fn(&Source) -> bool,
    /// What excuses a line, on it or on the line before.
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
        excuses: &[],
        advice: "do it now, or leave it out",
    },
    Ban {
        rule: "skipped test",
        words: &[concat!("#[ign", "ore")],
        applies: Source::is_rust,
        excuses: &[],
        advice: "mend the test or delete it; a test that needs a real part asks the environment for it",
    },
    Ban {
        rule: "pure machine",
        words: &["Instant", "SystemTime"],
        applies: |source| source.file_name() == "machine.rs" || (source.is_rust() && source.path.contains("/machine/")),
        excuses: &[],
        advice: "a machine sees no clock: take the time as an argument",
    },
    Ban {
        rule: "one owner of signals",
        words: &["sys::signal", "killpg", "libc::kill", "process::kill", "kill_process", "pidfd_send_signal"],
        applies: |source| source.is_rust() && !may_signal(&source.path),
        excuses: &[],
        advice: "ask the launcher, which alone signals processes, over the bus",
    },
    Ban {
        rule: "no sleeping tests",
        words: &[concat!("time::sl", "eep"), concat!("thread::sl", "eep"), concat!("sl", "eep(Duration")],
        applies: |source| source.is_rust() && (source.path.starts_with("tests/") || source.path.contains("/tests/")),
        excuses: &[concat!("// aw", "ait:")],
        advice: "await an event with a deadline, or say in a comment (`// await: …`) what no event tells",
    },
    Ban {
        rule: "machine's own path",
        words: &[concat!("/ho", "me/"), concat!("/wo", "rk/"), concat!("/Us", "ers/"), concat!("/ro", "ot/")],
        applies: |_| true,
        // An invented user, for rules about home directories.
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
        for (index, line) in source.text.lines().enumerate() {
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

/// Whether `word` stands in `line` without being the middle or the end of a longer word or path.
fn holds_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, _)| {
        let (before, after) = (line[..start].chars().next_back(), line[start + word.len()..].chars().next());
        let ends_open = word.ends_with(|letter: char| !letter.is_alphanumeric());
        let path = word.starts_with('/');
        let joined = |letter: char| letter.is_alphanumeric() || letter == '_' || (path && "./-}".contains(letter));
        !before.is_some_and(joined) && (ends_open || !after.is_some_and(joined))
    })
}

/// Output of programs that others wrote.
fn is_recorded(source: &Source) -> bool {
    source.path.starts_with("tests/fixtures/") || source.path == "Cargo.lock"
}

/// The launcher; the program's own handling of signals; and the doubles and tests that play the outside world.
fn may_signal(path: &str) -> bool {
    path.starts_with("crates/components/launcher/")
        || path.starts_with("crates/dev/stand-in/")
        || path == "crates/bin/daemon/src/signals.rs"
        || path.starts_with("tests/")
        || path.contains("/tests/")
        || path.starts_with("xtask/src/tidy/")
        // It plays the kernel that kills a server behind the daemon's back.
        || path == "xtask/src/bench/killer.rs"
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
    fn only_the_launcher_and_the_outside_world_signal() {
        let line = "use nix::sys::signal::Signal;";
        assert_eq!(rules("crates/components/terminator/src/component.rs", line), ["one owner of signals"]);
        for path in [
            "crates/components/launcher/src/signal.rs",
            "crates/bin/daemon/src/signals.rs",
            "crates/components/api/tests/stop.rs",
        ] {
            assert_eq!(rules(path, line), [""; 0], "{path}");
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
