//! What systemd says in the environment.

use std::ffi::OsString;
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
    /// The period of the watchdog is no number of microseconds above zero.
    #[error("WATCHDOG_USEC={value} is no number of microseconds")]
    Watchdog {
        /// The value of the variable.
        value: String,
    },
}

impl SystemdEnvironment {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`; `None` if systemd asks for nothing. A watchdog of another
    /// process, as that of a parent which passed its environment on, is not ours.
    ///
    /// # Errors
    /// A variable is set to what systemd never sets it to.
    pub fn read(variable: impl Fn(&str) -> Option<OsString>) -> Result<Option<Self>, SystemdError> {
        let Some(address) = variable("NOTIFY_SOCKET").filter(|address| !address.is_empty()) else { return Ok(None) };
        let socket = NotifySocket::new(address.as_bytes())
            .map_err(|source| SystemdError::Socket { address: address.to_string_lossy().into_owned(), source })?;
        let own_pid = std::process::id().to_string();
        let is_ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == own_pid.as_str());
        let watchdog = variable("WATCHDOG_USEC").filter(|_| is_ours).map(|value| period(&value)).transpose()?;
        Ok(Some(Self { socket, watchdog }))
    }
}

fn period(value: &OsString) -> Result<Duration, SystemdError> {
    let microseconds = value.to_str().and_then(|text| text.parse().ok()).filter(|microseconds| *microseconds > 0);
    microseconds
        .map(Duration::from_micros)
        .ok_or_else(|| SystemdError::Watchdog { value: value.to_string_lossy().into_owned() })
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
    fn a_value_that_systemd_never_sets_is_named() {
        let error = read(&[("NOTIFY_SOCKET", "/run/x"), ("WATCHDOG_USEC", "0")]).expect_err("refused");
        assert_eq!(error.to_string(), "WATCHDOG_USEC=0 is no number of microseconds");
        let error = read(&[("NOTIFY_SOCKET", "tcp:1")]).expect_err("refused");
        assert_eq!(error.to_string(), "cannot send to NOTIFY_SOCKET=tcp:1");
    }
}
