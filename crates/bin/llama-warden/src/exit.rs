//! Exit codes, and failures on their way to one.

use std::fmt;
use std::process::ExitCode;

use llama_warden_config::ConfigProblems;
use llama_warden_events::{ServerId, Signal};

/// How the program ends. The numbers are part of the contract with scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything that was asked for is done.
    Done,
    /// Something failed.
    Failed,
    /// The command line or the configuration is wrong.
    Usage,
    /// A server did not become what was waited for.
    NotReached,
    /// Another daemon holds the state directory.
    Held,
    /// There is no daemon to talk to.
    NoDaemon,
    /// A signal ended the daemon before everything was stopped in peace.
    Signaled(Signal),
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotReached => 3,
            Self::Held => 4,
            Self::NoDaemon => 5,
            Self::Signaled(signal) => u8::try_from(128 + signal.number()).unwrap_or(u8::MAX),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    /// How the program ends.
    pub exit: Exit,
    /// What to tell.
    pub told: Told,
}

/// What a failure tells.
#[derive(Debug)]
pub enum Told {
    /// One sentence, and what to do next.
    Text {
        /// What went wrong, on what.
        message: String,
        /// What to do next.
        next_step: Option<String>,
    },
    /// What is wrong with the configuration.
    Configuration(ConfigProblems),
    /// Everything was told already.
    Nothing,
}

impl Failure {
    /// A failure that tells one sentence.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, told: Told::Text { message: message.to_string(), next_step: None } }
    }

    /// Somebody named a server that is not configured; these are.
    pub fn unknown_server<'a>(exit: Exit, unknown: &ServerId, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<_> = known.into_iter().collect();
        Self::new(exit, format!("no server `{unknown}` is configured"))
            .next_step(format!("configured are: {}", known.join(", ")))
    }

    /// A failure that has told everything already.
    pub const fn silent(exit: Exit) -> Self {
        Self { exit, told: Told::Nothing }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn next_step(mut self, step: impl fmt::Display) -> Self {
        if let Told::Text { next_step, .. } = &mut self.told {
            *next_step = Some(step.to_string());
        }
        self
    }
}

impl From<ConfigProblems> for Failure {
    fn from(problems: ConfigProblems) -> Self {
        Self { exit: Exit::Usage, told: Told::Configuration(problems) }
    }
}
