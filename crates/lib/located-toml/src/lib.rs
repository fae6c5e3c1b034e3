//! TOML whose keys and values know where they are written, and problems that point there.
//!
//! [`tree::parse`] reads a [`Document`] into a tree, and says in sentences of its own what is wrong where it is no TOML. A
//! [`ConfigProblem`] has a place, a message and a next step; [`ConfigProblems`] shows many of them with lines and carets.
//! The time for all of them grows with the document, not with its square.

mod problem;
mod suggest;
mod syntax;
pub mod tree;

pub use problem::{
    ConfigProblem, ConfigProblems, Document, Excerpt, Layer, Location, NeededFile, RenderStyle, SHOWN, Severity,
};
pub use suggest::{nearest, suggestion};
