//! `docs/faults.md`: every fault that a comment cites has a row there, and every row names tests that exist.
//!
//! A row is `| C24 | fault | what holds | tests |`. Its tests are backticked, as in `tests/system/output.rs::name`, or the cell
//! says "none yet".

use std::collections::BTreeSet;

use super::{Checkout, Source, Violation};

const RULE: &str = "faults";
const PAGE: &str = "docs/faults.md";
const NO_TEST: &str = "none yet";

/// The first letters of codes: C for faults of servers, S for faults of the daemon and its surroundings.
const FAMILIES: [char; 2] = ['C', 'S'];

/// This file invents codes.
const OWN_PATH: &str = "xtask/src/tidy/faults.rs";

/// Finds cited codes without a row, and rows without a test that exists.
pub fn check(checkout: &Checkout) -> Vec<Violation> {
    let page = checkout.sources.iter().find(|source| source.path == PAGE);
    let rows: Vec<(usize, Vec<&str>)> = page.into_iter().flat_map(rows).collect();
    let known: BTreeSet<&str> = rows.iter().flat_map(|(_, cells)| codes(cells[0])).collect();
    let mut violations: Vec<Violation> = rows
        .iter()
        .filter_map(|(line, cells)| {
            let advice = missing_test(checkout, cells[cells.len() - 1])?;
            Some(Violation::of_line(PAGE, *line, RULE, advice))
        })
        .collect();
    for source in checkout.sources.iter().filter(|source| source.is_rust() && source.path != OWN_PATH) {
        for (index, line) in source.text.lines().enumerate() {
            let comment = line.split_once("//").map_or("", |(_, comment)| comment);
            violations.extend(codes(comment).filter(|code| !known.contains(code)).map(|code| {
                let advice = format!("`{code}` has no row in {PAGE}");
                Violation::of_line(&source.path, index + 1, RULE, advice)
            }));
        }
    }
    violations
}

/// The rows of the page's tables that begin with a code, with their line numbers and cells.
fn rows(page: &Source) -> impl Iterator<Item = (usize, Vec<&str>)> {
    page.text.lines().enumerate().filter_map(|(index, line)| {
        let cells = line.trim().strip_prefix('|')?.trim_end_matches('|');
        // A bar inside a cell is escaped in Markdown; the code comes before and the tests after every such cell.
        let cells: Vec<&str> = cells.split('|').map(str::trim).collect();
        codes(cells[0]).next()?;
        Some((index + 1, cells))
    })
}

/// The mistake in a row's tests, if there is one.
fn missing_test(checkout: &Checkout, cell: &str) -> Option<String> {
    let tests: Vec<&str> = cell.split('`').skip(1).step_by(2).filter(|test| test.contains("::")).collect();
    if tests.is_empty() {
        return (!cell.to_lowercase().contains(NO_TEST)).then(|| format!("name a test, or say \"{NO_TEST}\""));
    }
    let is_missing = |test: &&&str| {
        let (path, name) = test.rsplit_once("::").unwrap_or_default();
        let path = path.split("::").next().unwrap_or_default();
        let function = format!("fn {name}(");
        !checkout.sources.iter().any(|source| source.path.ends_with(path) && source.text.contains(&function))
    };
    tests.iter().find(is_missing).map(|test| format!("there is no test `{test}`"))
}

/// The codes in `text`, such as `C24`, as whole words.
fn codes(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| {
        word.strip_prefix(FAMILIES)
            .is_some_and(|number| (1..=3).contains(&number.len()) && number.bytes().all(|digit| digit.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
# Faults

| code | what must survive | tests |
|---|---|---|
| C1 | a child that ends | `tests/system/a.rs::it_ends`, `a.rs::it_ends_twice` |
| **S2** | a full disk (`ENOSPC` \\| `EIO`) | none yet |
";
    const TEST: (&str, &str) = ("tests/system/a.rs", "/// C1, S2.\nfn it_ends() {}\nasync fn it_ends_twice() {}");

    fn violations(files: &[(&str, &str)]) -> Vec<String> {
        check(&Checkout::of(files)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_table_whose_codes_and_tests_exist_is_kept() {
        assert_eq!(violations(&[(PAGE, TABLE), TEST]), [""; 0]);
    }

    #[test]
    fn a_cited_code_needs_a_row() {
        let cites =
            ("a.rs", "let a = \"C3\"; // C1, C3: why\n/// S40.\n// C1234 and XC9 and C are no codes\nlet c5 = C5;");
        let found = violations(&[(PAGE, TABLE), TEST, cites]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with("a.rs:1: faults: `C3` has no row") && found[1].starts_with("a.rs:2:"),
            "{found:?}"
        );
        assert_eq!(violations(&[TEST]).len(), 2);
    }

    #[test]
    fn a_row_names_tests_that_exist() {
        let found = violations(&[(PAGE, TABLE), ("tests/system/a.rs", "fn it_ends() {}\nfn it_ends_twice_more() {}")]);
        assert_eq!(found, ["docs/faults.md:5: faults: there is no test `a.rs::it_ends_twice`"]);
        let elsewhere = violations(&[(PAGE, TABLE), ("tests/system/b.rs", TEST.1)]);
        assert_eq!(elsewhere.len(), 1, "{elsewhere:?}");
    }

    #[test]
    fn a_row_without_tests_says_so() {
        let table = "| C7 | survives | |\n| C8 | survives | None yet: no device |\n| code | C9 |";
        assert_eq!(violations(&[(PAGE, table)]), ["docs/faults.md:1: faults: name a test, or say \"none yet\""]);
    }
}
