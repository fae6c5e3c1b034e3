//! The bytes: a request to one launch of a server, and the answer back.
//!
//! A connection has no task: the request drives it, then the body of the answer does. Dropping either drops the connection, and with
//! it llama-server learns that the client has left.

mod body;
mod early;
mod headers;

pub(crate) use body::{AnswerBody, CutShort, StreamFault, StreamFaults};
pub(crate) use early::EarlyBody;
pub(crate) use headers::{ModelServer, is_event_stream, to_client};
