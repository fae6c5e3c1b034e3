//! The finding of a check.

use llama_warden_config::{ConfigProblem, NeededFile, Severity};
use llama_warden_exit::{CommandFailure, FailureMessage};
use serde::Serialize;

/// How bad a finding is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gravity {
    /// Something will not run.
    Fault,
    /// Something runs, and probably not as meant.
    Warning,
    /// It is as it should be.
    Good,
}

impl Gravity {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Warning => "warning",
            Self::Good => "ok",
        }
    }
}

/// One fact about the machine or the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub(crate) area: Area,
    pub(crate) gravity: Gravity,
    /// One sentence for people.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) next_step: Option<String>,
    /// The file without which servers do not start, where this is about one.
    #[serde(skip)]
    pub(crate) keeps_from_starting: Option<NeededFile>,
}

/// What a check looks at, in the order of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Area {
    Configuration,
    Executable,
    Options,
    Models,
    Memory,
    Gpu,
    Ports,
    Daemon,
    StateDirectory,
    Limits,
    Kernel,
    Environment,
}

impl Area {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Executable => "executable",
            Self::Options => "options",
            Self::Models => "models",
            Self::Memory => "memory",
            Self::Gpu => "gpu",
            Self::Ports => "ports",
            Self::Daemon => "daemon",
            Self::StateDirectory => "state directory",
            Self::Limits => "limits",
            Self::Kernel => "kernel",
            Self::Environment => "environment",
        }
    }

    /// Where a fault of such a file belongs.
    pub(crate) const fn of(file: &NeededFile) -> Self {
        match file {
            NeededFile::Executable(_) => Self::Executable,
            NeededFile::Model(_) => Self::Models,
            NeededFile::Keys(_) => Self::Configuration,
        }
    }

    const fn found(self, gravity: Gravity, message: String, next_step: Option<String>) -> Finding {
        Finding { area: self, gravity, message, next_step, keeps_from_starting: None }
    }

    pub(crate) fn good(self, message: impl Into<String>) -> Finding {
        self.found(Gravity::Good, message.into(), None)
    }

    pub(crate) fn warning(self, message: impl Into<String>, next_step: impl Into<String>) -> Finding {
        self.found(Gravity::Warning, message.into(), Some(next_step.into()))
    }

    pub(crate) fn fault(self, message: impl Into<String>, next_step: impl Into<String>) -> Finding {
        Finding { gravity: Gravity::Fault, ..self.warning(message, next_step) }
    }

    pub(crate) fn problem(self, problem: &ConfigProblem) -> Finding {
        let gravity = match problem.severity {
            Severity::Error => Gravity::Fault,
            Severity::Warning => Gravity::Warning,
        };
        let keeps_from_starting = problem.needed.as_deref().cloned();
        Finding { keeps_from_starting, ..self.found(gravity, problem.to_string(), problem.help.clone()) }
    }

    /// What a command would fail with.
    pub(crate) fn failure(self, failure: &CommandFailure) -> Vec<Finding> {
        let fault = |message, next_step| self.found(Gravity::Fault, message, next_step);
        match &failure.message {
            FailureMessage::Text { message, next_step } => vec![fault(message.clone(), next_step.clone())],
            FailureMessage::Problem(problem) => {
                vec![fault(problem.to_string(), problem.next_step.as_ref().map(ToString::to_string))]
            }
            FailureMessage::Configuration(problems) => problems.0.iter().map(|problem| self.problem(problem)).collect(),
            FailureMessage::AlreadyPrinted => Vec::new(),
        }
    }
}
