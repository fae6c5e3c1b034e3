//! Checks that the modules of a crate do not use each other in a circle.
//!
//! A module that uses others can be read after them, and moved with them, only where there is such an order. A parent may name its
//! children, for what it re-exports; the use of a parent counts, and so does each use in a function. What a module has from another
//! is used from there, so that no re-export hides a circle. Tests do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;

use super::{Checkout, Violation};

const RULE: &str = "module circles";

/// The names of a module and of those above it, from the root of its crate.
type ModulePath<'a> = Vec<&'a str>;

/// A module and what its text names.
struct Module<'a> {
    file: &'a str,
    named: Vec<NamedPath<'a>>,
}

/// A path of a `use`, braces resolved, or one in the code that begins with `crate`, `super` or `self`.
struct NamedPath<'a> {
    /// As it is written, without a last `self` or `*`.
    path: Vec<&'a str>,
    /// The name that a `use` gives to it, or `*`.
    import: Option<&'a str>,
    line: usize,
}

/// Most imports of imports that are followed. Two that name each other would have no end.
const MOST_IMPORTS: usize = 8;

/// Finds each module that is used by one that it uses, directly or through others.
pub fn check(checkout: &Checkout) -> Vec<Violation> {
    let mut crates: BTreeMap<&str, BTreeMap<ModulePath<'_>, Module<'_>>> = BTreeMap::new();
    for source in checkout.sources.iter().filter(|source| source.is_rust()) {
        let Some((folder, file)) = source.path.split_once("/src/") else { continue };
        let mut path: ModulePath<'_> = file.trim_end_matches(".rs").split('/').collect();
        if path.last().is_some_and(|last| ["lib", "main", "mod"].contains(last)) {
            path.pop();
        }
        if !source.is_test() {
            let module = Module { file: &source.path, named: named_paths(source.without_tests()) };
            crates.entry(folder).or_default().insert(path, module);
        }
    }
    crates.values().flat_map(circles).collect()
}

fn circles(modules: &BTreeMap<ModulePath<'_>, Module<'_>>) -> Vec<Violation> {
    let edges: BTreeMap<&ModulePath<'_>, BTreeMap<&ModulePath<'_>, usize>> =
        modules.iter().map(|(path, module)| (path, used_modules(path, &module.named, modules))).collect();
    let mut violations = Vec::new();
    for (path, used) in &edges {
        for (other, line) in used {
            if reaches(&edges, other, path) {
                let name = if other.is_empty() { "the root of the crate".to_owned() } else { other.join("::") };
                let advice = format!("`{name}` uses this module too, or one that does: move what both need below them");
                violations.push(Violation::of_line(modules[*path].file, *line, RULE, advice));
            }
        }
    }
    violations
}

/// Whether `goal` is used by `from`, directly or through others.
fn reaches<'a>(
    edges: &BTreeMap<&'a ModulePath<'a>, BTreeMap<&'a ModulePath<'a>, usize>>,
    from: &'a ModulePath<'a>,
    goal: &ModulePath<'a>,
) -> bool {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(path) = next.pop() {
        if path == goal {
            return true;
        }
        if seen.insert(path) {
            next.extend(edges.get(path).into_iter().flat_map(BTreeMap::keys).copied());
        }
    }
    false
}

/// The modules that a module names, with the line of the first place, without itself and those below it.
fn used_modules<'a>(
    path: &ModulePath<'a>,
    named: &[NamedPath<'a>],
    modules: &'a BTreeMap<ModulePath<'a>, Module<'a>>,
) -> BTreeMap<&'a ModulePath<'a>, usize> {
    let mut used = BTreeMap::new();
    for NamedPath { path: written, line, .. } in named.iter().filter(|named| begins_in_crate(&named.path)) {
        let Some(absolute) = absolute(path, written) else { continue };
        if let Some(other) = home(absolute, modules, MOST_IMPORTS)
            && !other.starts_with(path)
        {
            used.entry(other).or_insert(*line);
        }
    }
    used
}

