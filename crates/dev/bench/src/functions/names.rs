//! Names of functions as patterns that are few and still fit after a change of the program.
//!
//! A symbol is a path, `_ZN4core3fmt5write17h0123456789abcdefE`, whose hash changes with the compiler and the versions of crates, and
//! differs among the instances of a generic function. Functions are therefore named without it. Where most functions of a module or of a
//! type are run, one pattern names them all. The instances of a generic function of which only some are run are named with it before the
//! others, so that they lie together as long as their hashes stay.

use std::collections::{BTreeMap, BTreeSet};

use super::Function;

/// Bytes that are not run and may be named with those that are, for a shorter list.
const SPARE_BYTES: u64 = 100;

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
    /// The functions that end here and are run: the instances of one function, by their hashes.
    run_instances: BTreeSet<String>,
    /// Bytes of those that end here and are not run.
    not_run_instances: u64,
    /// Bytes of functions at and below this node that are run, and of those that are not.
    run: u64,
    not_run: u64,
}

impl FunctionNames {
    /// Adds a function.
    pub fn add(&mut self, function: &Function, is_run: bool) {
        for symbol in &function.symbols {
            let Some((parts, hash)) = path(symbol) else {
                // The few functions of C have names that occur in others.
                if is_run && symbol.starts_with("_R") {
                    self.others.insert(without_hashes(symbol) + "*");
                }
                continue;
            };
            let mut node = &mut self.root;
            node.count(function.bytes, is_run);
            for part in parts {
                node = node.children.entry(part.to_owned()).or_default();
                node.count(function.bytes, is_run);
            }
            match is_run {
                true => drop(node.run_instances.insert(hash.to_owned())),
                false => node.not_run_instances += function.bytes,
            }
        }
    }

    /// The linker script. Functions that the compiler takes for cold lie in sections called `.text.unlikely.NAME`. Its section comes first,
    /// and the linker's own `.text` has the rest. Every function that is run is named without a hash, also where most instances of a generic
    /// one are not: one that is left out costs 64 KiB somewhere in the rest.
    pub fn script(&self) -> String {
        let Patterns { instances, functions } = self.patterns();
        let list = |patterns: Vec<String>| -> String {
            patterns.into_iter().map(|pattern| format!("      .text*{pattern}\n")).collect()
        };
        format!(
            "/* The functions that a daemon runs: written by `cargo xtask functions`, read by build.rs. */\n\
            SECTIONS\n{{\n  .text.daemon : {{\n    *(\n{}    )\n    *(\n{}    )\n  }}\n}}\nINSERT BEFORE .text;\n",
            list(instances),
            list(functions),
        )
    }

    /// What the script names, for people.
    pub fn summary(&self) -> String {
        let PathNode { run, not_run, .. } = self.root;
        let Patterns { instances, functions } = self.patterns();
        let patterns = instances.len() + functions.len();
        format!("{patterns} patterns for {} of {} KiB", run / 1024, (run + not_run) / 1024)
    }

    fn patterns(&self) -> Patterns {
        let mut patterns = Patterns::default();
        for (part, node) in &self.root.children {
            node.collect(&format!("_ZN{part}"), &mut patterns);
        }
        patterns.functions.extend(self.others.iter().cloned());
        patterns
    }
}

/// What the linker script names, in the order in which it lies in the program.
#[derive(Debug, Default)]
struct Patterns {
    /// Instances of generic functions that are run while others are not.
    instances: Vec<String>,
    /// Functions with all of their instances, and modules.
    functions: Vec<String>,
}

impl PathNode {
    fn count(&mut self, bytes: u64, is_run: bool) {
        *if is_run { &mut self.run } else { &mut self.not_run } += bytes;
    }

    fn collect(&self, prefix: &str, patterns: &mut Patterns) {
        if self.run == 0 {
            return;
        }
        if self.not_run <= self.run / 8 + SPARE_BYTES {
            patterns.functions.push(format!("{prefix}*"));
            return;
        }
        if !self.run_instances.is_empty() {
            patterns.functions.push(format!("{prefix}17h*"));
            if self.not_run_instances > SPARE_BYTES {
                patterns.instances.extend(self.run_instances.iter().map(|hash| format!("{prefix}{hash}E*")));
            }
        }
        for (part, node) in &self.children {
            node.collect(&format!("{prefix}{part}"), patterns);
        }
    }
}

/// The parts of the path in a symbol, each as it is written, and its hash; the types in a part are parts too. `None` for symbols of
/// another scheme.
fn path(symbol: &str) -> Option<(Vec<&str>, &str)> {
    let mut rest = symbol.strip_prefix("_ZN")?;
    let mut parts = Vec::new();
    while rest.starts_with(|first: char| first.is_ascii_digit()) {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let end = digits + rest[..digits].parse::<usize>().ok()?;
        let (part, after) = rest.split_at_checked(end)?;
        if after.starts_with('E') && part.starts_with("17h") {
            return Some((parts, part));
        }
        parts.extend(part.split_inclusive(".."));
        rest = after;
    }
    None
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
        let hash = "17h0123456789abcdef";
        assert_eq!(path("_ZN4core3fmt5write17h0123456789abcdefE"), Some((vec!["4core", "3fmt", "5write"], hash)));
        let push = "_ZN24_$LT$alloc..vec..Vec$GT$4push17h0123456789abcdefE.llvm.77";
        assert_eq!(path(push), Some((vec!["24_$LT$alloc..", "vec..", "Vec$GT$", "4push"], hash)));
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
        let Patterns { instances, functions } = names.patterns();
        assert_eq!(functions, ["_ZN3bus*", "_ZN4core3one17h*", "_RNvCs*_4core3abc*"]);
        assert_eq!(instances, [""; 0]);
        assert!(names.script().contains("      .text*_ZN3bus*\n"));
    }

    #[test]
    fn instances_that_are_run_lie_before_the_others_of_their_function() {
        let mut names = FunctionNames::default();
        add(&mut names, "_ZN4core3one17h0123456789abcdefE", 400, true);
        add(&mut names, "_ZN4core3one17h1123456789abcdefE.llvm.77", 400, true);
        add(&mut names, "_ZN4core3one17h2123456789abcdefE", 4000, false);
        let script = names.script();
        let [first, second, others] = ["one17h0123456789abcdefE*", "one17h1123456789abcdefE*", "one17h*"]
            .map(|name| script.find(&format!("      .text*_ZN4core3{name}\n")).expect("named"));
        assert!(first < second && second < others && !script.contains("17h2"), "{script}");
    }
}
