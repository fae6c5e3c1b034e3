//! Names: a type name exists once in the sources of the program, private ones included, and once in the workspace where others can use
//! it; and retired words do not come back.

use std::collections::BTreeMap;

use super::{Checkout, Source, Violation};

const UNIQUE: &str = "unique type names";
const RETIRED: &str = "retired words";

/// Words that no identifier may have as a part, with the words of the field.
const RETIRED_WORDS: &[(&str, &str)] = &[
    ("desk", "worker or state"),
    ("office", "worker or state"),
    ("watchroom", "worker or state"),
    ("patient", "a tracked launch"),
    ("letterbox", "command queue"),
    ("postman", "launch handle"),
    ("mailbox", "command queue"),
    ("switchboard", "command router"),
    ("shelf", "reloader"),
    ("deed", "action"),
    ("misdeeds", "misbehaviour"),
    ("manners", "behaviour"),
];

/// The same for type names alone: elsewhere these words may have their plain meaning.
const RETIRED_IN_TYPES: &[(&str, &str)] = &[
    ("ward", "tracked launch"),
    ("letter", "queued command"),
    ("stock", "reload tracker"),
    ("survey", "scan result"),
    ("scales", "memory probe"),
    ("traces", "process selector"),
    ("sighting", "output summary or observation"),
    ("scene", "fixture"),
    ("story", "event builder"),
    ("wish", "what is wanted"),
];

/// The file with the words themselves.
const OWN_PATH: &str = "xtask/src/tidy/names.rs";

/// Finds type names that are in several files, and retired words in identifiers.
pub fn check(checkout: &Checkout) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut places: BTreeMap<&str, Vec<(&str, usize)>> = BTreeMap::new();
    for source in checkout.sources.iter().filter(|source| source.is_rust()) {
        let program_lines = if is_of_program(source) { source.without_tests().lines().count() } else { 0 };
        for (index, line) in source.text.lines().enumerate() {
            let private = Some(line).filter(|_| index < program_lines).and_then(declared);
            if let Some(name) = declared_type(line).or(private) {
                places.entry(name).or_default().push((&source.path, index + 1));
            }
            if source.path == OWN_PATH {
                continue;
            }
            for (word, instead) in code_of(line).split(|c: char| !is_word(c)).filter_map(retired) {
                let advice = format!("`{word}`: say {instead}");
                violations.push(Violation::of_line(&source.path, index + 1, RETIRED, advice));
            }
        }
    }
    for (name, places) in &places {
        // Two in one file are alternatives of one build option, or are in modules that no other file uses.
        for (path, line) in places {
            if let Some((other, _)) = places.iter().find(|(other, _)| other != path) {
                let advice = format!("`{name}` stands in {other} too: name one of them after its area");
                violations.push(Violation::of_line(path, *line, UNIQUE, advice));
            }
        }
    }
    violations
}

/// The type that `line` declares for other modules to use, if it declares one.
fn declared_type(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub")?;
    let rest = match rest.strip_prefix('(') {
        Some(scope) => scope.split_once(')')?.1,
        None => rest,
    };
    declared(rest.strip_prefix(' ')?)
}

/// The type that a declaration without its visibility and its indentation declares.
fn declared(line: &str) -> Option<&str> {
    let (keyword, rest) = line.trim_start_matches("unsafe ").split_once(' ')?;
    let name = rest.split(|c: char| !is_word(c)).next().filter(|name| !name.is_empty())?;
    ["struct", "enum", "trait", "type", "union"].contains(&keyword).then_some(name)
}

/// Whether a file is part of what is shipped, not a test or a tool.
fn is_of_program(source: &Source) -> bool {
    let folders = ["core", "components", "plugins", "lib", "bin"].map(|kind| format!("crates/{kind}/"));
    let is_there = folders.iter().any(|folder| source.path.starts_with(folder.as_str()));
    is_there && source.path.contains("/src/") && !source.is_test()
}

/// The first retired word that `identifier` has as a part, with what to say instead.
fn retired(identifier: &str) -> Option<(&'static str, &'static str)> {
    let is_type = identifier.starts_with(|first: char| first.is_ascii_uppercase())
        && identifier.contains(|c: char| c.is_ascii_lowercase());
    let in_types = if is_type { RETIRED_IN_TYPES } else { &[] };
    let words = RETIRED_WORDS.iter().chain(in_types);
    words.copied().find(|(word, _)| parts(identifier).any(|part| part.eq_ignore_ascii_case(word)))
}

