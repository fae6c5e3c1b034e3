//! Faults of the connection on which a completion comes, in the order in which completions come.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::connection::{Connection, HttpRequest, HttpResponse, Sending};
use crate::output::{self, Stream};
use crate::state::Server;

/// What happens on the connection of one completion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum WireFault {
    /// The connection works as ever.
    None {},
    /// The connection is reset after so many bytes of the request's body, without an answer.
    ResetRequest {
        /// Bytes of the body that are read before.
        after: u64,
    },
    /// An answer with this status after so many bytes of the body; the connection is closed with the rest unread.
    AnswerEarly {
        /// The status.
        status: u16,
        /// Bytes of the body that are read before.
        after: u64,
    },
    /// The connection ends after so many bytes of the answer, its head included.
    CutAnswer {
        /// Bytes of the answer that are sent.
        after: u64,
        /// It is reset, not closed.
        #[serde(default)]
        reset: bool,
    },
    /// The answer comes byte by byte.
    Trickle {
        /// Microseconds before each byte.
        pause_us: u64,
    },
    /// Nothing more is sent, and what the client sends is read until it leaves.
    HalfClose {},
    /// No answer comes; what the client sends is read until it leaves.
    Hang {},
    /// Bytes in place of the answer; then the connection is closed.
    Raw {
        /// The bytes.
        text: String,
    },
    /// Bytes before the answer, such as heads of status 103.
    Before {
        /// The bytes.
        text: String,
    },
}

/// Reads the body of a completion as its fault has it. Whether it is answered then as ever.
pub(crate) fn meet(server: &Server, request: &mut HttpRequest, connection: &mut Connection) -> io::Result<bool> {
    let fault = server.next_fault().unwrap_or(WireFault::None {});
    let read_before = match fault {
        WireFault::ResetRequest { after } | WireFault::AnswerEarly { after, .. } => after,
        _ => u64::MAX,
    };
    connection.read_body(request, read_before)?;
    match fault {
        WireFault::None {} => {}
        WireFault::ResetRequest { .. } => {
            connection.reset()?;
            return Ok(false);
        }
        WireFault::AnswerEarly { status, .. } => {
            connection.respond(&HttpResponse::error(status, "answered early", "invalid_request_error"))?;
            return Ok(false);
        }
        WireFault::CutAnswer { after, reset } => connection.send_as(Sending::Cut { left: after, reset }),
        WireFault::Trickle { pause_us } => connection.send_as(Sending::Slow(Duration::from_micros(pause_us))),
        WireFault::HalfClose {} => {
            connection.stop_sending()?;
            connection.await_hang_up();
            left();
            return Ok(false);
        }
        WireFault::Hang {} => {
            connection.await_hang_up();
            left();
            return Ok(false);
        }
        WireFault::Raw { text } => {
            connection.send(text.as_bytes())?;
            return Ok(false);
        }
        WireFault::Before { text } => connection.send(text.as_bytes())?,
    }
    Ok(true)
}

/// Whether a connection ended by a fault, not by its client.
pub(crate) fn is_fault(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionAborted
}

/// Tells a test that a client has closed its connection before its answer was whole.
pub(crate) fn left() {
    output::write(Stream::Stderr, "stand-in: the client left\n");
}
