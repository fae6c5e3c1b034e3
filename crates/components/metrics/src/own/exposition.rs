//! Reads the text that a llama-server answers at `/metrics`.
//!
//! The text is not trusted: what is not well formed is dropped and counted, and the type that it declares is not read at all. A family
//! is `llamacpp_` and the name without its prefix, a counter if it ends in `_total` and a gauge otherwise. So builds cannot disagree on
//! a type, and `n_tokens_max`, which llama-server declares a counter, is the gauge that it is.

use std::collections::{BTreeMap, BTreeSet};

/// What the families are called here: Prometheus keeps `:` for recording rules.
pub(super) const PREFIX: &str = "llamacpp_";

/// Most samples of one server; today's builds have 15.
const MOST_SAMPLES: usize = 512;

/// The label under which the page says whose sample it is. A server's own label of this name is renamed, as Prometheus does it.
const SERVER: &str = "server";

/// The metrics of one server.
#[derive(Debug, Default, PartialEq)]
pub(super) struct OwnMetrics {
    pub(super) samples: Vec<OwnSample>,
    /// The meanings of its families.
    pub(super) help: BTreeMap<String, String>,
    /// Samples that are left out.
    pub(super) dropped: u64,
}

/// One sample.
#[derive(Debug, PartialEq)]
pub(super) struct OwnSample {
    /// Its name, which is its family's.
    pub(super) family: String,
    /// Its labels, decoded.
    pub(super) labels: Vec<(String, String)>,
    /// A finite number.
    pub(super) value: f64,
}

impl OwnMetrics {
    /// Whether requests are being processed.
    pub(super) fn is_busy(&self) -> bool {
        let is_it = |sample: &&OwnSample| sample.family == "llamacpp_requests_processing";
        self.samples.iter().find(is_it).is_some_and(|sample| sample.value > 0.0)
    }
}

/// Reads a text; `None` if nothing in it is a sample, not even one that is dropped for its value.
pub(super) fn parse(text: &str) -> Option<OwnMetrics> {
    let mut metrics = OwnMetrics::default();
    let mut seen = BTreeSet::new();
    let mut is_metrics = false;
    for line in text.lines().map(str::trim) {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap_or((help, ""));
            if let Some(family) = family_name(name) {
                metrics.help.entry(family).or_insert_with(|| help.to_owned());
            }
            continue;
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let sample = read_sample(line);
        is_metrics |= sample.is_some();
        // One that stands twice would make Prometheus refuse the page.
        let sample = sample.filter(|sample| sample.value.is_finite() && metrics.samples.len() < MOST_SAMPLES);
        match sample.filter(|sample| seen.insert((sample.family.clone(), sample.labels.clone()))) {
            Some(sample) => metrics.samples.push(sample),
            None => metrics.dropped += 1,
        }
    }
    is_metrics.then_some(metrics)
}

/// `llamacpp:n_past` → `llamacpp_n_past`; `None` for a name that is not llama-server's.
fn family_name(name: &str) -> Option<String> {
    let own = name.strip_prefix("llamacpp").and_then(|rest| rest.strip_prefix([':', '_']))?;
    let is_valid = !own.is_empty() && own.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":_".contains(&byte));
    is_valid.then(|| format!("{PREFIX}{}", own.replace(':', "_")))
}

/// Reads `name{label="value",…} value [timestamp]`.
fn read_sample(line: &str) -> Option<OwnSample> {
    let name_ends = line.find(['{', ' ', '\t'])?;
    let (name, rest) = line.split_at(name_ends);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => read_labels(rest)?,
        None => (Vec::new(), rest),
    };
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some(OwnSample { family: family_name(name)?, labels, value })
}

