//! The checks: one module for each thing that is looked at.

pub(crate) mod configuration;
pub(crate) mod daemon;
pub(crate) mod environment;
pub(crate) mod executables;
pub(crate) mod gpus;
pub(crate) mod kernel;
pub(crate) mod limits;
pub(crate) mod memory;
pub(crate) mod models;
pub(crate) mod ports;
pub(crate) mod state_directory;
