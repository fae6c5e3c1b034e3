//! Parses option values that clap cannot parse by itself.

use std::time::Duration;

use llama_warden_events::StreamName;

/// Parses a duration such as `500ms`, `10s` or `1m 30s`.
///
/// # Errors
/// The text is no duration, or a negative one.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed: Result<jiff::SignedDuration, _> = text.parse();
    parsed
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| format!("`{text}` is not a duration such as 500ms, 10s or 2m"))
}

/// Parses the name of an output stream.
///
/// # Errors
/// There is no such stream.
pub fn stream(text: &str) -> Result<StreamName, String> {
    let found = StreamName::ALL.into_iter().find(|stream| stream.as_str() == text);
    found.ok_or_else(|| format!("`{text}` is neither stderr nor stdout"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_documented() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "10", "-1s", "soon"] {
            assert!(duration(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
