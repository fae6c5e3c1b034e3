//! Exit codes, and the failures that lead to them.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use llama_warden_api_types::ApiProblem;
use llama_warden_component::CompositionError;
use llama_warden_config::{ConfigProblems, suggestion};
use llama_warden_events::Signal;

use crate::errno::next_step_for;

/// The result of a command. Scripts rely on the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: everything was done.
    Done,
    /// 1: something failed.
    Failed,
    /// 2: the command line or the configuration is wrong.
    Usage,
    /// 3: a server did not reach the requested state.
    NotReached,
    /// 4: another daemon holds the state directory.
    Held,
    /// 5: no daemon answers.
    NoDaemon,
    /// 128 + signal: this signal made the daemon kill its servers or leave at once.
    Signaled(Signal),
}

impl Exit {
    /// The number, from 0 to 255.
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

/// How a command of the program ended.
pub type CommandResult = Result<Exit, CommandFailure>;

/// A failed command of the program.
#[derive(Debug)]
pub struct CommandFailure {
    /// The exit code.
    pub exit: Exit,
    /// The text for people.
    pub message: FailureMessage,
}

/// The text of a failure.
#[derive(Debug)]
pub enum FailureMessage {
    /// One sentence, and what to do next.
    Text {
        /// The failed action and its object.
        message: String,
        /// An action that may fix it.
        next_step: Option<String>,
    },
    /// The daemon's own words.
    Problem(Box<ApiProblem>),
    /// Every problem of the configuration, with its place.
    Configuration(ConfigProblems),
    /// Nothing is left to print.
    AlreadyPrinted,
}

impl CommandFailure {
    /// A failure with a message and no next step.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: FailureMessage::Text { message: message.to_string(), next_step: None } }
    }

    /// A failure with exit code 1.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// A failure of the command line or the configuration, with exit code 2.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A failure with the text of an error and its source; the next step is the one for the errno of the source, if it has one.
    pub fn of_io(error: &dyn Error, otherwise: &str) -> Self {
        let by_errno = error.source().and_then(|source| next_step_for(source.downcast_ref()?));
        Self::failed(with_source(error)).next_step(by_errno.unwrap_or(otherwise))
    }

    /// A server was named that is not configured; `known` are.
    pub fn unknown_server<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let first = "add a table [[servers]] to the configuration, or name a folder of models with --models";
        Self::unknown_name("server", unknown, known, first)
    }

    /// A profile was named that is not configured; `known` are.
    pub fn unknown_profile<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        Self::unknown_name("profile", unknown, known, "a table [profiles.NAME] in the configuration makes one")
    }

    /// Something was named that does not exist; `known` are the names of its kind. The next step is the nearest of them;
    /// `first` if there is none of this kind.
    pub fn unknown_name<'a>(
        kind: &str,
        unknown: &str,
        known: impl IntoIterator<Item = &'a str>,
        first: impl fmt::Display,
    ) -> Self {
        match suggestion(unknown, known) {
            Some(next_step) => Self::usage(format!("there is no {kind} `{unknown}`")).next_step(next_step),
            None => Self::usage(format!("there is no {kind} `{unknown}`, nor any other")).next_step(first),
        }
    }

    /// A failure that prints nothing.
    pub const fn silent(exit: Exit) -> Self {
        Self { exit, message: FailureMessage::AlreadyPrinted }
    }

    /// Adds the next step to a message.
    #[must_use]
    pub fn next_step(mut self, step: impl fmt::Display) -> Self {
        if let FailureMessage::Text { next_step, .. } = &mut self.message {
            *next_step = Some(step.to_string());
        }
        self
    }
}

/// The text of an error, and of its source.
pub fn with_source(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

impl From<CompositionError> for CommandFailure {
    fn from(error: CompositionError) -> Self {
        Self::failed(error)
    }
}

impl From<ConfigProblems> for CommandFailure {
    fn from(problems: ConfigProblems) -> Self {
        Self { exit: Exit::Usage, message: FailureMessage::Configuration(problems) }
    }
}
