//! One connection to a llama-server: requests out, and their answers in, driven by whoever uses it.
//!
//! Nothing is collected and nothing is copied: the bytes of an answer go on as they came, in the chunks in which they came. A
//! connection has no task and wakes nobody but the task that reads it. Where an answer ends is decided once, by its head (RFC 9112,
//! 6.3); a connection whose answer leaves a doubt about that is not used again.

mod framing;
mod head;
mod link;
mod outgoing;
mod stream;

pub use framing::NotHttp;
pub use link::{LinkBroken, SendError, ServerLink};
