//! Checks where files are, how long they and their crates are, and how they begin.

use std::collections::BTreeMap;

use super::{Checkout, Source, Violation, code_lines};

/// The most lines of a Rust file.
const MAX_LINES: usize = 500;

/// The sources of the binary's own crate: `main`, `Program`, and what a compiled plug-in needs.
const BINARY: &str = "crates/bin/llama-warden/src/";

/// The most lines of the binary's own crate, without its unit tests.
const MAX_BINARY_LINES: usize = 200;

/// The most lines below a crate's `src`, comments and unit tests included.
const MAX_CRATE_LINES: usize = 4000;

/// The most lines of a function's body, without comments and empty lines.
const MAX_FUNCTION_LINES: usize = 100;

/// Functions that may be longer: a single match or table, in which each entry stands for itself.
const LONG_FUNCTIONS: &[(&str, &str)] = &[("crates/components/telemetry/src/line.rs", "log_event")];

/// Everything that may be at the root.
const TOP_LEVEL: &str = "\
    .cargo .ci .config .editorconfig .gitignore ARCHITECTURE.md CHANGELOG.md CONTRIBUTING.md Cargo.lock Cargo.toml \
    LICENSE-APACHE LICENSE-MIT README.md clippy.toml config crates deny.toml docs examples fuzz rust-toolchain.toml \
    rustfmt.toml tests xtask";

/// Finds files in wrong places, files and crates that are too long, and files without a purpose in their first line.
pub fn check(checkout: &Checkout) -> Vec<Violation> {
    let rust = checkout.sources.iter().filter(|source| source.is_rust());
    top_level(checkout)
        .into_iter()
        .chain(thin_binary(checkout))
        .chain(crate_sizes(checkout))
        .chain(rust.flat_map(check_rust))
        .collect()
}

/// The binary's own crate stays a page: whatever decides or acts lives in a crate that others can use.
fn thin_binary(checkout: &Checkout) -> Option<Violation> {
    let sources = checkout.sources.iter().filter(|source| source.is_rust() && source.path.starts_with(BINARY));
    let lines: usize = sources.map(|source| source.without_tests().lines().count()).sum();
    let advice = format!("{lines} lines are more than {MAX_BINARY_LINES}: logic belongs in a crate");
    (lines > MAX_BINARY_LINES).then(|| Violation::of_file(BINARY, "thin binary", advice))
}

fn crate_sizes(checkout: &Checkout) -> Vec<Violation> {
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for source in checkout.sources.iter().filter(|source| source.is_rust()) {
        if let Some((folder, _)) = source.path.split_once("/src/") {
            *sizes.entry(folder).or_default() += source.text.lines().count();
        }
    }
    sizes.retain(|_, lines| *lines > MAX_CRATE_LINES);
    let advice = |lines| format!("{lines} lines in src are more than {MAX_CRATE_LINES}: split the crate by jobs");
    sizes.into_iter().map(|(folder, lines)| Violation::of_file(folder, "crate size", advice(lines))).collect()
}

fn top_level(checkout: &Checkout) -> Vec<Violation> {
    let mut names: Vec<&str> = checkout.paths.iter().filter_map(|path| path.split('/').next()).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| !TOP_LEVEL.split(' ').any(|listed| listed == *name));
    let advice = "move it into a folder, or add it to the list in xtask/src/tidy/layout.rs";
    names.into_iter().map(|name| Violation::of_file(name, "top level", advice)).collect()
}

fn check_rust(source: &Source) -> Vec<Violation> {
    let mut violations = Vec::new();
    let lines = source.text.lines().count();
    if lines > MAX_LINES {
        let advice = format!("{lines} lines are more than {MAX_LINES}: split it by jobs");
        violations.push(Violation::of_file(&source.path, "file length", advice));
    }
    violations.extend(long_functions(source));
    match source.text.lines().next().and_then(|line| line.strip_prefix("//!")) {
        None => {
            let advice = "open the file with a `//!` line that says its purpose";
            violations.push(Violation::of_line(&source.path, 1, "file purpose", advice));
        }
        Some(purpose) if source.file_name() == "lib.rs" && purpose.trim().is_empty() => {
            let advice = "say the crate's one job in the first `//!` line";
            violations.push(Violation::of_line(&source.path, 1, "crate purpose", advice));
        }
        Some(_) => {}
    }
    violations
}

fn long_functions(source: &Source) -> Vec<Violation> {
    let is_known = |name| LONG_FUNCTIONS.contains(&(source.path.as_str(), name));
    let long = bodies(source).filter(|body| body.lines > MAX_FUNCTION_LINES && !is_known(body.name));
    let violation = |FunctionBody { name, start, lines }| {
        let advice = format!("{lines} lines of `{name}` are more than {MAX_FUNCTION_LINES}: split it by its steps");
        Violation::of_line(&source.path, start, "function length", advice)
    };
    long.map(violation).collect()
}

struct FunctionBody<'a> {
    name: &'a str,
    /// The first line of the function, from 1.
    start: usize,
    /// Lines of code.
    lines: usize,
}

