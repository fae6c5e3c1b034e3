//! Writes the page into one buffer, in either format.
//!
//! The formats differ in little: in OpenMetrics a counter's family has no `_total` while its samples do, `HELP` escapes quotes, bounds
//! are written as floats, and the text ends with `# EOF`.
//!
//! Invariants: a family has one head, before its first series; a family without a series is not written.

use llama_warden_events::LaunchTraceId;
use llama_warden_state::Histogram;
use prometheus::proto::{Metric, MetricFamily, MetricType};

use crate::accept::Format;
use crate::{Family, FamilyKind};

/// Up to here every integer is an `f64`, and its digits are the shortest spelling.
const LARGEST_INTEGER: f64 = 1e15;

/// The page in the making.
#[derive(Debug)]
pub(crate) struct Page {
    text: String,
    format: Format,
}

/// What all series of a family have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FamilyHead<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: FamilyKind,
    pub(crate) help: &'a str,
}

/// An observation of a histogram, with the trace that shows how it came about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exemplar {
    pub(crate) value: f64,
    pub(crate) trace: LaunchTraceId,
}

/// Writes the series of one family.
#[derive(Debug)]
pub(crate) struct SeriesWriter<'a> {
    page: &'a mut Page,
    head: FamilyHead<'a>,
    /// The name without `_total`, for a counter in OpenMetrics.
    base: &'a str,
    /// What the name of a sample ends in, behind `base`, apart from a histogram's.
    suffix: &'static str,
    labels: &'static [&'static str],
    has_head: bool,
}

impl Page {
    /// An empty page with room for `capacity` bytes.
    pub(crate) fn new(format: Format, capacity: usize) -> Self {
        Self { text: String::with_capacity(capacity), format }
    }

    /// Begins a family of the catalogue, whose series are told by the values of its labels.
    pub(crate) fn family(&mut self, family: &Family) -> SeriesWriter<'_> {
        let head = FamilyHead { name: family.name, kind: family.kind, help: family.help };
        SeriesWriter { labels: family.labels, ..self.begin(head) }
    }

    /// Begins a family whose series bring names and values of labels.
    pub(crate) fn begin<'a>(&'a mut self, head: FamilyHead<'a>) -> SeriesWriter<'a> {
        let (base, suffix) = match (self.format, head.kind) {
            (Format::OpenMetrics, FamilyKind::Counter) => {
                (head.name.strip_suffix("_total").unwrap_or(head.name), "_total")
            }
            _ => (head.name, ""),
        };
        SeriesWriter { page: self, head, base, suffix, labels: &[], has_head: false }
    }

    /// Adds what a registry of the `prometheus` crate has gathered: counters and gauges. Nothing registers another type.
    pub(crate) fn add_gathered(&mut self, families: &[MetricFamily]) {
        for family in families {
            let (kind, value): (_, fn(&Metric) -> f64) = match family.get_field_type() {
                MetricType::COUNTER => (FamilyKind::Counter, |series| series.get_counter().get_value()),
                MetricType::GAUGE => (FamilyKind::Gauge, |series| series.get_gauge().get_value()),
                MetricType::HISTOGRAM | MetricType::SUMMARY | MetricType::UNTYPED => continue,
            };
            let mut writer = self.begin(FamilyHead { name: family.name(), kind, help: family.help() });
            for series in family.get_metric() {
                let labels = series.get_label().iter().map(|label| (label.name(), label.value()));
                writer.add(labels, value(series));
            }
        }
    }

    /// The text, complete.
    pub(crate) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

impl SeriesWriter<'_> {
    /// Adds a series of a counter or a gauge, by the values of the family's labels.
    pub(crate) fn value(&mut self, labels: &[&str], value: f64) {
        debug_assert_eq!(self.labels.len(), labels.len(), "{}", self.head.name);
        self.add(self.labels.iter().copied().zip(labels.iter().copied()), value);
    }

    /// Adds a series of a counter or a gauge, by its labels.
    pub(crate) fn add<'l>(&mut self, labels: impl Iterator<Item = (&'l str, &'l str)>, value: f64) {
        self.sample(self.suffix, labels, None, value);
    }

    /// Adds a series of a histogram; none where nothing has been observed. The bucket of the exemplar gets it, where the format has
    /// exemplars.
    pub(crate) fn histogram(&mut self, labels: &[&str], histogram: &Histogram, exemplar: Option<Exemplar>) {
        let count = histogram.count();
        if count == 0 {
            return;
        }
        let pairs = || self.labels.iter().copied().zip(labels.iter().copied());
        let labels: Vec<_> = pairs().collect();
        let mut exemplar = exemplar.filter(|_| self.page.format == Format::OpenMetrics);
        for (bound, cumulative) in histogram.cumulative().chain([(f64::INFINITY, count)]) {
            self.sample("_bucket", labels.iter().copied(), Some(bound), cumulative as f64);
            if let Some(exemplar) = exemplar.take_if(|exemplar| exemplar.value <= bound) {
                self.add_exemplar(exemplar);
            }
        }
        self.sample("_sum", labels.iter().copied(), None, histogram.sum());
        self.sample("_count", labels.iter().copied(), None, count as f64);
    }

    /// Adds an exemplar to the sample that was written last.
    fn add_exemplar(&mut self, exemplar: Exemplar) {
        let text = &mut self.page.text;
        text.pop();
        text.push_str(" # {trace_id=\"");
        text.push_str(&exemplar.trace.to_string());
        text.push_str("\"} ");
        push_number(text, exemplar.value);
        text.push('\n');
    }

    fn write_head(&mut self) {
        let text = &mut self.page.text;
        text.push_str("# HELP ");
        text.push_str(self.base);
        text.push(' ');
        // The text format leaves quotes in a help text as they are.
        push_escaped(text, self.head.help, self.page.format == Format::OpenMetrics);
        text.push_str("\n# TYPE ");
        text.push_str(self.base);
        text.push(' ');
        text.push_str(self.head.kind.as_str());
        text.push('\n');
        self.has_head = true;
    }

    fn sample<'l>(
        &mut self,
        suffix: &str,
        labels: impl Iterator<Item = (&'l str, &'l str)>,
        bound: Option<f64>,
        value: f64,
    ) {
        if !self.has_head {
            self.write_head();
        }
        let (text, format) = (&mut self.page.text, self.page.format);
        text.push_str(self.base);
        text.push_str(suffix);
        let mut separator = '{';
        for (name, value) in labels {
            text.push(separator);
            text.push_str(name);
            text.push_str("=\"");
            push_escaped(text, value, true);
            text.push('"');
            separator = ',';
        }
        if let Some(bound) = bound {
            text.push(separator);
            text.push_str("le=\"");
            push_number(text, bound);
            // A bound is a label: `1.0`, not `1`, so that all exporters of OpenMetrics write the same one.
            if format == Format::OpenMetrics && is_short_integer(bound) {
                text.push_str(".0");
            }
            text.push('"');
            separator = ',';
        }
        if separator == ',' {
            text.push('}');
        }
        text.push(' ');
        push_number(text, value);
        text.push('\n');
    }
}

