//! Unsafe code: it stands in listed files alone. The compiler denies it elsewhere, in every crate that takes the workspace's lints.

use super::{Checkout, Violation};

const RULE: &str = "unsafe code";

/// Beginnings of the paths of files that may contain unsafe code.
const ALLOWED: [&str; 2] = [
    // The C library's heap is configured and trimmed by two calls.
    "crates/bin/daemon/src/heap.rs",
    // What runs between fork and exec may only make system calls.
    "crates/lib/processes/src/",
];

/// The attribute that a use of unsafe code needs, joined from two halves so that this file passes.
const ATTRIBUTE: &str = concat!("unsafe", "_code");

/// Finds allowances in other files, and crates of the workspace without its lints.
pub fn check(checkout: &Checkout) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in &checkout.sources {
        let is_allowed = ALLOWED.iter().any(|beginning| source.path.starts_with(beginning));
        if source.is_rust() && !is_allowed {
            let lines = source.text.lines().enumerate().filter(|(_, line)| line.contains(ATTRIBUTE));
            let advice = "find a safe way, or list the file with its reason in xtask/src/tidy/unsafety.rs";
            violations.extend(lines.map(|(index, _)| Violation::of_line(&source.path, index + 1, RULE, advice)));
        }
        let is_member = ["crates/", "tests/", "xtask/"].iter().any(|folder| source.path.starts_with(folder));
        if is_member && source.file_name() == "Cargo.toml" && !source.text.contains("[lints]\nworkspace = true\n") {
            let advice = "take the lints of the workspace, which deny unsafe code: `[lints]`, `workspace = true`";
            violations.push(Violation::of_file(&source.path, RULE, advice));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINTS: &str = "[package]\n\n[lints]\nworkspace = true\n";

    #[test]
    fn an_allowance_outside_the_listed_files_is_found() {
        let text = format!("//! Job.\n#[expect({ATTRIBUTE}, reason = \"a call\")]\n");
        let lines = |path: &str| check(&Checkout::of(&[(path, &text)])).iter().map(|at| at.line).collect::<Vec<_>>();
        assert_eq!(lines("crates/core/bus/src/lib.rs"), [2]);
        assert_eq!(lines("crates/bin/daemon/src/heap.rs"), [0; 0]);
    }

    #[test]
    fn a_crate_that_does_not_take_the_lints_is_found() {
        let found = |path: &str, text: &str| check(&Checkout::of(&[(path, text)])).len();
        assert_eq!(found("crates/core/bus/Cargo.toml", "[package]\n"), 1);
        assert_eq!(found("crates/core/bus/Cargo.toml", LINTS), 0);
        assert_eq!(found("examples/custom-component/Cargo.toml", "[package]\n"), 0, "a package of its own");
    }
}
