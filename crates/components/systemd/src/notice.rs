//! What systemd is told, and the fields that say it.

use std::time::Duration;

/// One message to systemd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The daemon runs, or a reload is over.
    Ready,
    /// A reload begins.
    Reloading,
    /// The daemon stops, for at most this long.
    Stopping {
        /// Longest time until it has ended.
        within: Duration,
    },
    /// What it does, for people.
    Status(String),
    /// It is alive.
    Alive,
    /// systemd keeps the descriptors that come with this message, and passes them to the next start.
    Store {
        /// The name under which they come back in `LISTEN_FDNAMES`.
        name: &'static str,
    },
}

impl Notice {
    /// The fields of the message, one a line. `monotonic` is the time of `CLOCK_MONOTONIC`, by which systemd tells a reload that
    /// it asked for from an earlier one.
    pub(crate) fn fields(&self, monotonic: Duration) -> String {
        match self {
            Self::Ready => "READY=1".to_owned(),
            Self::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic.as_micros()),
            Self::Stopping { within } => format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", within.as_micros()),
            // A line feed would begin another field.
            Self::Status(text) => format!("STATUS={}", text.replace(['\n', '\r'], " ")),
            Self::Alive => "WATCHDOG=1".to_owned(),
            Self::Store { name } => format!("FDSTORE=1\nFDNAME={name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_and_its_time_are_one_message() {
        let fields = Notice::Reloading.fields(Duration::from_micros(1_234_567));
        assert_eq!(fields, "RELOADING=1\nMONOTONIC_USEC=1234567");
    }

    #[test]
    fn a_status_is_one_field_whatever_it_contains() {
        let fields = Notice::Status("a failed\nREADY=1\r".to_owned()).fields(Duration::ZERO);
        assert_eq!(fields, "STATUS=a failed READY=1 ");
    }
}
