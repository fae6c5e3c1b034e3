//! Formats figures as a table and as JSON.

use serde_json::json;

use crate::figure::Figure;

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
    let format_value = |value| figure.target.unit.format_value(value);
    [
        figure.target.name.to_owned(),
        format_value(figure.samples.median()),
        format_value(figure.worst()),
        format_value(figure.baseline.median()),
        figure.target.baseline.to_owned(),
        ratio(figure.ratio()),
        figure.budget_text(),
        if figure.is_within_budget() { "ok" } else { "OVER" }.to_owned(),
    ]
}

/// A ratio to a baseline of zero is not a number and is shown as a dash.
fn ratio(ratio: f64) -> String {
    if ratio.is_finite() { format!("{ratio:.2}") } else { "–".to_owned() }
}

/// The figures as one JSON document.
pub fn json(figures: &[Figure]) -> String {
    let ok = figures.iter().all(Figure::is_within_budget);
    json!({ "ok": ok, "figures": figures.iter().map(Figure::to_json).collect::<Vec<_>>() }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::{Budget, FigureTarget, Unit};

    fn figure(bound: f64) -> Figure {
        let budget = Budget::never_over(bound);
        let target = FigureTarget { name: "idle memory", unit: Unit::Mebibytes, baseline: "no servers", budget };
        target.figure([8.0, 8.25], [8.0])
    }

    #[test]
    fn the_table_lines_up() {
        let expected = "\
figure       median    p99       baseline              ratio  budget
idle memory  8.00 MiB  8.25 MiB  8.00 MiB  no servers  1.00   ≤ 10.0 MiB  ok
";
        assert_eq!(table(&[figure(10.0)]), expected);
    }

    #[test]
    fn one_figure_over_its_budget_spoils_the_whole() {
        let parse = |figures: &[Figure]| serde_json::from_str::<serde_json::Value>(&json(figures)).unwrap();
        assert_eq!(parse(&[figure(10.0)])["ok"], true);
        let spoilt = parse(&[figure(10.0), figure(1.0)]);
        assert_eq!(spoilt["ok"], false);
        assert_eq!((&spoilt["figures"][0]["ok"], &spoilt["figures"][1]["ok"]), (&true.into(), &false.into()));
        assert_eq!(spoilt["figures"][0]["baseline"]["what"], "no servers");
    }
}
