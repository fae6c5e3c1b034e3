//! The builds of llama-server that the stand-in imitates, and their options as one table.
//!
//! * [`eras`]: the builds, in order of age.
//! * [`options`]: which options each has, as its help lists them.
//! * [`renames`]: other names for options, for a build that nobody knows yet.

pub mod eras;
pub mod options;
pub mod renames;
