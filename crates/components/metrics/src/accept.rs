//! Which format a scraper gets, by its `Accept` header.
//!
//! Prometheus asks for OpenMetrics before text, version 2 with explicit weights for the older ones, version 3 with one
//! for each. Whoever does not ask for OpenMetrics 1.0.0 gets the text format, which everything reads.

/// A format of exposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// The Prometheus text format, version 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The `Content-Type` of an answer. Prometheus 3 rejects any other spelling of the media type.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// OpenMetrics if the client's quality value for it is at least that of text, else text.
    pub(crate) fn negotiate(accept: Option<&str>) -> Self {
        let ranges: Vec<MediaRange<'_>> = accept.unwrap_or_default().split(',').filter_map(MediaRange::parse).collect();
        let heaviest = |format: Self| {
            ranges.iter().filter(|range| range.format() == Some(format)).map(|range| range.weight).max().unwrap_or(0)
        };
        let (open_metrics, text) = (heaviest(Self::OpenMetrics), heaviest(Self::Text));
        if open_metrics > 0 && open_metrics >= text { Self::OpenMetrics } else { Self::Text }
    }
}

/// One entry of an `Accept` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct MediaRange<'a> {
    media: &'a str,
    version: Option<&'a str>,
    /// Thousandths, from 0 (not acceptable) to 1000.
    weight: u16,
}

impl<'a> MediaRange<'a> {
    /// Reads one entry; none where it is empty or its weight is not a number from 0 to 1.
    fn parse(entry: &'a str) -> Option<Self> {
        let mut parts = entry.split(';').map(str::trim);
        let media = parts.next().filter(|media| !media.is_empty())?;
        let mut range = Self { media, version: None, weight: 1000 };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            if name.trim().eq_ignore_ascii_case("q") {
                let weight: f64 = value.parse().ok().filter(|weight| (0.0..=1.0).contains(weight))?;
                range.weight = (weight * 1000.0).round() as u16;
            } else if name.trim().eq_ignore_ascii_case("version") {
                range.version = Some(value);
            }
        }
        Some(range)
    }

    /// The format that the entry names, if it is one of ours.
    fn format(&self) -> Option<Format> {
        let is = |media: &str, version: &str| {
            self.media.eq_ignore_ascii_case(media) && self.version.is_none_or(|wanted| wanted == version)
        };
        if is("application/openmetrics-text", "1.0.0") {
            Some(Format::OpenMetrics)
        } else if is("text/plain", "0.0.4") {
            Some(Format::Text)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scraper_gets_the_format_that_it_prefers() {
        let prometheus_2_42 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,/;q=0.1";
        let table = [
            (None, Format::Text),
            (Some(""), Format::Text),
            (Some("*/*"), Format::Text),
            (Some(prometheus_2_42), Format::OpenMetrics),
            (Some(prometheus_3), Format::OpenMetrics),
            (Some("text/html,application/xhtml+xml,*/*;q=0.8"), Format::Text),
            (Some("application/openmetrics-text"), Format::OpenMetrics),
            (Some("Application/OpenMetrics-Text; Version=\"1.0.0\""), Format::OpenMetrics),
            (Some("application/openmetrics-text;version=0.0.1"), Format::Text),
            (Some("application/openmetrics-text;version=2.0.0"), Format::Text),
            (Some("application/openmetrics-text;q=0"), Format::Text),
            (Some("application/openmetrics-text;q=much"), Format::Text),
            (Some("application/openmetrics-text;q=0.2,text/plain;q=0.3"), Format::Text),
            (Some("text/plain,application/openmetrics-text;q=0.9"), Format::Text),
            (Some(",,;q=1,=,"), Format::Text),
        ];
        for (accept, format) in table {
            assert_eq!(Format::negotiate(accept), format, "{accept:?}");
        }
    }
}
