//! What the client gets: the head of an answer, and its body as it comes from a launch of a server.
//!
//! A connection has no task: the request drives it, then the body of the answer does. Dropping either drops the connection, and with
//! it llama-server learns that the client has left.

mod body;
mod early_body;
mod head;

pub(crate) use body::{AnswerBody, CutShort, RouterAnswer, StreamFault, StreamFaults};
pub(crate) use early_body::EarlyBody;
pub(crate) use head::{ModelServer, is_event_stream, to_client};