/// The module that what a path names belongs to; that of the import where a module has it from another one.
fn home<'a>(
    path: Vec<&'a str>,
    modules: &'a BTreeMap<ModulePath<'a>, Module<'a>>,
    most_imports: usize,
) -> Option<&'a ModulePath<'a>> {
    let (module, found) = (0..=path.len()).rev().find_map(|depth| modules.get_key_value(&path[..depth]))?;
    let (name, below) = path[module.len()..].split_first().unzip();
    let import = name.and_then(|name| found.named.iter().find(|named| named.import == Some(name)));
    let elsewhere = import.filter(|_| most_imports > 0).and_then(|NamedPath { path: written, .. }| {
        let begins_here = begins_in_crate(written);
        let mut target = if begins_here { absolute(module, written)? } else { [module, &written[..]].concat() };
        // Else it is of another crate, or the module itself.
        let is_of_module = begins_here || modules.contains_key(&target[..=module.len()]);
        target.extend(below.unwrap_or_default());
        is_of_module.then(|| home(target, modules, most_imports - 1))?
    });
    Some(elsewhere.unwrap_or(module))
}

/// The names from the root of the crate; `None` for a path that leads out of it.
fn absolute<'a>(from: &[&'a str], named: &[&'a str]) -> Option<Vec<&'a str>> {
    let (first, rest) = named.split_first()?;
    let mut absolute = if *first == "crate" { Vec::new() } else { from.to_vec() };
    if *first == "super" {
        absolute.pop()?;
    }
    for name in rest {
        if *name == "super" { absolute.pop().map(drop)? } else { absolute.push(name) }
    }
    Some(absolute)
}

fn begins_in_crate(path: &[&str]) -> bool {
    path.first().is_some_and(|first| ["crate", "super", "self"].contains(first))
}

/// What a text names, in its order.
fn named_paths(text: &str) -> Vec<NamedPath<'_>> {
    let (mut named, mut words) = (Vec::new(), words(text).into_iter().peekable());
    let mut before = ("", 0);
    while let Some(word) = words.next() {
        match word {
            // Elsewhere it is part of a type, or of a sentence in a string.
            ("use", line) if line != before.1 || ["pub", ")"].contains(&before.0) => {
                read_use(&mut words, &[], &mut named);
            }
            ("crate" | "super" | "self", mut line) => {
                let mut path = vec![word.0];
                while words.next_if(|next| next.0 == "::").is_some()
                    && let Some(name) = words.next_if(|next| is_name(next.0))
                {
                    path.push(name.0);
                    line = name.1;
                }
                // `self` alone is a value, `crate` and `super` alone are those of a visibility.
                if path.len() > 1 {
                    named.push(NamedPath { path, import: None, line });
                }
            }
            _ => {}
        }
        before = word;
    }
    named
}

