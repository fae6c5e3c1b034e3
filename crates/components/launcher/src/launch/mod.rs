//! One launch, from the command to its last event.

pub(crate) mod adopt;
pub(crate) mod context;
pub(crate) mod dialect_reloader;
pub(crate) mod failure;
pub(crate) mod held;
pub(crate) mod identify;
pub(crate) mod orders;
mod pre_start;
mod preflight;
mod prepare;
mod running;
pub(crate) mod task;
pub(crate) mod totals;
mod totals_page;

use llama_warden_events::Signal;
use llama_warden_processes::child_process::ChildProcess;

/// Kills a process, and logs if that fails.
fn kill(process: &ChildProcess) {
    if let Err(error) = process.deliver(Signal::KILL) {
        tracing::error!(pid = process.pid(), %error, "a process cannot be killed");
    }
}
