//! Parses option values of single commands that clap cannot parse by itself.

use std::time::Duration;

use llama_warden_connect::values::duration;
use llama_warden_events::EventPosition;

/// Where the events begin that are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventsSince {
    /// After this event.
    After(EventPosition),
    /// This long ago.
    Ago(Duration),
}

/// Parses the number or id of an event, or a duration.
pub(super) fn since(text: &str) -> Result<EventsSince, String> {
    match text.parse() {
        Ok(position) => Ok(EventsSince::After(position)),
        Err(_) => duration(text)
            .map(EventsSince::Ago)
            .map_err(|_| format!("`{text}` is neither the number of an event nor a duration such as 5m")),
    }
}

/// Parses how far back a run of the daemon is: 0 for the latest, -1 for the one before.
pub(super) fn earlier_run(text: &str) -> Result<i64, String> {
    let run = text.parse().ok().filter(|run| *run <= 0);
    run.ok_or_else(|| "0 is the latest run, -1 the one before".to_owned())
}

#[cfg(test)]
mod tests {
    use llama_warden_events::Seq;

    use super::*;

    #[test]
    fn an_earlier_run_is_counted_back_from_the_latest() {
        assert_eq!((earlier_run("0"), earlier_run("-12")), (Ok(0), Ok(-12)));
        for wrong in ["5", "x", "", "-"] {
            assert_eq!(earlier_run(wrong).unwrap_err(), "0 is the latest run, -1 the one before", "{wrong}");
        }
    }

    #[test]
    fn events_are_shown_since_a_number_or_a_time() {
        assert_eq!(since("17"), Ok(EventsSince::After(Seq::new(17).into())));
        assert!(matches!(since("0000000000000abc:17"), Ok(EventsSince::After(EventPosition { boot: Some(_), .. }))));
        assert_eq!(since("5m"), Ok(EventsSince::Ago(Duration::from_secs(300))));
        assert!(since("yesterday").is_err_and(|error| error.contains("5m")));
    }
}
