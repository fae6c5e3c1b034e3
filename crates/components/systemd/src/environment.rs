//! Reads the variables in which systemd says how it runs the daemon.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use crate::socket::NotifySocket;

/// The socket and the watchdog of the unit.
#[derive(Debug)]
pub struct SystemdEnvironment {
    pub(crate) socket: NotifySocket,
    /// Without a sign of life for this long, systemd restarts the daemon.
    pub(crate) watchdog: Option<Duration>,
}

/// Why systemd cannot be told anything.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// The address is none that can be sent to.
    #[error("cannot send to NOTIFY_SOCKET={address}")]
    Socket {
        /// The value of the variable.
        address: String,
        /// The error of the kernel.
        source: io::Error,
    },
}

impl SystemdEnvironment {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`; `None` if systemd asks for nothing. A watchdog of another
    /// process, as that of a parent which passed its environment on, is not ours. One whose period cannot be read costs the signs of
    /// life, and no other notice.
    ///
    /// # Errors
    /// `NOTIFY_SOCKET` is set to what systemd never sets it to.
    pub fn read(variable: impl Fn(&str) -> Option<OsString>) -> Result<Option<Self>, SystemdError> {
        let Some(address) = variable("NOTIFY_SOCKET").filter(|address| !address.is_empty()) else { return Ok(None) };
        let socket = NotifySocket::new(address.as_bytes())
            .map_err(|source| SystemdError::Socket { address: address.to_string_lossy().into_owned(), source })?;
        let own_pid = std::process::id().to_string();
        let is_ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == own_pid.as_str());
        let watchdog = variable("WATCHDOG_USEC").filter(|_| is_ours).and_then(|value| period(&value));
        Ok(Some(Self { socket, watchdog }))
    }
}

fn period(value: &OsStr) -> Option<Duration> {
    let microseconds = value.to_str().and_then(|text| text.parse().ok()).filter(|microseconds| *microseconds > 0);
    if microseconds.is_none() {
        tracing::warn!(
            "WATCHDOG_USEC={} is no number of microseconds: the watchdog gets no signs of life",
            value.display()
        );
    }
    microseconds.map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<SystemdEnvironment>, SystemdError> {
        SystemdEnvironment::read(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn without_a_socket_nothing_is_told() {
        assert!(read(&[("WATCHDOG_USEC", "1000")]).expect("no error").is_none());
        assert!(read(&[("NOTIFY_SOCKET", "")]).expect("no error").is_none());
    }

    #[test]
    fn the_watchdog_of_another_process_is_not_ours() {
        let own = std::process::id().to_string();
        for (pid, expected) in [("1", None), (own.as_str(), Some(Duration::from_secs(30)))] {
            let variables = [("NOTIFY_SOCKET", "/run/x"), ("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", pid)];
            assert_eq!(read(&variables).expect("read").expect("a socket").watchdog, expected, "{pid}");
        }
    }

    #[test]
    fn a_watchdog_without_a_period_costs_no_other_notice() {
        for period in ["", "0", "-1", "30s", "18446744073709551616"] {
            let variables = [("NOTIFY_SOCKET", "/run/x"), ("WATCHDOG_USEC", period)];
            assert_eq!(read(&variables).expect("read").expect("a socket").watchdog, None, "{period}");
        }
    }

    #[test]
    fn a_value_that_systemd_never_sets_is_named() {
        let error = read(&[("NOTIFY_SOCKET", "tcp:1")]).expect_err("refused");
        assert_eq!(error.to_string(), "cannot send to NOTIFY_SOCKET=tcp:1");
    }
}
