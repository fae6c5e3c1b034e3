//! Prints findings.

use anstyle::{AnsiColor, Color, Style};
use llama_warden_exit::CommandFailure;
use llama_warden_terminal::advice::with_options;
use llama_warden_terminal::output::{print_json, print_line};
use llama_warden_terminal::screen::Screen;
use llama_warden_terminal::table;
use serde::Serialize;

use crate::finding::{Finding, Gravity};

/// The width of the first two columns: the longest gravity and the longest area.
const GRAVITY: usize = "warning".len() + 2;
const AREA: usize = "state directory".len() + 2;

#[derive(Debug, Serialize)]
struct DoctorReport<'a> {
    faults: usize,
    warnings: usize,
    findings: &'a [Finding],
}

pub(crate) fn print(findings: &[Finding], json: bool) -> Result<(), CommandFailure> {
    let count = |gravity| findings.iter().filter(|finding| finding.gravity == gravity).count();
    let (faults, warnings) = (count(Gravity::Fault), count(Gravity::Warning));
    if json {
        return print_json(&DoctorReport { faults, warnings, findings });
    }
    let screen = Screen::now();
    for finding in findings {
        for line in lines(finding, screen) {
            print_line(line)?;
        }
    }
    print_line(match (faults, warnings) {
        (0, 0) => "everything is as it should be".to_owned(),
        _ => format!("{}, {}", counted(faults, "fault"), counted(warnings, "warning")),
    })
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The finding and below it the next step, both as wide as the terminal.
fn lines(finding: &Finding, screen: Screen) -> Vec<String> {
    let indent = GRAVITY + AREA;
    // A narrow terminal gets the text below the area, not a column of single words.
    let beside = screen.columns().is_none_or(|columns| columns >= 2 * indent);
    let margin = if beside { indent } else { 2 };
    let wrapped = |text: &str| match screen.columns() {
        Some(columns) => table::wrap(text, columns.saturating_sub(margin).max(1)),
        None => vec![text.to_owned()],
    };
    let style = if screen.colours { style_of(finding.gravity) } else { Style::new() };
    let gravity = finding.gravity.as_str();
    let head = format!(
        "{style}{gravity}{style:#}{:GRAVITY$}{:AREA$}",
        "",
        finding.area.as_str(),
        GRAVITY = GRAVITY - gravity.len()
    );
    let next = finding.next_step.iter().flat_map(|step| wrapped(&format!("next: {}", with_options(step))));
    let mut text = wrapped(&finding.message).into_iter().chain(next);
    let first = if beside { head + &text.next().unwrap_or_default() } else { head.trim_end().to_owned() };
    [first].into_iter().chain(text.map(|line| format!("{:margin$}{line}", ""))).collect()
}

const fn style_of(gravity: Gravity) -> Style {
    let colour = match gravity {
        Gravity::Fault => AnsiColor::Red,
        Gravity::Warning => AnsiColor::Yellow,
        Gravity::Good => AnsiColor::Green,
    };
    Style::new().fg_color(Some(Color::Ansi(colour)))
}

#[cfg(test)]
mod tests {
    use llama_warden_terminal::screen::ScreenSize;

    use super::*;
    use crate::finding::Area;

    #[test]
    fn a_finding_stands_beside_its_area_or_on_a_narrow_terminal_below_it() {
        let finding = Area::Ports.fault("port 8001 of `a` is taken", "choose another");
        let screen = |columns| Screen { size: Some(ScreenSize { columns, rows: 9 }), colours: false };
        let wide = lines(&finding, Screen { size: None, colours: false });
        assert_eq!(
            wide,
            ["fault    ports            port 8001 of `a` is taken", "                          next: choose another"]
        );
        let narrow = lines(&finding, screen(20));
        assert_eq!(narrow, ["fault    ports", "  port 8001 of `a`", "  is taken", "  next: choose", "  another"]);
        for columns in 1..90 {
            let lines = lines(&finding, screen(columns));
            assert!(columns < 16 || lines.iter().all(|line| line.len() <= columns), "{columns}: {lines:?}");
        }
    }
}
