//! Connects a command to its daemon, and to no other.
//!
//! With a configuration only its control socket and its own `listen` are tried, since any other daemon would be somebody
//! else's. A token is sent to no address but the one that it belongs to.

use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use llama_warden_client::{Client, ClientError, DaemonAddress};
use llama_warden_config::TcpAddress;
use llama_warden_daemon::{open_to_others, read_token};
use llama_warden_exit::{CommandFailure, Exit, FailureMessage, with_source};
use llama_warden_inventory::LoadedConfig;
use llama_warden_terminal::output::print_note;

use crate::global_args::GlobalArgs;

/// Longest time from the end of a `--timeout` to the end of the command: the daemon itself answers at its end.
const ANSWER_MARGIN: Duration = Duration::from_millis(500);

/// An address where the daemon may be, and whether the configuration's token belongs to it.
struct DaemonCandidate {
    address: DaemonAddress,
    takes_token: bool,
}

/// A client of the daemon at `--address`; otherwise of the configuration's daemon.
///
/// # Errors
/// [`Exit::NoDaemon`] with every address that was tried.
pub async fn to_daemon(global: &GlobalArgs) -> Result<Client, CommandFailure> {
    let (loaded, candidates) = match &global.address {
        Some(address) => named(global, address)?,
        None => configured(global)?,
    };
    let mut tried = Vec::new();
    for candidate in candidates {
        let token = match &global.token_file {
            _ if matches!(candidate.address, DaemonAddress::Unix(_)) => None,
            Some(file) => Some(read_token(file)?),
            None => loaded.as_ref().filter(|_| candidate.takes_token).and_then(token),
        };
        let client = Client::new(candidate.address, token);
        if let Err(error) = client.reach().await {
            tried.push(Unusable::Unreachable(error));
            continue;
        }
        let other = match loaded.as_ref().filter(|_| global.address.is_none()) {
            Some(loaded) => somebody_elses(&client, loaded).await,
            None => Ok(None),
        };
        match other {
            Err(error) => tried.push(Unusable::Unreachable(error)),
            Ok(Some(file)) => tried.push(Unusable::Foreign { address: client.address().clone(), file }),
            Ok(None) => return Ok(client),
        }
    }
    Err(nobody(global, loaded.as_ref(), &tried))
}

/// Why an address leads to no daemon of ours.
enum Unusable {
    Unreachable(ClientError),
    /// The daemon there runs another configuration.
    Foreign {
        address: DaemonAddress,
        file: PathBuf,
    },
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(ClientError::Unreachable { address, source }) => write!(f, "{address} ({source})"),
            Self::Unreachable(other) => other.fmt(f),
            Self::Foreign { address, file } => write!(f, "{address} (the daemon of {} answers there)", file.display()),
        }
    }
}

/// The configuration of the daemon that answers, if it is another one of this machine: two files may name one address, or
/// leave their state directory to the default, and only one of their daemons can have it. A daemon in a container, or on
/// another machine, may call our file by another path.
///
/// # Errors
/// It says nothing at all.
async fn somebody_elses(client: &Client, loaded: &LoadedConfig) -> Result<Option<PathBuf>, ClientError> {
    // The control socket in a state directory that the file itself names is its own.
    let is_own_socket =
        loaded.configuration.is_written("daemon.state-dir") && matches!(client.address(), DaemonAddress::Unix(_));
    let own = loaded.place().file.and_then(|file| file.canonicalize().ok());
    let Some(own) = own.filter(|_| !is_own_socket) else { return Ok(None) };
    let theirs = match client.configuration().await {
        Err(error) if error.is_without_daemon() => return Err(error),
        // One that does not say where its configuration is counts as ours.
        answer => answer.ok().and_then(|place| place.file),
    };
    Ok(theirs.filter(|theirs| theirs.canonicalize().is_ok_and(|theirs| theirs != own)))
}

/// The address of the command line. The configuration's token belongs to it if it is the configuration's own address.
fn named(global: &GlobalArgs, address: &str) -> Result<(Option<LoadedConfig>, Vec<DaemonCandidate>), CommandFailure> {
    let address: DaemonAddress = address.parse().map_err(|error| {
        CommandFailure::usage(error).next_step("write it as http://HOST:PORT or unix:/path/to/control.sock")
    })?;
    // The command goes where the user says, whatever the state of the configuration.
    let loaded = LoadedConfig::find_daemon(global.config.as_deref()).ok().map(|(loaded, _)| loaded);
    let own = loaded.as_ref().and_then(|loaded| loaded.configuration.daemon().listen.as_ref());
    let takes_token = own.is_some_and(|own| address == exact(own) || Some(&address) == reachable(own).as_ref());
    Ok((loaded, vec![DaemonCandidate { address, takes_token }]))
}

/// The addresses of the configuration's daemon.
fn configured(global: &GlobalArgs) -> Result<(Option<LoadedConfig>, Vec<DaemonCandidate>), CommandFailure> {
    let loaded = configuration(global)?;
    let configuration = &loaded.configuration;
    let mut candidates = Vec::new();
    if let Ok(socket) = loaded.control_socket() {
        candidates.push(DaemonCandidate { address: DaemonAddress::Unix(socket), takes_token: false });
    }
    // An address that nobody wrote is everybody's: it counts only where there is no configuration at all.
    if configuration.is_built_in() || configuration.is_written("daemon.listen") {
        let own = configuration.daemon().listen.as_ref().and_then(reachable);
        candidates.extend(own.map(|address| DaemonCandidate { address, takes_token: true }));
    }
    Ok((Some(loaded), candidates))
}

