//! Names of commands and outcomes, for sentences.

use std::fmt;

use crate::{BuildChange, CanaryOutcome, CommandOutcome, CommandSummary, ListenerOwner};

impl fmt::Display for CommandSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("start"),
            Self::Stop { force: false } => f.write_str("stop"),
            Self::Stop { force: true } => f.write_str("stop by KILL"),
            Self::Restart { force: false } => f.write_str("restart"),
            Self::Restart { force: true } => f.write_str("restart by KILL"),
            Self::Unload => f.write_str("unload"),
            Self::ActivateProfile { profile: Some(profile) } => write!(f, "switch to profile {profile}"),
            Self::ActivateProfile { profile: None } => f.write_str("switch to no profile"),
            Self::ChangeBuild { build } => build.fmt(f),
            Self::Reload => f.write_str("reload"),
            Self::HandOver => f.write_str("hand over"),
            Self::ShutDown => f.write_str("shut down"),
        }
    }
}

impl fmt::Display for BuildChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddCanary { binary } => write!(f, "add a canary of {}", binary.display()),
            Self::RemoveCanary => f.write_str("remove the canary"),
            Self::Try { binary } => write!(f, "try {}", binary.display()),
            Self::Keep => f.write_str("keep the build"),
            Self::Revert => f.write_str("revert to the build of before"),
        }
    }
}

impl fmt::Display for CommandOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("ready"),
            Self::Stopped => f.write_str("stopped"),
            Self::Failed { reason, detail } => write!(f, "failed: {reason}: {detail}"),
            Self::Superseded { by } => write!(f, "command {by} asked for something else meanwhile"),
            Self::Refused { reason } => write!(f, "refused: {reason}"),
        }
    }
}

impl fmt::Display for ListenerOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("the server itself"),
            Self::Foreign { pid, program } => {
                f.write_str(program.as_deref().unwrap_or("another process"))?;
                pid.map_or(Ok(()), |pid| write!(f, " (pid {pid})"))
            }
            Self::Nobody => f.write_str("nobody"),
            Self::Elsewhere { address } => write!(f, "nobody; the server listens on {address}"),
            Self::Unreadable { detail } => write!(f, "unknown: {detail}"),
        }
    }
}

impl fmt::Display for CanaryOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Failed { reason, detail, .. } => write!(f, "failed: {reason}: {detail}"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Switched => f.write_str("switched"),
            Self::RolledBack { detail } => write!(f, "rolled back: {detail}"),
        }
    }
}
