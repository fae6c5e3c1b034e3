//! Listening sockets: binds them or takes those that systemd passes on, and says who is in the way.

use std::error::Error as _;
use std::io::ErrorKind;
use std::net::{TcpListener, ToSocketAddrs as _};

use listenfd::ListenFd;
use llama_warden_api::{BindError, Listeners};
use llama_warden_config::{RouterSettings, TcpAddress};
use llama_warden_exit::{CommandFailure, next_step_for, with_source};
use llama_warden_procfs::{SocketAddress, listener, program_name};
use llama_warden_router::{RouterListener, RouterUnavailable};

use crate::state_dir::StateDir;

/// The TCP sockets that systemd passes on: those of a socket unit, and those that it kept over a restart. Must be called before a
/// second thread exists, since it removes `LISTEN_FDS` from the environment: a second look must not take descriptors that have
/// another owner by then.
pub fn inherited_sockets() -> Vec<TcpListener> {
    let mut passed = ListenFd::from_env();
    // One that is no TCP socket stays open and unused: closing a descriptor of unknown kind helps nobody.
    (0..passed.len()).filter_map(|index| passed.take_tcp_listener(index).ok()?).collect()
}

/// Binds the control socket and, where one is configured, the TCP address, or takes the socket of `passed` that listens there.
pub fn bind(
    listen: Option<&TcpAddress>,
    state: &StateDir,
    passed: Vec<TcpListener>,
) -> Result<Listeners, CommandFailure> {
    let tcp = listen.map(|address| (address.host.as_str(), address.port));
    Listeners::bind(tcp, &state.control_socket(), passed).map_err(|error| {
        let holder = match &error {
            BindError::Tcp { host, port, source } if source.kind() == ErrorKind::AddrInUse => holder(host, *port),
            _ => None,
        };
        failure(&error, holder)
    })
}

/// As [`require_free_or_ours`], for the address of the router.
pub fn require_router_free_or_ours(settings: &RouterSettings) -> Result<(), CommandFailure> {
    match RouterListener::bind(settings) {
        Err(RouterUnavailable::Tcp { host, port, source }) => {
            let is_taken = source.kind() == ErrorKind::AddrInUse;
            let holder = holder(&host, port).filter(|_| is_taken);
            if holder.as_ref().is_some_and(|holder| holder.program == PROGRAM) {
                return Ok(());
            }
            Err(router_failure(&RouterUnavailable::Tcp { host, port, source }, holder))
        }
        Ok(_) => Ok(()),
    }
}

/// Fails where another program than a llama-warden listens on the address, before a running daemon gives way to one that could not
/// listen there.
pub fn require_free_or_ours(TcpAddress { host, port }: &TcpAddress) -> Result<(), CommandFailure> {
    match TcpListener::bind((host.as_str(), *port)) {
        Err(source) if source.kind() == ErrorKind::AddrInUse => {
            let holder = holder(host, *port).filter(|holder| holder.program != PROGRAM);
            let error = BindError::Tcp { host: host.clone(), port: *port, source };
            holder.map_or(Ok(()), |holder| Err(failure(&error, Some(holder))))
        }
        Err(source) => Err(failure(&BindError::Tcp { host: host.clone(), port: *port, source }, None)),
        Ok(_) => Ok(()),
    }
}

fn failure(error: &BindError, holder: Option<Holder>) -> CommandFailure {
    let Some(Holder { pid, program }) = holder else {
        let by_errno = error.source().and_then(|source| next_step_for(source.downcast_ref()?));
        return CommandFailure::failed(with_source(error)).next_step(by_errno.unwrap_or(error.next_step()));
    };
    let step = match &*program {
        PROGRAM => format!(
            "`kill {pid}` ends it and its servers; LLAMA_WARDEN_DAEMON__LISTEN=127.0.0.1:0, or another `listen` in \
             [daemon], runs beside it"
        ),
        _ => error.next_step().to_owned(),
    };
    CommandFailure::failed(format!("{error}: a {program} (pid {pid}) listens there")).next_step(step)
}

/// Binds the address of the router, where it has one.
pub fn bind_router(settings: &RouterSettings) -> Result<RouterListener, CommandFailure> {
    RouterListener::bind(settings).map_err(|error| {
        let RouterUnavailable::Tcp { host, port, source } = &error;
        let holder = (source.kind() == ErrorKind::AddrInUse).then(|| holder(host, *port)).flatten();
        router_failure(&error, holder)
    })
}

fn router_failure(error: &RouterUnavailable, holder: Option<Holder>) -> CommandFailure {
    let message = match holder {
        Some(Holder { pid, program }) => format!("{error}: a {program} (pid {pid}) listens there"),
        None => with_source(error),
    };
    CommandFailure::failed(message).next_step("end that program, or set another `listen` in [router] (\"\" is off)")
}

/// The name of this program's executable.
const PROGRAM: &str = "llama-warden";

/// A process that listens on an address.
struct Holder {
    pid: u32,
    program: String,
}

/// The process that listens on an address of this machine, if the kernel shows it to us.
fn holder(host: &str, port: u16) -> Option<Holder> {
    let mut addresses = (host, port).to_socket_addrs().ok()?;
    let pid = addresses.find_map(|address| listener(&SocketAddress::Tcp(address)))?;
    Some(Holder { pid, program: program_name(pid)? })
}
