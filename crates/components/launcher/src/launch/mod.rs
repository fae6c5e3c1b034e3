//! One launch, from the command to its last event.

pub(crate) mod adopt;
pub(crate) mod context;
pub(crate) mod dialect_reloader;
pub(crate) mod failure;
pub(crate) mod identify;
pub(crate) mod orders;
mod pre_start;
mod preflight;
mod prepare;
mod running;
pub(crate) mod task;
