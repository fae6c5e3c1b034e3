//! Connects a command to its daemon.

use std::os::unix::net::UnixStream;

use llama_warden_client::{Client, ClientError, DaemonAddress};
use llama_warden_daemon::{CommandFailure, Exit, LoadedConfig, with_source};

use crate::args::GlobalArgs;

/// The default address of a daemon.
const DEFAULT_ADDRESS: &str = "http://127.0.0.1:9888";

/// A client of the daemon at `--address`; otherwise at the control socket of the configuration if it accepts connections;
/// otherwise at the default address.
pub fn to_daemon(global: &GlobalArgs) -> Result<Client, CommandFailure> {
    let loaded = configuration(global);
    let token = loaded.as_ref().and_then(token);
    if let Some(address) = &global.address {
        return Ok(Client::new(parse(address)?, token));
    }
    let socket = loaded.as_ref().and_then(|loaded| loaded.control_socket().ok());
    match socket.filter(|socket| UnixStream::connect(socket).is_ok()) {
        // The socket's mode lets only the daemon's user connect, so that no token is needed.
        Some(socket) => Ok(Client::new(DaemonAddress::Unix(socket), None)),
        None => Ok(Client::new(parse(DEFAULT_ADDRESS)?, token)),
    }
}

fn parse(address: &str) -> Result<DaemonAddress, CommandFailure> {
    address.parse().map_err(|error| {
        CommandFailure::usage(error).next_step("write it as http://127.0.0.1:9888 or unix:/path/to/control.sock")
    })
}

/// The configuration. If it became invalid while the daemon runs, only the keys that lead to the daemon.
fn configuration(global: &GlobalArgs) -> Option<LoadedConfig> {
    LoadedConfig::find(global.config.as_deref())
        .or_else(|_| {
            if global.address.is_none() {
                eprintln!(
                    "warning: the configuration is invalid (see `llama-warden check`); only the daemon's state directory and token file are read from it"
                );
            }
            LoadedConfig::find_daemon(global.config.as_deref())
        })
        .ok()
}

fn token(loaded: &LoadedConfig) -> Option<String> {
    let path = loaded.configuration.daemon().token_file.as_ref()?;
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|token| !token.is_empty())
}

/// The failure of a command whose request failed.
pub fn request_failure(error: ClientError) -> CommandFailure {
    let exit = if matches!(error, ClientError::Unreachable { .. }) { Exit::NoDaemon } else { Exit::Failed };
    CommandFailure::new(exit, with_source(&error)).next_step(error.next_step())
}
