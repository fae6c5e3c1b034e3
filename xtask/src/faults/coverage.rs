//! Whether every row has a test or says why not, and every measurement a row.

use super::collect::FaultTest;
use super::measures::Measures;
use super::rows::Rows;
use super::{MEASURES, ROWS};
use crate::tidy::Violation;

const RULE: &str = "faults";

/// Finds rows that say nothing, rows without a test that do not say why, and measurements without a row.
pub fn check(rows: &Rows, tests: &[FaultTest], measures: &Measures) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut wrong = |path: &str, advice: String| violations.push(Violation::of_file(path, RULE, advice));
    for (code, row) in rows {
        if row.fault.is_empty() || row.holds.is_empty() {
            wrong(ROWS, format!("{code} needs `fault` and `holds`"));
        }
        let is_tested = tests.iter().any(|test| test.codes.contains(code));
        match (&row.missing, is_tested) {
            (None, false) => wrong(ROWS, format!("no test cites {code}: write one, or say why in `missing`")),
            (Some(_), true) => wrong(ROWS, format!("a test cites {code}: remove its `missing`")),
            _ => {}
        }
    }
    for code in measures.codes().filter(|code| !rows.contains_key(code)) {
        wrong(MEASURES, format!("{code} has no row in {ROWS}"));
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::rows::{FaultCode, parse};
    use super::*;

    #[test]
    fn a_row_names_a_test_or_says_why_it_has_none() {
        let rows =
            parse("[C1]\nfault = \"a\"\nholds = \"b\"\n[C2]\nfault = \"a\"\nholds = \"b\"\nmissing = \"no device\"")
                .expect("rows");
        let advice = |tests: &[FaultTest]| -> Vec<String> {
            check(&rows, tests, &Measures::default()).into_iter().map(|violation| violation.to_string()).collect()
        };
        let tests = ["C1", "C2"].map(|code| FaultTest {
            codes: vec![FaultCode::parse(code).expect("a code")],
            path: "tests/a.rs".to_owned(),
            name: "it_ends".to_owned(),
            measures: false,
        });
        assert_eq!(advice(&tests[..1]), [""; 0]);
        assert_eq!(advice(&[]).len(), 1);
        assert!(advice(&tests)[0].contains("remove its `missing`"));
    }
}
