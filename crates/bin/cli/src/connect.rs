//! The daemon that a command talks to.

use std::os::unix::net::UnixStream;

use llama_warden_api::client::{Address, Client, ClientError};
use llama_warden_daemon::{CommandFailure, Exit, LoadedConfig};

use crate::args::GlobalArgs;

/// Where a daemon listens when nothing says otherwise.
const DEFAULT_ADDRESS: &str = "http://127.0.0.1:9888";

/// The client of the daemon that is meant: the named address, else the control socket of the configuration if somebody
/// answers there, else the default address.
pub fn to_daemon(global: &GlobalArgs) -> Result<Client, CommandFailure> {
    let loaded = configuration(global);
    let token = loaded.as_ref().and_then(token);
    if let Some(address) = &global.address {
        return Ok(Client::new(parse(address)?, token));
    }
    let socket = loaded.as_ref().and_then(|loaded| loaded.control_socket().ok());
    match socket.filter(|socket| UnixStream::connect(socket).is_ok()) {
        Some(socket) => Ok(Client::new(Address::Unix(socket), None)),
        None => Ok(Client::new(parse(DEFAULT_ADDRESS)?, token)),
    }
}

fn parse(address: &str) -> Result<Address, CommandFailure> {
    address.parse().map_err(|error| {
        CommandFailure::new(Exit::Usage, error)
            .next_step("write it as http://127.0.0.1:9888 or unix:/path/to/control.sock")
    })
}

/// A configuration that became invalid while the daemon runs must not keep people from talking to it.
fn configuration(global: &GlobalArgs) -> Option<LoadedConfig> {
    LoadedConfig::find(global.config.as_deref())
        .or_else(|_| {
            if global.address.is_none() {
                eprintln!(
                    "warning: the configuration is invalid (see `llama-warden check`); only the way to the daemon is taken from it"
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

/// What a failed request means for the exit code.
pub fn request_failure(error: ClientError) -> CommandFailure {
    let exit = if matches!(error, ClientError::Unreachable { .. }) { Exit::NoDaemon } else { Exit::Failed };
    let source = std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
    CommandFailure::new(exit, format!("{error}{source}")).next_step(error.next_step())
}
