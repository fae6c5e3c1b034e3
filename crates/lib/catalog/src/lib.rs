//! Model discovery: GGUF headers to [`DiscoveredModel`]s.
//!
//! [`discover()`] walks through directories, reads the header of every file that is named like a model, joins shards,
//! pairs projectors, and gives the models ids. Files are untrusted: each costs bounded time and memory whatever its content,
//! tensors are never read, only regular files are opened, and an invalid file is a [`ModelProblem`] in the
//! [`CatalogReport`] and does not affect others. [`inspect`] does the same for one model.
//!
//! The crate starts no process and needs no runtime; a call blocks until everything is read.

mod describe;
mod discover;
mod gguf;
mod id;
mod inspections;
mod model;
mod name;
mod projector;
mod read;
mod report;
mod shards;
#[cfg(test)]
#[expect(dead_code, reason = "the tests of whole files use the rest")]
#[path = "../tests/support/gguf.rs"]
mod testing;
mod walk;

pub use discover::{discover, inspect};
pub use inspections::Inspections;
pub use model::{DiscoveredModel, ModelKind, NetworkShape};
pub use report::{CatalogReport, FileRole, ModelProblem, ProblemReason, Skipped};
pub use walk::DirectoryLinks;