/// The words of an identifier in any of the three cases.
fn parts(identifier: &str) -> impl Iterator<Item = &str> {
    identifier.split('_').flat_map(|piece| {
        let is_constant = !piece.contains(|c: char| c.is_ascii_lowercase());
        let starts: Vec<usize> = piece
            .char_indices()
            .filter(|(index, c)| *index == 0 || (c.is_ascii_uppercase() && !is_constant))
            .map(|(index, _)| index)
            .collect();
        let ends: Vec<usize> = starts.iter().skip(1).copied().chain([piece.len()]).collect();
        starts.into_iter().zip(ends).map(|(start, end)| &piece[start..end]).collect::<Vec<_>>()
    })
}

/// `line` without its comment. A `//` in a string cuts the line too, which hides no more than the rest of that line.
fn code_of(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(files: &[(&str, &str)]) -> Vec<String> {
        check(&Checkout::of(files)).into_iter().map(|violation| violation.to_string()).collect()
    }

    #[test]
    fn a_type_that_others_can_use_is_declared_once() {
        let twice = [("a.rs", "pub struct Twice;"), ("b.rs", "//!\n    pub(crate) enum Twice<T> {}")];
        assert_eq!(advice(&twice).len(), 2);
        assert!(advice(&twice)[1].starts_with("b.rs:2: unique type names: `Twice` stands in a.rs too"));
        let once = [("a.rs", "pub struct A;\nstruct Twice;"), ("b.rs", "pub struct B;\nimpl X { type A = B; }")];
        assert_eq!(advice(&once), [""; 0]);
    }

    #[test]
    fn a_private_type_of_the_program_is_declared_once() {
        let declared =
            |path: &str| advice(&[("crates/lib/a/src/a.rs", "struct Twice;"), (path, "enum Twice {}")]).len();
        assert_eq!(declared("crates/core/b/src/b.rs"), 2);
        for other in ["crates/core/b/tests/b.rs", "crates/core/b/src/b/tests.rs", "crates/dev/b/src/b.rs"] {
            assert_eq!(declared(other), 0, "{other}");
        }
        let tests = "#[cfg(test)]\nmod tests {\nstruct Twice;\n}";
        assert_eq!(advice(&[("crates/lib/a/src/a.rs", tests), ("crates/lib/b/src/b.rs", "struct Twice;")]), [""; 0]);
    }

    #[test]
    fn declarations_of_every_kind_are_read() {
        for line in ["pub struct Name(u8);", "pub(crate) enum Name {", "pub(in crate::a) type Name<'a> = &'a str;"] {
            assert_eq!(declared_type(line), Some("Name"), "{line}");
        }
        assert_eq!(declared_type("pub unsafe trait Name: Send {"), Some("Name"));
        for line in ["struct Name;", "type Name = u8;", "pub fn name() {}", "pub use a::Name;", "publish(struct_name)"]
        {
            assert_eq!(declared_type(line), None, "{line}");
        }
    }

    #[test]
    fn alternatives_of_one_file_are_one_name() {
        let text = "#[cfg(feature = \"a\")]\npub struct One;\n#[cfg(not(feature = \"a\"))]\npub struct One;";
        assert_eq!(advice(&[("a.rs", text)]), [""; 0]);
    }

    #[test]
    fn a_retired_word_is_found_as_a_part_of_an_identifier() {
        for text in
            ["struct NewDesk;", "let desk_of = 1;", "const THE_DESK: u8 = 0;", "use a::Postman;", "struct Letter;"]
        {
            assert_eq!(advice(&[("a.rs", text)]).len(), 1, "{text}");
        }
    }

    #[test]
    fn longer_words_plain_words_and_comments_are_not_retired() {
        for text in ["struct LlamaWarden;", "fn desktop() {}", "|letter: char| letter", "// a desk", "fn reward() {}"] {
            assert_eq!(advice(&[("a.rs", text)]), [""; 0], "{text}");
        }
    }
}
