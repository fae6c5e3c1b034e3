//! Signals by their portable names, independent of the kernel's headers.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A Linux signal number from 1 to 64, shown and written as its name without `SIG`: `TERM`, `KILL`, `RTMIN+3`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(description = "A signal by its name without `SIG`.")]
#[schemars(extend("examples" = ["TERM", "INT", "QUIT", "KILL"]))]
pub struct Signal(#[schemars(with = "String")] u8);

/// A text or number that is not a [`Signal`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a signal: use a name such as TERM, INT, QUIT or KILL")]
pub struct InvalidSignal(pub String);

/// Names by number, from `signal(7)`; the same on x86-64 and aarch64. Index 0 is unused.
const NAMES: [&str; 32] = [
    "", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
    "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH",
    "IO", "PWR", "SYS",
];

/// The first real-time signal that glibc leaves to programs.
const RTMIN: u8 = 34;

impl Signal {
    /// Abort: what `abort(3)` raises.
    pub const ABRT: Self = Self(6);
    /// Continue a stopped process.
    pub const CONT: Self = Self(18);
    /// Hang-up. Kills every llama-server (no build handles it).
    pub const HUP: Self = Self(1);
    /// Illegal instruction: the CPU does not know it.
    pub const ILL: Self = Self(4);
    /// Interrupt, as Ctrl-C sends it.
    pub const INT: Self = Self(2);
    /// Kill; cannot be caught.
    pub const KILL: Self = Self(9);
    /// Quit, as Ctrl-\ sends it.
    pub const QUIT: Self = Self(3);
    /// Terminate: the polite request to end.
    pub const TERM: Self = Self(15);

    /// Wraps a number from 1 to 64.
    pub fn from_number(number: i32) -> Result<Self, InvalidSignal> {
        match u8::try_from(number) {
            Ok(n @ 1..=64) => Ok(Self(n)),
            _ => Err(InvalidSignal(number.to_string())),
        }
    }

    /// The kernel's number.
    pub const fn number(self) -> i32 {
        self.0 as i32
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0)) {
            Some(name) => f.pad(name),
            None if self.0 >= RTMIN => f.pad(&format!("RTMIN+{}", self.0 - RTMIN)),
            None => f.pad(&self.0.to_string()),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Signal {
    type Err = InvalidSignal;

    /// Reads `TERM`, `SIGTERM`, `term`, `15` or `RTMIN+3`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidSignal(text.to_owned());
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(number) = NAMES.iter().skip(1).position(|known| *known == name) {
            return Self::from_number(i32::try_from(number + 1).map_err(|_| invalid())?);
        }
        let number = match name.strip_prefix("RTMIN") {
            Some("") => i32::from(RTMIN),
            Some(offset) => {
                let offset = offset.strip_prefix('+').ok_or_else(invalid)?;
                i32::from(RTMIN) + offset.parse::<u8>().map(i32::from).map_err(|_| invalid())?
            }
            None => name.parse().map_err(|_| invalid())?,
        };
        Self::from_number(number).map_err(|_| invalid())
    }
}

impl TryFrom<String> for Signal {
    type Error = InvalidSignal;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Signal> for String {
    fn from(signal: Signal) -> Self {
        signal.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_survives_its_name() {
        for number in 1..=64 {
            let signal = Signal::from_number(number).expect("in range");
            assert_eq!(signal.to_string().parse(), Ok(signal), "{number}");
        }
    }

    #[test]
    fn names_are_read_as_people_write_them() {
        for text in ["TERM", "SIGTERM", "term", "15"] {
            assert_eq!(text.parse(), Ok(Signal::TERM));
        }
        for text in ["", "SIG", "TERMINATE", "0", "65", "RTMIN+99", "RTMIN-1"] {
            assert!(text.parse::<Signal>().is_err(), "{text:?} was taken");
        }
    }
}
