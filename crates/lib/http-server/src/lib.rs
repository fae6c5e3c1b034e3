//! The base of every HTTP server of the daemon: bound addresses, the accept loop around hyper with its limits and timeouts, and
//! the checks of `Host` and `Origin`.
//!
//! * `listen`: [`Listeners`] are bound before anything is launched, so that an address in use fails the start.
//! * `serve`: [`serve()`] accepts connections and hands each request to an [`HttpService`].
//! * `request_body`: the body of a request, and whether its connection can go on after an answer that has not read it.
//! * `places`: which connections give way when there are too many.
//! * `refused_head`: what a client is told whose request has a head that cannot be read.
//! * `host`: the hosts that a request names, and the origin of the page that makes it.

mod host;
mod listen;
mod places;
mod refused_head;
mod request_body;
mod serve;

pub use host::{
    bare_host, has_foreign_origin, host_of_origin, is_loopback, named_hosts, names_served_hosts, repeats_host,
};
pub use listen::{BindError, BoundTcp, BoundUnix, ControlRebinder, ControlSocket, Listeners, admits};
pub use refused_head::{HeadFault, RefusedLine};
pub use request_body::RequestBody;
pub use serve::{AnsweredBody, ConnectionListener, HttpService, ServeLimits, TcpEnds, Transport, serve};