/// Reads labels up to the closing brace; returns them sorted, and what follows.
fn read_labels(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels: Vec<(String, String)> = Vec::new();
    loop {
        rest = rest.trim_start().trim_start_matches(',').trim_start();
        if let Some(rest) = rest.strip_prefix('}') {
            labels.sort();
            // A label that stands twice is invalid.
            let is_valid = labels.windows(2).all(|pair| pair[0].0 != pair[1].0);
            return is_valid.then_some((labels, rest));
        }
        let (name, behind) = rest.split_once('=')?;
        let name = name.trim();
        let mut bytes = name.bytes();
        let is_name = bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            // Prometheus keeps such names for itself: `__name__` is the family.
            && !name.starts_with("__");
        let (value, behind) = read_quoted(behind.trim_start().strip_prefix('"')?)?;
        let name = if name == SERVER { format!("exported_{SERVER}") } else { name.to_owned() };
        if !is_name {
            return None;
        }
        labels.push((name, value));
        rest = behind;
    }
}

/// Reads an escaped value up to its closing quote; returns it decoded, and what follows.
fn read_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(family: &str, labels: &[(&str, &str)], value: f64) -> OwnSample {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        OwnSample { family: family.to_owned(), labels, value }
    }

    #[test]
    fn samples_are_read_under_names_that_promtool_takes() {
        let text = "# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed.\n\
                    # TYPE llamacpp:prompt_tokens_total counter\nllamacpp:prompt_tokens_total 6\n\
                    llamacpp:a:b{x=\"1\" , y=\"2\",} 0.5 1700000000\r\n";
        let metrics = parse(text).expect("metrics");
        let expected =
            [sample("llamacpp_prompt_tokens_total", &[], 6.0), sample("llamacpp_a_b", &[("x", "1"), ("y", "2")], 0.5)];
        assert_eq!(metrics.samples, expected);
        assert_eq!(metrics.help["llamacpp_prompt_tokens_total"], "Number of prompt tokens processed.");
        assert_eq!(metrics.dropped, 0);
    }

    #[test]
    fn values_that_are_no_numbers_are_dropped_and_counted() {
        let text =
            "llamacpp:a inf\nllamacpp:b nan\nllamacpp:c -Inf\nllamacpp:d NaN\nllamacpp:e x\nllamacpp:f\nllamacpp:g 1\n";
        let metrics = parse(text).expect("metrics");
        assert_eq!((metrics.samples, metrics.dropped), (vec![sample("llamacpp_g", &[], 1.0)], 6));
        let none_is_left = parse("llamacpp:a inf\n").expect("metrics all the same");
        assert_eq!((none_is_left.samples.len(), none_is_left.dropped), (0, 1));
    }

    #[test]
    fn labels_cannot_break_out_of_their_sample() {
        let text = "llamacpp:a{server=\"other\",x=\"\\\"} 1\\nup 0\\\\\"} 1\n";
        let expected = sample("llamacpp_a", &[("exported_server", "other"), ("x", "\"} 1\nup 0\\")], 1.0);
        assert_eq!(parse(text).expect("metrics").samples, [expected]);
    }

    #[test]
    fn what_is_not_well_formed_or_stands_twice_is_dropped() {
        for line in [
            "llamacpp:a{__name__=\"up\"} 1",
            "llamacpp:a{x=\"1\",x=\"2\"} 1",
            "llamacpp:a{server=\"1\",exported_server=\"2\"} 1",
            "llamacpp:a{x=\"1} 1",
            "llamacpp:a{x=1} 1",
            "llamacpp:a{1x=\"1\"} 1",
            "llamacpp:a{x=\"\\",
            "llamacpp:a{",
            "llamacpp: 1",
            "llamacpp:ä 1",
            "up 0",
            "llama_warden_server_ready 0",
            "llamacpp:first 2",
        ] {
            let metrics = parse(&format!("llamacpp:first 1\n{line}\n")).expect("metrics");
            assert_eq!((metrics.samples.len(), metrics.dropped), (1, 1), "{line}");
        }
    }

    #[test]
    fn a_text_without_a_sample_is_no_metrics() {
        for text in ["", "<html>\n<body>Not found</body>\n</html>", "{\"error\": 1}", "# HELP llamacpp:a b\n"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_server_has_a_bounded_number_of_samples() {
        let text: String = (0..MOST_SAMPLES + 10).map(|number| format!("llamacpp:a{number} 1\n")).collect();
        let metrics = parse(&text).expect("metrics");
        assert_eq!((metrics.samples.len(), metrics.dropped), (MOST_SAMPLES, 10));
    }
}
