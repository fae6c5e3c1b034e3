//! Counts the requests of every server, from the lines that llama-server prints about them.
//!
//! Every build prints, for each generation that ended by itself, how many tokens of the prompt it read, how many it generated, and
//! how long both took; and when a slot becomes busy and free. A detector pack recognises these lines as [`RequestLine`]s, and
//! [`RequestLog`] counts them. So there are figures without a proxy, without `--metrics`, and without a question to the server,
//! which could wake one that sleeps.
//!
//! Invariants:
//!
//! * One line is one observation. A timing is never tied to a slot: some builds print that the slot is free before the timing.
//! * Requests are no events: there may be a thousand in a second, and nobody decides anything by them. A client can make a
//!   server print almost any line, so that these figures are for people and graphs only.
//! * A server without requests costs an entry of the map and no more.
//! * Time is an argument.

mod line;
mod log;
mod recent;
mod record;
mod totals;

pub use line::{RequestLine, SlotKey, TokenTiming};
pub use log::RequestLog;
pub use record::{RequestRecord, TokenRates};
pub use totals::RequestTotals;
