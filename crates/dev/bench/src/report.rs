//! Formats figures as a table and as JSON.

use serde_json::json;

use crate::figure::{Figure, FigureStatus};

const HEADINGS: [&str; 8] = ["figure", "median", "p99", "baseline", "", "ratio", "budget", ""];

/// The figures as a table with one line each.
pub fn table(figures: &[Figure]) -> String {
    let rows: Vec<[String; 8]> = std::iter::once(HEADINGS.map(str::to_owned)).chain(figures.iter().map(row)).collect();
    let widths: [usize; 8] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default());
    let line = |row: &[String; 8]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(|row| line(row) + "\n").collect()
}

fn row(figure: &Figure) -> [String; 8] {
    let format_value = |value| figure.unit.format_value(value);
    [
        figure.name.to_owned(),
        format_value(figure.samples.median()),
        format_value(figure.worst()),
        format_value(figure.baseline.samples.median()),
        figure.baseline.what.to_owned(),
        ratio(figure.ratio()),
        figure.budget_text(),
        figure.status().to_string(),
    ]
}

/// A ratio to a baseline of zero is not a number and is shown as a dash.
fn ratio(ratio: f64) -> String {
    if ratio.is_finite() { format!("{ratio:.2}") } else { "–".to_owned() }
}

/// The figures as one JSON document.
pub fn json(figures: &[Figure]) -> String {
    let ok = figures.iter().all(|figure| figure.status() == FigureStatus::Ok);
    json!({ "ok": ok, "figures": figures.iter().map(Figure::to_json).collect::<Vec<_>>() }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::{Baseline, Budget, Samples, Unit};

    fn figure() -> Figure {
        Figure {
            name: "idle memory",
            unit: Unit::Mebibytes,
            samples: Samples::of([8.0, 8.25]),
            baseline: Baseline { what: "no servers", samples: Samples::of([8.0]) },
            budget: Budget::never_over(10.0),
        }
    }

    #[test]
    fn the_table_lines_up() {
        let expected = "\
figure       median    p99       baseline              ratio  budget
idle memory  8.00 MiB  8.25 MiB  8.00 MiB  no servers  1.00   ≤ 10.0 MiB  ok
";
        assert_eq!(table(&[figure()]), expected);
    }

    #[test]
    fn one_figure_over_its_budget_spoils_the_whole() {
        let over = Figure { budget: Budget::never_over(1.0), ..figure() };
        let parse = |figures: &[Figure]| serde_json::from_str::<serde_json::Value>(&json(figures)).unwrap();
        assert_eq!(parse(&[figure()])["ok"], true);
        let spoilt = parse(&[figure(), over]);
        assert_eq!(spoilt["ok"], false);
        assert_eq!((&spoilt["figures"][0]["ok"], &spoilt["figures"][1]["ok"]), (&true.into(), &false.into()));
        assert_eq!(spoilt["figures"][0]["baseline"]["what"], "no servers");
    }
}
