//! The page `docs/faults.md`.

use std::fmt::Write;

use super::collect::FaultTest;
use super::measures::Measures;
use super::rows::{FaultCode, FaultFamily, FaultRow, Rows};

const HEAD: &str = include_str!("head.md");

/// Renders the page.
pub fn render(rows: &Rows, tests: &[FaultTest], measures: &Measures) -> String {
    let mut page = HEAD.to_owned();
    let sections = [
        (FaultFamily::Server, "Servers and their processes"),
        (FaultFamily::Daemon, "The daemon and its surroundings"),
    ];
    for (family, title) in sections {
        let _ =
            write!(page, "\n## {title}\n\n| code | fault | what holds | measured | tests |\n|---|---|---|---|---|\n");
        for (code, row) in rows.iter().filter(|(code, _)| code.family == family) {
            let (holds, tests, measured) = (holds(row), names(*code, row, tests), measures.text(*code));
            let _ = writeln!(page, "| {code} | {} | {holds} | {measured} | {tests} |", row.fault);
        }
    }
    page
}

fn holds(row: &FaultRow) -> String {
    let mut text = row.holds.clone();
    for (label, part) in [("weaker", &row.weaker), ("fake", &row.fake)] {
        if let Some(part) = part {
            let _ = write!(text, "; {label}: {part}");
        }
    }
    text
}

fn names(code: FaultCode, row: &FaultRow, tests: &[FaultTest]) -> String {
    if let Some(missing) = &row.missing {
        return format!("none yet: {missing}");
    }
    let covering = tests.iter().filter(|test| test.codes.contains(&code));
    covering.map(|test| format!("`{}::{}`", test.path, test.name)).collect::<Vec<_>>().join(", ")
}
