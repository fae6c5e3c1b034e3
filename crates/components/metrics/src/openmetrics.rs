//! OpenMetrics 1.0.0 text, from the families that the `prometheus` crate gathers.
//!
//! The differences to the text format: a counter's family has no `_total` while its samples do, `HELP` escapes quotes,
//! bounds are written as floats, and the text ends with `# EOF`.

use std::fmt::{self, Write};

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

/// Writes every family that is a counter, gauge or histogram; there are no others here.
pub(crate) fn encode(families: &[MetricFamily]) -> Result<String, fmt::Error> {
    let mut text = String::new();
    for family in families {
        let (name, kind) = match family.get_field_type() {
            MetricType::COUNTER => (family.name().strip_suffix("_total").unwrap_or(family.name()), "counter"),
            MetricType::GAUGE => (family.name(), "gauge"),
            MetricType::HISTOGRAM => (family.name(), "histogram"),
            MetricType::SUMMARY | MetricType::UNTYPED => continue,
        };
        writeln!(text, "# HELP {name} {}", Escaped(family.help()))?;
        writeln!(text, "# TYPE {name} {kind}")?;
        for series in family.get_metric() {
            let labels = series.get_label();
            match kind {
                "histogram" => write_histogram(&mut text, name, series)?,
                "counter" => write_sample(
                    &mut text,
                    format_args!("{name}_total"),
                    labels,
                    None,
                    series.get_counter().get_value(),
                )?,
                _ => write_sample(&mut text, format_args!("{name}"), labels, None, series.get_gauge().get_value())?,
            }
        }
    }
    text.push_str("# EOF\n");
    Ok(text)
}

fn write_histogram(text: &mut String, name: &str, series: &Metric) -> fmt::Result {
    let (labels, histogram) = (series.get_label(), series.get_histogram());
    let count = histogram.get_sample_count();
    let bounds = histogram.get_bucket().iter().map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
    for (bound, cumulative) in bounds.chain([(f64::INFINITY, count)]) {
        write_sample(text, format_args!("{name}_bucket"), labels, Some(bound), cumulative as f64)?;
    }
    write_sample(text, format_args!("{name}_sum"), labels, None, histogram.get_sample_sum())?;
    write_sample(text, format_args!("{name}_count"), labels, None, count as f64)
}

fn write_sample(
    text: &mut String,
    name: fmt::Arguments<'_>,
    labels: &[LabelPair],
    bound: Option<f64>,
    value: f64,
) -> fmt::Result {
    text.write_fmt(name)?;
    let mut separator = '{';
    for label in labels {
        write!(text, "{separator}{}=\"{}\"", label.name(), Escaped(label.value()))?;
        separator = ',';
    }
    if let Some(bound) = bound {
        write!(text, "{separator}le=\"{}\"", Number::Bound(bound))?;
        separator = ',';
    }
    if separator == ',' {
        text.push('}');
    }
    writeln!(text, " {}", Number::Value(value))
}

/// A text with backslashes, quotes and line ends escaped.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// A value or a bound as OpenMetrics spells it.
enum Number {
    Value(f64),
    /// A bound is a label: `1.0`, not `1`, so that all exporters write the same label.
    Bound(f64),
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Value(number) | Self::Bound(number) if number.is_nan() => f.write_str("NaN"),
            Self::Value(f64::INFINITY) | Self::Bound(f64::INFINITY) => f.write_str("+Inf"),
            Self::Value(f64::NEG_INFINITY) | Self::Bound(f64::NEG_INFINITY) => f.write_str("-Inf"),
            Self::Value(number) => write!(f, "{number}"),
            Self::Bound(number) => write!(f, "{number:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use llama_warden_state::Histogram;

    use super::*;
    use crate::page::Page;
    use crate::{Family, FamilyKind};

    #[test]
    fn a_counter_loses_total_in_its_family_alone() {
        let family = Family { name: "x_total", kind: FamilyKind::Counter, help: "A \"b\".", labels: &["l"] };
        let mut page = Page::default();
        page.value(&family, &["back\\slash \"quote\"\nline"], 3.0);
        let text = encode(&page.into_families()).expect("writes");
        assert_eq!(
            text,
            "# HELP x A \\\"b\\\".\n# TYPE x counter\nx_total{l=\"back\\\\slash \\\"quote\\\"\\nline\"} 3\n# EOF\n"
        );
    }

    #[test]
    fn a_histogram_ends_with_the_infinite_bound() {
        let family = Family { name: "h", kind: FamilyKind::Histogram, help: "H.", labels: &[] };
        let mut histogram = Histogram::new(&[0.5, 1.0]);
        histogram.observe(0.75);
        histogram.observe(7.0);
        let mut page = Page::default();
        page.histogram(&family, &[], &histogram);
        let text = encode(&page.into_families()).expect("writes");
        assert_eq!(
            text,
            "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"0.5\"} 0\nh_bucket{le=\"1.0\"} 1\nh_bucket{le=\"+Inf\"} 2\n\
             h_sum 7.75\nh_count 2\n# EOF\n"
        );
    }

    #[test]
    fn numbers_that_are_not_finite_have_the_names_of_openmetrics() {
        let texts = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.25].map(|number| Number::Value(number).to_string());
        assert_eq!(texts, ["NaN", "+Inf", "-Inf", "0.25"]);
    }
}
