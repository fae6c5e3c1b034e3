//! The tests that cover faults, and the comments that cite them.

use super::ROWS;
use super::rows::{FaultCode, Rows};
use crate::tidy::{Checkout, Source, Violation};

const RULE: &str = "faults";

/// Files whose own tests invent codes.
const OWN_FOLDER: &str = "xtask/src/faults/";

/// A test that covers faults.
#[derive(Debug)]
pub struct FaultTest {
    pub codes: Vec<FaultCode>,
    /// The path of its file from the root.
    pub path: String,
    /// The name of the function.
    pub name: String,
    /// Whether it records what it measures.
    pub measures: bool,
}

/// Every test whose comment begins with the codes of faults, by path and place in the file.
pub fn tests(checkout: &Checkout) -> Vec<FaultTest> {
    let mut tests: Vec<FaultTest> = sources(checkout).flat_map(tests_of).collect();
    // Git lists files that it does not track yet apart.
    tests.sort_by(|one, other| one.path.cmp(&other.path));
    tests
}

/// Finds cited codes without a row, and comments that claim to be of a test where none is.
pub fn check_citations(checkout: &Checkout, rows: &Rows) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in sources(checkout) {
        for (index, line) in source.text.lines().enumerate() {
            let comment = line.split_once("//").map_or("", |(_, comment)| comment);
            for code in words(comment).filter_map(FaultCode::parse).filter(|code| !rows.contains_key(code)) {
                let advice = format!("`{code}` has no row in {ROWS}");
                violations.push(Violation::of_line(&source.path, index + 1, RULE, advice));
            }
        }
    }
    violations
}

fn sources(checkout: &Checkout) -> impl Iterator<Item = &Source> {
    checkout.sources.iter().filter(|source| source.is_rust() && !source.path.starts_with(OWN_FOLDER))
}

fn tests_of(source: &Source) -> Vec<FaultTest> {
    let mut tests: Vec<FaultTest> = Vec::new();
    let (mut codes, mut is_marked) = (Vec::new(), false);
    for line in source.text.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix("///") {
            codes.extend(claimed(comment.trim()));
            continue;
        }
        if line.starts_with("#[") {
            is_marked |= line.contains("test]") || line.contains("test(");
            continue;
        }
        // Tests with a runner of their own have no attribute. They lie in folders that hold nothing but tests.
        let is_test = is_marked || source.path.split('/').any(|folder| folder == "tests");
        if let Some(name) = function(line).filter(|_| is_test && !codes.is_empty()) {
            let (path, name) = (source.path.clone(), name.to_owned());
            tests.push(FaultTest { codes: std::mem::take(&mut codes), path, name, measures: false });
        } else if let Some(test) = tests.last_mut() {
            test.measures |= line.contains("measured(");
        }
        codes.clear();
        is_marked = false;
    }
    tests
}

/// The codes in the first sentence of a comment that begins with `Fault` or `Faults`.
fn claimed(comment: &str) -> Vec<FaultCode> {
    let Some(claim) = comment.strip_prefix("Faults ").or_else(|| comment.strip_prefix("Fault ")) else {
        return Vec::new();
    };
    let end = claim.find(['.', ':']).unwrap_or(claim.len());
    words(&claim[..end]).filter_map(FaultCode::parse).collect()
}

/// The name of the function that a line begins.
fn function(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let are_qualifiers =
        before.split_whitespace().all(|word| ["pub", "async", "const", "pub(crate)", "pub(super)"].contains(&word));
    are_qualifiers.then(|| after.split(['(', '<']).next().unwrap_or_default())
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
}

#[cfg(test)]
mod tests {
    use super::super::rows::parse;
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let found = tests(&Checkout::of(&[(path, text)])).into_iter();
        found
            .map(|test| {
                format!(
                    "{} {:?} {}",
                    test.name,
                    test.codes.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    test.measures
                )
            })
            .collect()
    }

    #[test]
    fn a_test_covers_the_codes_with_which_its_comment_begins() {
        let text = "/// Faults C1 and S2: not as C3.\n///\n/// More.\n#[tokio::test(start_paused = true)]\nasync fn ends() {\n    measured(\"C1\");\n}\n\n\
                    /// Ends as C4.\n#[test]\nfn cites() {}\n/// Fault C5.\nfn helper() {}\n";
        assert_eq!(found("crates/a/src/b.rs", text), [r#"ends ["C1", "S2"] true"#]);
        // In a folder of tests, functions without an attribute are tests of a runner of its own.
        assert_eq!(found("crates/a/tests/b.rs", "/// Fault C5.\nfn scenario() {}\n"), [r#"scenario ["C5"] false"#]);
    }

    #[test]
    fn a_cited_code_needs_a_row() {
        let rows = parse("[C1]\nfault = \"a\"\nholds = \"b\"").expect("rows");
        let cites =
            ("a.rs", "let a = \"C3\"; // C1, C3: why\n/// S40.\n// C1234 and XC9 and C are no codes\nlet c5 = C5;");
        let found: Vec<String> =
            check_citations(&Checkout::of(&[cites]), &rows).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with("a.rs:1: faults: `C3` has no row") && found[1].starts_with("a.rs:2:"),
            "{found:?}"
        );
    }
}
