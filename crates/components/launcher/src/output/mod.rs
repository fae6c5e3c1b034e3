//! The output of processes, from the pipe to lines without secrets.

pub(crate) mod lines;
pub(crate) mod pipes;