/// The functions of a file, as the formatter lays them out: the brace that ends one stands below its first line.
fn bodies(source: &Source) -> impl Iterator<Item = FunctionBody<'_>> {
    let lines: Vec<&str> = source.text.lines().collect();
    (0..lines.len()).filter_map(move |start| {
        let line = lines[start];
        let name = function(line)?;
        let indent = &line[..line.len() - line.trim_start().len()];
        let is_end = |line: &&str| line.strip_prefix(indent).is_some_and(|rest| rest == "}");
        let end = lines[start..].iter().position(is_end)?;
        let body = lines[start..start + end].iter().skip_while(|line| !line.ends_with('{')).skip(1);
        Some(FunctionBody { name, start: start + 1, lines: code_lines(body.copied()) })
    })
}

/// The name of the function that begins on `line` and goes on below it.
fn function(line: &str) -> Option<&str> {
    let (before, rest) = line.split_once("fn ")?;
    let is_declaration = before
        .split_whitespace()
        .all(|word| ["pub", "const", "async", "unsafe", "extern", "\"C\""].contains(&word) || word.starts_with("pub("));
    let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    (is_declaration && !line.ends_with([';', '}'])).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<&'static str> {
        check(&Checkout::of(&[(path, text)])).into_iter().map(|violation| violation.rule).collect()
    }

    #[test]
    fn only_listed_names_lie_at_the_root() {
        assert_eq!(rules("notes.txt", ""), ["top level"]);
        assert_eq!(rules("docs/notes.txt", ""), [""; 0]);
    }

    #[test]
    fn the_list_of_names_is_sorted() {
        assert!(TOP_LEVEL.split(' ').is_sorted());
    }

    #[test]
    fn each_exception_is_needed() {
        let checkout = Checkout::read().expect("git lists the files");
        for name in TOP_LEVEL.split(' ') {
            assert!(checkout.paths.iter().any(|path| path.split('/').next() == Some(name)), "{name} is not there");
        }
        for (path, name) in LONG_FUNCTIONS {
            let source = checkout.sources.iter().find(|source| source.path == *path).expect(path);
            let is_long = bodies(source).any(|body| body.name == *name && body.lines > MAX_FUNCTION_LINES);
            assert!(is_long, "`{name}` needs no exception");
        }
    }

    #[test]
    fn the_line_limit_is_inclusive() {
        let text = |lines: usize| format!("//! Job.\n{}", "\n".repeat(lines - 1));
        assert_eq!(rules("crates/core/bus/src/a.rs", &text(MAX_LINES)), [""; 0]);
        assert_eq!(rules("crates/core/bus/src/a.rs", &text(MAX_LINES + 1)), ["file length"]);
    }

    #[test]
    fn the_binary_is_thin_as_a_whole_and_without_its_tests() {
        let binary = |main: usize, program: usize| {
            let text = |lines: usize| {
                format!("//! Job.\n{}#[cfg(test)]\nmod tests {{\n{}", "\n".repeat(lines - 1), "\n".repeat(50))
            };
            let main = ("crates/bin/llama-warden/src/main.rs", &*text(main));
            let program = ("crates/bin/llama-warden/src/program.rs", &*text(program));
            check(&Checkout::of(&[main, program])).into_iter().map(|violation| violation.rule).collect::<Vec<_>>()
        };
        assert_eq!(binary(MAX_BINARY_LINES - 150, 150), [""; 0]);
        assert_eq!(binary(MAX_BINARY_LINES - 149, 150), ["thin binary"]);
    }

    #[test]
    fn the_lines_of_a_crate_are_counted_over_its_sources() {
        let text = format!("//! Job.\n{}", "\n".repeat(MAX_LINES - 1));
        let paths: Vec<String> = (0..=8).map(|number| format!("crates/core/bus/src/{number}.rs")).collect();
        let sources: Vec<(&str, &str)> = paths.iter().map(|path| (path.as_str(), text.as_str())).collect();
        assert_eq!(check(&Checkout::of(&sources[..8])), []);
        let found = check(&Checkout::of(&sources));
        assert_eq!(
            found.iter().map(|violation| (violation.path.as_str(), violation.rule)).collect::<Vec<_>>(),
            [("crates/core/bus", "crate size")]
        );
        let tests = ("crates/core/bus/tests/a.rs", text.as_str());
        assert_eq!(check(&Checkout::of(&[&sources[..8], &[tests]].concat())), []);
    }

    #[test]
    fn a_function_has_a_limit_of_lines_in_which_comments_do_not_count() {
        let text = |lines: usize| {
            let (body, comments) = ("        step();\n".repeat(lines), "        // Why.\n\n".repeat(50));
            format!(
                "//! Job.\n\nimpl A {{\n    pub(crate) async fn long(\n        &self,\n    ) {{\n{body}{comments}    }}\n\n    fn next() {{}}\n}}\n"
            )
        };
        assert_eq!(rules("crates/core/bus/src/a.rs", &text(MAX_FUNCTION_LINES)), [""; 0]);
        assert_eq!(rules("crates/core/bus/src/a.rs", &text(MAX_FUNCTION_LINES + 1)), ["function length"]);
    }

    #[test]
    fn a_file_opens_with_its_purpose() {
        assert_eq!(rules("crates/core/bus/src/a.rs", "use std::fs;\n"), ["file purpose"]);
        assert_eq!(rules("crates/core/bus/src/lib.rs", "//!\n//! Late.\n"), ["crate purpose"]);
        assert_eq!(rules("crates/core/bus/src/lib.rs", "//! The bus.\n"), [""; 0]);
    }
}
