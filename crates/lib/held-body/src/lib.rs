//! Request bodies: read with a limit and a deadline, and looked through for the model while they come.
//!
//! A body is read whole before its request goes anywhere, so that it takes no slot while it comes, is known to be one that llama-server
//! reads, and can be sent again. A long one that says how long it is, is read only until its model is known, and the rest passes through
//! while it is sent.
//!
//! * [`BodyReader`] reads a body within [`BodyLimits`], and gives a [`HeldBody`] with its [`BodyFacts`].
//! * `room`: the memory that all bodies take together; `coming`: what a client sends; `chunks`: the bytes that came; `rest`: what a long
//!   one still sends.

mod chunks;
mod coming;
mod limits;
mod reader;
mod refused;
mod rest;
mod room;

pub use coming::ClientBody;
pub use limits::BodyLimits;
pub use reader::{BodyFacts, BodyReader, HeldBody, ReadUntil};
pub use refused::{BodyRefusal, BodyRefused};
pub use rest::RestFailed;