/// Reads one of the trees of a `use`, below `prefix`, up to the comma, brace or semicolon behind it.
fn read_use<'a>(
    words: &mut Peekable<impl Iterator<Item = (&'a str, usize)>>,
    prefix: &[&'a str],
    named: &mut Vec<NamedPath<'a>>,
) {
    let (mut path, mut import) = (prefix.to_vec(), None);
    while let Some((word, line)) = words.next_if(|next| ![",", "}", ";"].contains(&next.0)) {
        match word {
            "{" => {
                read_use(words, &path, named);
                while words.next().is_some_and(|end| end.0 == ",") {
                    read_use(words, &path, named);
                }
                import = None;
            }
            "as" => import = words.next(),
            "*" => import = Some(("*", line)),
            "self" if !path.is_empty() => import = path.last().map(|last| (*last, line)),
            name if is_name(name) => {
                path.push(name);
                import = Some((name, line));
            }
            _ => {}
        }
    }
    if let Some((import, line)) = import {
        named.push(NamedPath { path, import: Some(import), line });
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Names, `::` and single other characters of the code, with their lines. Comments and what looks like one in a string are left out.
fn words(text: &str) -> Vec<(&str, usize)> {
    let mut words = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut rest = line.split_once("//").map_or(line, |(code, _)| code).trim_start();
        while let Some(first) = rest.chars().next() {
            let end = match first {
                ':' if rest.starts_with("::") => 2,
                _ if is_name(rest) => rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len()),
                _ => first.len_utf8(),
            };
            words.push((&rest[..end], index + 1));
            rest = rest[end..].trim_start();
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(files: &[(&str, &str)]) -> Vec<String> {
        check(&Checkout::of(files)).iter().map(Violation::to_string).collect()
    }

    #[test]
    fn two_modules_that_use_each_other_are_found_at_both_ends() {
        let found = violations(&[
            ("crates/lib/a/src/lib.rs", "mod one;\nmod two;\n"),
            ("crates/lib/a/src/one.rs", "use std::fmt;\n\nuse crate::two::Two;\n"),
            ("crates/lib/a/src/two.rs", "fn two() { super::one::one() }\n"),
        ]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with("crates/lib/a/src/one.rs:3: module circles: `two` uses this module too"),
            "{found:?}"
        );
        assert!(found[1].starts_with("crates/lib/a/src/two.rs:1:"), "{found:?}");
    }

    #[test]
    fn a_circle_through_braces_and_a_third_module_is_found() {
        let found = violations(&[
            ("crates/lib/a/src/one.rs", "use crate::{\n    other::{Some, Thing},\n    two::{self, Two},\n};\n"),
            ("crates/lib/a/src/two.rs", "use super::three;\n"),
            ("crates/lib/a/src/three/mod.rs", "use self::four::Four;\n"),
            ("crates/lib/a/src/three/four.rs", "use super::super::one::One;\n"),
            ("crates/lib/a/src/other.rs", ""),
        ]);
        // A parent may name its children, so `three` is not within the circle.
        assert!(found.is_empty(), "{found:?}");
        let found = violations(&[
            ("crates/lib/a/src/one.rs", "use crate::{\n    other::{Some, Thing},\n    two::{self, Two},\n};\n"),
            ("crates/lib/a/src/two.rs", "use super::three::four::Four;\n"),
            ("crates/lib/a/src/three/four.rs", "use super::super::one::One;\n"),
        ]);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("crates/lib/a/src/one.rs:3:"), "{found:?}");
    }

    #[test]
    fn re_exports_tests_and_names_of_other_crates_are_no_circle() {
        let found = violations(&[
            ("crates/lib/a/src/lib.rs", "mod one;\nmod two;\npub use one::One;\npub use self::two::Two;\n"),
            (
                "crates/lib/a/src/one.rs",
                "/// As [`crate::two::Two`].\npub struct One;\n\n#[cfg(test)]\nmod tests {\n    use crate::two::Two;\n}\n",
            ),
            ("crates/lib/a/src/two.rs", "use other::crate_of::one;\nuse crate::one::One;\n"),
            ("crates/lib/a/src/one/tests.rs", "use crate::two::Two;\n"),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn what_is_re_exported_is_used_from_its_own_module() {
        let root = "mod one;\nmod two;\npub use one::{One, deep::Deep as Renamed};\npub(crate) use two::Two;\nuse serde::One as _;\n";
        let found = violations(&[
            ("crates/lib/a/src/lib.rs", root),
            ("crates/lib/a/src/one.rs", "use crate::Two;\n"),
            ("crates/lib/a/src/one/deep.rs", ""),
            ("crates/lib/a/src/two.rs", "use std::fmt;\nfn two() -> crate::One {}\n"),
        ]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("crates/lib/a/src/one.rs:1: module circles: `two` uses this"), "{found:?}");
        assert!(found[1].starts_with("crates/lib/a/src/two.rs:2: module circles: `one` uses this"), "{found:?}");
        let found = violations(&[
            ("crates/lib/a/src/lib.rs", root),
            ("crates/lib/a/src/one.rs", "use crate::Two;\n"),
            ("crates/lib/a/src/one/deep.rs", "use crate::{One};\n"),
            ("crates/lib/a/src/two.rs", "use crate::Renamed;\n"),
        ]);
        assert_eq!(found.len(), 3, "through `deep`: {found:?}");
    }

    #[test]
    fn every_path_of_a_use_is_read_with_its_name_and_its_line() {
        let text = "pub use a::{self, b::{C, D as E,},\n    f::*};\n    pub(crate) use crate::g;\nfn h() -> impl I + use<'_> {\n    \
                    let i = \"use a; use b;\"; self.j(super::k::<L>(), crate::m!(crate))\n}\nuse super::super::{n as _, self as o};\n";
        let named = named_paths(text);
        let shown = |NamedPath { path, import, line }: &NamedPath<'_>| {
            format!("{line} {} {}", path.join("::"), import.unwrap_or_default()).trim_end().to_owned()
        };
        let expected = [
            "1 a a",
            "1 a::b::C C",
            "1 a::b::D E",
            "2 a::f *",
            "3 crate::g g",
            "5 super::k",
            "5 crate::m",
            "7 super::super::n _",
            "7 super::super o",
        ];
        assert_eq!(named.iter().map(shown).collect::<Vec<_>>(), expected);
    }
}
