//! Listening sockets: binds them or takes those that systemd passes on, and says who is in the way.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, ToSocketAddrs as _};

use listenfd::ListenFd;
use llama_warden_api::{BindError, Listeners};
use llama_warden_config::{RouterAddress, RouterSettings, TcpAddress};
use llama_warden_exit::{CommandFailure, next_step_for, with_source};
use llama_warden_procfs::{SocketAddress, listener, listens, program_name};
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
            BindError::Tcp { host, port, .. } if is_in_use(&error) => listening_process(host, *port),
            _ => None,
        };
        failure(&error, holder)
    })
}

/// Fails if a process other than the running daemon listens on the address: the running daemon would be replaced by one that cannot
/// listen.
pub fn require_free_for_next(
    running: Option<u32>,
    TcpAddress { host, port }: &TcpAddress,
) -> Result<(), CommandFailure> {
    let error = match TcpListener::bind((host.as_str(), *port)) {
        Ok(_) => return Ok(()),
        Err(source) => BindError::Tcp { host: host.clone(), port: *port, source },
    };
    in_the_way(&error, running, host, *port).map_or(Ok(()), |holder| Err(failure(&error, holder)))
}

/// As [`require_free_for_next`], for the address of the router.
pub fn require_free_for_router(
    running: Option<u32>,
    settings: &RouterSettings,
    TcpAddress { host, port }: &TcpAddress,
) -> Result<(), CommandFailure> {
    let Err(error) = RouterListener::bind(settings) else { return Ok(()) };
    in_the_way(&error, running, host, *port).map_or(Ok(()), |holder| Err(router_failure(&error, holder)))
}

/// What keeps a daemon from listening where an attempt has failed: `None` if it is the running daemon, else the process that listens
/// there, as far as it is known.
fn in_the_way(error: &dyn Error, running: Option<u32>, host: &str, port: u16) -> Option<Option<ListeningProcess>> {
    if !is_in_use(error) {
        return Some(None);
    }
    // systemd may hold the socket beside the daemon, so it does not suffice to look who is found first.
    let is_of = |pid| socket_addresses(host, port).iter().any(|address| listens(pid, address));
    if running.is_some_and(is_of) { None } else { Some(listening_process(host, port)) }
}

fn is_in_use(error: &dyn Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|source| source.kind() == ErrorKind::AddrInUse)
}

fn failure(error: &BindError, holder: Option<ListeningProcess>) -> CommandFailure {
    let Some(ListeningProcess { pid, program }) = holder else {
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
        let holder = match &settings.listen {
            RouterAddress::Tcp(TcpAddress { host, port }) if is_in_use(&error) => listening_process(host, *port),
            _ => None,
        };
        router_failure(&error, holder)
    })
}

fn router_failure(error: &RouterUnavailable, holder: Option<ListeningProcess>) -> CommandFailure {
    let message = match holder {
        Some(ListeningProcess { pid, program }) => format!("{error}: a {program} (pid {pid}) listens there"),
        None => with_source(error),
    };
    CommandFailure::failed(message).next_step("set another `listen` in [router] (\"\" is off)")
}

/// The name of this program's executable.
const PROGRAM: &str = "llama-warden";

/// A process that listens on an address.
struct ListeningProcess {
    pid: u32,
    program: String,
}

/// The process that listens on an address of this machine, if the kernel shows it to us.
fn listening_process(host: &str, port: u16) -> Option<ListeningProcess> {
    let pid = socket_addresses(host, port).iter().find_map(listener)?;
    Some(ListeningProcess { pid, program: program_name(pid)? })
}

fn socket_addresses(host: &str, port: u16) -> Vec<SocketAddress> {
    (host, port).to_socket_addrs().map(|addresses| addresses.map(SocketAddress::Tcp).collect()).unwrap_or_default()
}
