//! Faults of the connection on which a completion comes, in the order in which completions come.

use std::io;
use std::time::Duration;

use crate::connection::{Connection, HttpRequest, HttpResponse, SendMode};
use crate::output::{self, Stream};
use crate::script::WireFault;
use crate::state::Server;

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
        WireFault::CutAnswer { after, reset } => connection.send_as(SendMode::Cut { left: after, reset }),
        WireFault::Trickle { pause_us } => connection.send_as(SendMode::Slow(Duration::from_micros(pause_us))),
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
