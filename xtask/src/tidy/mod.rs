//! `cargo xtask tidy`: checks the rules of layout and naming that no compiler checks, and prints all violations at once.
//!
//! Each rule is a pure function from the text of the checkout to violations; [`Checkout::read`] alone touches the disk.

mod circles;
mod comments;
mod compliance;
mod edges;
mod fail_points;
mod layout;
mod names;
mod unsafety;
mod words;

use std::fmt;
use std::fs;
use std::process::Command;

use llama_warden_test_parts::error::Error;
use llama_warden_test_parts::{paths, shell};

/// A text file of the checkout.
#[derive(Debug)]
pub struct Source {
    /// Its path from the root, with forward slashes.
    pub path: String,
    pub text: String,
}

/// The files that git tracks or would track.
#[derive(Debug, Default)]
pub struct Checkout {
    pub sources: Vec<Source>,
    /// Every path, binary files included.
    paths: Vec<String>,
}

/// A place that breaks a rule, and what to do about it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    path: String,
    /// The line, from 1; 0 means the whole file.
    line: usize,
    rule: &'static str,
    advice: String,
}

/// Checks all rules and prints all violations.
///
/// # Errors
/// When git cannot list the files, or a rule is not kept.
pub fn run() -> Result<(), Error> {
    let checkout = Checkout::read()?;
    let rules = [
        circles::check,
        comments::check,
        compliance::check,
        edges::check,
        fail_points::check,
        layout::check,
        names::check,
        unsafety::check,
        words::check,
    ];
    let mut violations: Vec<Violation> = rules.iter().flat_map(|rule| rule(&checkout)).collect();
    violations.sort();
    for violation in &violations {
        eprintln!("{violation}");
    }
    match violations.len() {
        0 => {
            eprintln!(
                "tidy: {} files, all rules kept; {} lines of code without comments, blanks and tests",
                checkout.paths.len(),
                checkout.code_lines()
            );
            Ok(())
        }
        count => Err(Error::missing(
            format!("{count} violations of the layout rules"),
            "follow the advice in each line; a rule itself is changed in xtask/src/tidy",
        )),
    }
}

impl Checkout {
    /// Reads the files.
    ///
    /// # Errors
    /// When git cannot list them.
    pub fn read() -> Result<Self, Error> {
        let root = paths::root();
        // In a container the checkout may belong to another user, and git refuses to list it then.
        let trusted = format!("safe.directory={}", root.display());
        let list = ["-c", &trusted, "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", "-z"];
        let listed = shell::read(Command::new("git").args(list).current_dir(&root))?;
        let mut checkout = Self::default();
        for path in listed.split('\0').filter(|path| root.join(path).is_file()) {
            checkout.paths.push(path.to_owned());
            // A file that is not UTF-8 is data, to which no rule applies.
            if let Ok(text) = fs::read_to_string(root.join(path)) {
                checkout.sources.push(Source { path: path.to_owned(), text });
            }
        }
        Ok(checkout)
    }

    /// The lines of code of all crates, without comments, blanks and tests.
    fn code_lines(&self) -> usize {
        let is_counted = |source: &&Source| source.is_rust() && source.path.contains("/src/") && !source.is_test();
        self.sources.iter().filter(is_counted).map(|source| code_lines(source.without_tests().lines())).sum()
    }

    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let source = |(path, text): &(&str, &str)| Source { path: (*path).to_owned(), text: (*text).to_owned() };
        Self {
            sources: files.iter().map(source).collect(),
            paths: files.iter().map(|(path, _)| (*path).to_owned()).collect(),
        }
    }
}

impl Source {
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether the whole file is part of tests.
    fn is_test(&self) -> bool {
        const NAMES: [&str; 5] = ["benches", "compliance", "fixtures", "properties", "tests"];
        self.path.split('/').any(|name| NAMES.contains(&name.trim_end_matches(".rs")))
    }

    /// The text without the unit tests at its end.
    fn without_tests(&self) -> &str {
        let end = self.text.find("#[cfg(test)]\nmod tests {");
        &self.text[..end.unwrap_or(self.text.len())]
    }

    fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// Counts lines that are neither blank nor a comment.
fn code_lines<'a>(lines: impl Iterator<Item = &'a str>) -> usize {
    lines.map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

impl Violation {
    pub fn of_file(path: &str, rule: &'static str, advice: impl Into<String>) -> Self {
        Self::of_line(path, 0, rule, advice)
    }

    pub fn of_line(path: &str, line: usize, rule: &'static str, advice: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, rule, advice: advice.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}: {}", self.path, self.rule, self.advice),
            line => write!(f, "{}:{line}: {}: {}", self.path, self.rule, self.advice),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_blanks_and_tests_are_no_code() {
        let text = "//! Job.\n\nfn a() {\n    // Why.\n    b();\n}\n\n#[cfg(test)]\nmod tests {\n    fn c() {}\n}\n";
        let files =
            [("crates/core/bus/src/a.rs", text), ("crates/core/bus/src/a/tests.rs", text), ("tests/a.rs", text)];
        assert_eq!(Checkout::of(&files).code_lines(), 3);
    }
}
