//! Names of functions as patterns that are few and still fit after a change of the program.
//!
//! A symbol is a path, `_ZN4core3fmt5write17h0123456789abcdefE`, whose hash changes with each build, and differs among the instances of a
//! generic function. Functions are therefore named without it. Where most functions of a module or of a type are run, one pattern names
//! them all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::Function;

/// Bytes that are not run and may be named with those that are, for a shorter list.
const SPARE_BYTES: u64 = 100;
/// How many bytes that are not run may share a name with one that is. The instances of a generic function have one name.
const SHARED: u64 = 4;

/// All functions of a program, as a tree of their paths.
#[derive(Debug, Default)]
pub struct FunctionNames {
    root: PathNode,
    /// Symbols of the standard library, which is compiled with another scheme of names.
    others: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct PathNode {
    children: BTreeMap<String, Self>,
    /// Functions whose path ends here.
    own: Bytes,
    /// Those and all below.
    all: Bytes,
}

/// Bytes of functions that are run, and of those that are not.
#[derive(Debug, Default, Clone, Copy)]
struct Bytes {
    run: u64,
    not_run: u64,
}

impl FunctionNames {
    /// Adds a function.
    pub fn add(&mut self, function: &Function, is_run: bool) {
        for symbol in &function.symbols {
            let Some(parts) = path(symbol) else {
                // The few functions of C have names that occur in others.
                if is_run && symbol.starts_with("_R") {
                    self.others.insert(without_hashes(symbol) + "*");
                }
                continue;
            };
            let mut node = &mut self.root;
            node.all.add(function.bytes, is_run);
            for part in parts {
                node = node.children.entry(part.to_owned()).or_default();
                node.all.add(function.bytes, is_run);
            }
            node.own.add(function.bytes, is_run);
        }
    }

    /// The linker script. Functions that the compiler takes for cold lie in sections called `.text.unlikely.NAME`. Its section comes first,
    /// and the linker's own `.text` has the rest.
    pub fn script(&self) -> String {
        let mut script =
            "/* The functions that a daemon runs: written by `cargo xtask functions`, read by build.rs. */\n\
            SECTIONS\n{\n  .text.daemon : {\n    *(\n"
                .to_owned();
        for pattern in self.patterns() {
            // Writing into a string cannot fail.
            let _ = writeln!(script, "      .text*{pattern}");
        }
        script + "    )\n  }\n}\nINSERT BEFORE .text;\n"
    }

    /// What the script names, for people.
    pub fn summary(&self) -> String {
        let Bytes { run, not_run } = self.root.all;
        format!("{} patterns for {} of {} KiB", self.patterns().len(), run / 1024, (run + not_run) / 1024)
    }

    fn patterns(&self) -> Vec<String> {
        let mut patterns = Vec::new();
        for (part, node) in &self.root.children {
            node.collect(&format!("_ZN{part}"), &mut patterns);
        }
        patterns.extend(self.others.iter().cloned());
        patterns
    }
}

impl Bytes {
    fn add(&mut self, bytes: u64, is_run: bool) {
        *if is_run { &mut self.run } else { &mut self.not_run } += bytes;
    }
}

impl PathNode {
    fn collect(&self, prefix: &str, patterns: &mut Vec<String>) {
        if self.all.run == 0 {
            return;
        }
        if self.all.not_run <= self.all.run / 8 + SPARE_BYTES {
            patterns.push(format!("{prefix}*"));
            return;
        }
        if self.own.run > 0 && self.own.not_run <= self.own.run * SHARED {
            patterns.push(format!("{prefix}17h*"));
        }
        for (part, node) in &self.children {
            node.collect(&format!("{prefix}{part}"), patterns);
        }
    }
}

/// The parts of the path in a symbol, without its hash, each as it is written; the types in a part are parts too. `None` for symbols of
/// another scheme.
fn path(symbol: &str) -> Option<Vec<&str>> {
    let mut rest = symbol.strip_prefix("_ZN")?;
    let mut parts = Vec::new();
    while rest.starts_with(|first: char| first.is_ascii_digit()) {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let end = digits + rest[..digits].parse::<usize>().ok()?;
        let (part, after) = rest.split_at_checked(end)?;
        if after.starts_with('E') && part.starts_with("17h") {
            break;
        }
        parts.extend(part.split_inclusive(".."));
        rest = after;
    }
    Some(parts)
}

/// The symbol with a wildcard for each number of a crate, which changes with its version, and without what the compiler appends to one
/// that it has made unique.
fn without_hashes(symbol: &str) -> String {
    let symbol = symbol.split('.').next().unwrap_or_default();
    let mut pieces = symbol.split("Cs");
    let mut pattern = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let number = piece.bytes().take_while(u8::is_ascii_alphanumeric).count();
        let (is_number, rest) = (piece[number..].starts_with('_'), &piece[number..]);
        pattern += "Cs";
        pattern += &if is_number { format!("*{rest}") } else { piece.to_owned() };
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(names: &mut FunctionNames, symbol: &str, bytes: u64, is_run: bool) {
        names.add(&Function { symbols: vec![symbol.to_owned()], bytes }, is_run);
    }

    #[test]
    fn a_symbol_is_split_into_its_path_and_the_types_in_it() {
        assert_eq!(path("_ZN4core3fmt5write17h0123456789abcdefE"), Some(vec!["4core", "3fmt", "5write"]));
        let push = "_ZN24_$LT$alloc..vec..Vec$GT$4push17h0123456789abcdefE";
        assert_eq!(path(push), Some(vec!["24_$LT$alloc..", "vec..", "Vec$GT$", "4push"]));
        assert_eq!(path("memcpy"), None);
        assert_eq!(path("_ZN9short"), None);
    }

    #[test]
    fn a_module_of_which_most_is_run_is_one_pattern_and_a_function_among_others_is_named_itself() {
        let mut names = FunctionNames::default();
        add(&mut names, "_ZN3bus3one17h0123456789abcdefE", 4000, true);
        add(&mut names, "_ZN3bus3two17h0123456789abcdefE", 500, false);
        add(&mut names, "_ZN4core3one17h0123456789abcdefE", 4000, true);
        add(&mut names, "_ZN4core3one7closure17h0123456789abcdefE", 90_000, false);
        add(&mut names, "_ZN3top4draw17h0123456789abcdefE", 4000, false);
        add(&mut names, "main", 10, true);
        add(&mut names, "_RNvCs1Zx9_4core3abc.llvm.77", 10, true);
        assert_eq!(names.patterns(), ["_ZN3bus*", "_ZN4core3one17h*", "_RNvCs*_4core3abc*"]);
        assert!(names.script().contains("      .text*_ZN3bus*\n"));
    }

    #[test]
    fn a_name_that_few_instances_of_a_generic_function_run_under_is_left_out() {
        let mut names = FunctionNames::default();
        for (instance, is_run) in [(1, true), (2, false), (3, false)] {
            add(&mut names, &format!("_ZN5slice4sort17h{instance:016x}E"), 4000, is_run);
            add(&mut names, &format!("_ZN5slice4swap17h{instance:016x}E"), 4000, is_run || instance == 2);
        }
        (4..9).for_each(|instance| add(&mut names, &format!("_ZN5slice4sort17h{instance:016x}E"), 4000, false));
        assert_eq!(names.patterns(), ["_ZN5slice4swap17h*"]);
    }
}
