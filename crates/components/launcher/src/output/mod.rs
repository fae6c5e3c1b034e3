//! The output of processes: from pipes to lines without secrets.

pub(crate) mod lines;
pub(crate) mod pipes;
