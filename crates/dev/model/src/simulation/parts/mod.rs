//! The parts of the components around the machines, played by the simulation.

mod health;
mod hooks;
mod launcher;
mod readiness;
mod router;
mod supervisor;
mod terminator;

pub(crate) use health::HealthPart;
pub(crate) use hooks::HooksPart;
pub(crate) use launcher::LauncherPart;
pub(crate) use readiness::ReadinessPart;
pub(crate) use router::RouterPart;
pub(crate) use supervisor::SupervisorPart;
pub(crate) use terminator::TerminatorPart;