/// The address as it is written.
fn exact(listen: &TcpAddress) -> DaemonAddress {
    DaemonAddress::Tcp { host: listen.host.clone(), port: listen.port }
}

/// The address at which this machine reaches a listener; `None` for port 0, which becomes another one at each start.
fn reachable(listen: &TcpAddress) -> Option<DaemonAddress> {
    let host = match listen.host.as_str() {
        "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        host => host,
    };
    (listen.port != 0).then(|| DaemonAddress::Tcp { host: host.to_owned(), port: listen.port })
}

/// The configuration. If it became invalid while the daemon runs, only the keys that lead to the daemon.
fn configuration(global: &GlobalArgs) -> Result<LoadedConfig, CommandFailure> {
    let (loaded, problems) = LoadedConfig::find_daemon(global.config.as_deref())?;
    if problems.is_some() {
        print_note(
            "warning: the configuration is invalid (see `llama-warden check`); only what leads to its daemon is read from it",
        );
    }
    Ok(loaded)
}

/// The token of the configuration. One that cannot be read is left out with a warning: the daemon may not need it.
fn token(loaded: &LoadedConfig) -> Option<String> {
    let path = loaded.configuration.daemon().token_file.as_ref()?;
    if let Some(warning) = open_to_others(path) {
        print_note(format_args!("warning: {warning}"));
    }
    match read_token(path) {
        Ok(token) => Some(token),
        Err(failure) => {
            if let FailureMessage::Text { message, .. } = failure.message {
                print_note(format_args!("warning: {message}"));
            }
            None
        }
    }
}

/// The failure of a command that found nobody at any address.
fn nobody(global: &GlobalArgs, loaded: Option<&LoadedConfig>, tried: &[Unusable]) -> CommandFailure {
    let addresses: Vec<_> = tried.iter().map(Unusable::to_string).collect();
    let whose = loaded.filter(|_| global.address.is_none()).and_then(|loaded| loaded.configuration.path());
    let of = whose.map_or_else(String::new, |path| format!(" of {}", path.display()));
    let failure = CommandFailure::new(Exit::NoDaemon, format!("no daemon{of} answers; tried {}", addresses.join(", ")));
    let denied = |tried: &Unusable| match tried {
        Unusable::Unreachable(ClientError::Unreachable { source, .. }) => source.kind() == ErrorKind::PermissionDenied,
        _ => false,
    };
    let foreign = tried.iter().find_map(|tried| match tried {
        Unusable::Foreign { file, .. } => Some(file.display()),
        Unusable::Unreachable(_) => None,
    });
    if let Some(file) = foreign {
        return failure.next_step(format!(
            "`--config {file}` talks to that daemon; for one beside it, write another daemon.state-dir and daemon.listen"
        ));
    }
    failure.next_step(match &global.address {
        _ if tried.iter().any(denied) => "run the command as the user of the daemon".to_owned(),
        Some(address) => format!(
            "start a daemon that listens on {address}, or leave out --address to talk to that of the configuration"
        ),
        None => "start it with `llama-warden up`, or name another daemon with --address".to_owned(),
    })
}

/// Runs the whole work of a command within its `--timeout`.
///
/// # Errors
/// Those of the work; that it did not end in time.
pub async fn within<T>(
    limit: Option<Duration>,
    work: impl Future<Output = Result<T, CommandFailure>>,
) -> Result<T, CommandFailure> {
    let Some(limit) = limit else { return work.await };
    let ended = tokio::time::timeout(limit.saturating_add(ANSWER_MARGIN), work).await;
    ended.unwrap_or_else(|_| Err(no_answer(limit)))
}

/// The failure of a command to which the daemon has said nothing for the whole of its `--timeout`.
pub fn no_answer(limit: Duration) -> CommandFailure {
    let message = format!("timed out after {limit:?}: the daemon accepts connections and does not answer");
    CommandFailure::new(Exit::NoDaemon, message)
        .next_step("see in the daemon's log why it hangs, and with `ps` whether its process is stopped")
}

/// The failure of a command whose request failed.
pub fn request_failure(error: ClientError) -> CommandFailure {
    let exit = match &error {
        error if error.is_without_daemon() => Exit::NoDaemon,
        ClientError::Problem(problem) if problem.names_nothing() => Exit::Usage,
        _ => Exit::Failed,
    };
    match error {
        ClientError::Problem(problem) => CommandFailure { exit, message: FailureMessage::Problem(problem) },
        error => CommandFailure::new(exit, with_source(&error)).next_step(error.next_step()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_every_interface_is_reached_over_loopback() {
        for (host, port, expected) in [
            ("127.0.0.1", 7777, Some("http://127.0.0.1:7777")),
            ("0.0.0.0", 80, Some("http://127.0.0.1:80")),
            ("::", 80, Some("http://[::1]:80")),
            ("gpu-box", 80, Some("http://gpu-box:80")),
            ("127.0.0.1", 0, None),
        ] {
            let address = reachable(&TcpAddress { host: host.to_owned(), port });
            assert_eq!(address.map(|address| address.to_string()).as_deref(), expected);
        }
    }
}