/// Adds a text with backslashes, line ends and, where asked for, quotes escaped.
fn push_escaped(text: &mut String, added: &str, escapes_quotes: bool) {
    let mut rest = added;
    while let Some(at) = rest.find(['\\', '\n', '"']) {
        text.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'\\' => text.push_str("\\\\"),
            b'\n' => text.push_str("\\n"),
            _ if escapes_quotes => text.push_str("\\\""),
            _ => text.push('"'),
        }
        rest = &rest[at + 1..];
    }
    text.push_str(rest);
}

fn is_short_integer(value: f64) -> bool {
    value.fract() == 0.0 && value.abs() < LARGEST_INTEGER
}

fn push_number(text: &mut String, value: f64) {
    if is_short_integer(value) {
        text.push_str(itoa::Buffer::new().format(value as i64));
    } else if value.is_finite() {
        text.push_str(zmij::Buffer::new().format_finite(value));
    } else if value.is_nan() {
        text.push_str("NaN");
    } else {
        text.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: Format, write: impl FnOnce(&mut Page)) -> String {
        let mut page = Page::new(format, 0);
        write(&mut page);
        page.finish()
    }

    #[test]
    fn a_counter_loses_total_in_its_family_alone_and_in_openmetrics_alone() {
        let family = Family { name: "x_total", kind: FamilyKind::Counter, help: "A \"b\".", labels: &["l"] };
        let write = |page: &mut Page| page.family(&family).value(&["back\\slash \"quote\"\nline"], 3.0);
        assert_eq!(
            written(Format::OpenMetrics, write),
            "# HELP x A \\\"b\\\".\n# TYPE x counter\nx_total{l=\"back\\\\slash \\\"quote\\\"\\nline\"} 3\n# EOF\n"
        );
        assert_eq!(
            written(Format::Text, write),
            "# HELP x_total A \"b\".\n# TYPE x_total counter\nx_total{l=\"back\\\\slash \\\"quote\\\"\\nline\"} 3\n"
        );
    }

    #[test]
    fn a_histogram_ends_with_the_infinite_bound() {
        let family = Family { name: "h", kind: FamilyKind::Histogram, help: "H.", labels: &[] };
        let mut histogram = Histogram::new(&[0.5, 1.0]);
        histogram.observe(0.75);
        histogram.observe(7.0);
        let write = |page: &mut Page| page.family(&family).histogram(&[], &histogram, None);
        assert_eq!(
            written(Format::OpenMetrics, write),
            "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"0.5\"} 0\nh_bucket{le=\"1.0\"} 1\nh_bucket{le=\"+Inf\"} 2\n\
             h_sum 7.75\nh_count 2\n# EOF\n"
        );
        assert!(written(Format::Text, write).contains("h_bucket{le=\"1\"} 1\n"));
    }

    #[test]
    fn a_family_without_a_series_is_not_written() {
        let family = Family { name: "h", kind: FamilyKind::Histogram, help: "H.", labels: &[] };
        assert_eq!(
            written(Format::Text, |page| page.family(&family).histogram(&[], &Histogram::new(&[1.0]), None)),
            ""
        );
    }

    #[test]
    fn a_number_is_read_back_as_it_was() {
        let numbers = [0.0, 1.0, -3.0, 0.25, 1e15, 1e21, 1.5e-9, 123_456_789.125, 999_999_999_999_999.0, f64::MAX];
        for number in numbers {
            let mut text = String::new();
            push_number(&mut text, number);
            assert_eq!(text.parse(), Ok(number), "{text}");
        }
        let name = |number| {
            let mut text = String::new();
            push_number(&mut text, number);
            text
        };
        assert_eq!([f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(name), ["NaN", "+Inf", "-Inf"]);
        assert_eq!([3.0, 0.25].map(name), ["3", "0.25"]);
    }
}
