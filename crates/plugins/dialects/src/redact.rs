//! Finds the secrets in the configuration of a server.

use llama_warden_config::ServerSpec;
use llama_warden_support::{argument_secrets, is_secret_option, list_secrets, secrets_in, variable_secrets};

use crate::flag_value;

/// The secrets in the configuration of a server: in its options, its arguments and its environment.
pub fn server_secrets(server: &ServerSpec) -> Vec<String> {
    let mut found = argument_secrets(server.args.iter().cloned());
    for (name, flag) in server.flags.iter() {
        for value in flag_value::texts(&flag.value) {
            found.extend(if is_secret_option(name) { list_secrets(&value) } else { secrets_in(&value) });
        }
    }
    found.extend(server.env.iter().flat_map(|(name, value)| variable_secrets(name, value)));
    found
}
