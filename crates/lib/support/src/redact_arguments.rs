//! Finds secrets in a command line and replaces them before it is shown.

use std::borrow::Cow;

use crate::redact::{REDACTED, is_secret_name, mask, secrets_in};

/// The arguments with every secret replaced: values of options such as `--api-key VALUE` and `--api-key=VALUE`, and what is a
/// secret by its form.
pub fn masked_arguments(arguments: impl IntoIterator<Item = String>) -> impl Iterator<Item = String> {
    with_secrets(arguments).map(|(mut argument, secret_at)| {
        if let Some(start) = secret_at {
            argument.replace_range(start.., REDACTED);
            return argument;
        }
        match mask(&argument) {
            Cow::Owned(masked) => masked,
            Cow::Borrowed(_) => argument,
        }
    })
}

/// The secrets among the arguments; of a comma-separated list also each part.
pub fn argument_secrets(arguments: impl IntoIterator<Item = String>) -> Vec<String> {
    let secrets = with_secrets(arguments).map(|(argument, secret_at)| match secret_at {
        Some(start) => list_secrets(&argument[start..]),
        None => secrets_in(&argument),
    });
    secrets.flatten().collect()
}

/// Whether the value of the option `name`, without dashes, is a secret.
pub fn is_secret_option(name: &str) -> bool {
    name == "hft" || is_secret_name(name)
}

/// A secret, and each part of it if it is a comma-separated list.
pub fn list_secrets(value: &str) -> Vec<String> {
    let parts = value.split(',').map(|part| part.trim().to_owned());
    let is_list = value.contains(',');
    std::iter::once(value.to_owned()).chain(parts.filter(|_| is_list)).collect()
}

/// Each argument with the byte at which a secret starts in it, if one does.
fn with_secrets(arguments: impl IntoIterator<Item = String>) -> impl Iterator<Item = (String, Option<usize>)> {
    let mut is_value = false;
    arguments.into_iter().map(move |argument| {
        if std::mem::take(&mut is_value) {
            // A secret may itself look like an option: its position decides.
            return (argument, Some(0));
        }
        let name = argument.split_once('=').map(|(name, _)| name).filter(|name| names_secret(name));
        let secret_at = name.map(|name| name.len() + 1);
        is_value = secret_at.is_none() && names_secret(&argument);
        (argument, secret_at)
    })
}

/// Whether `argument` is an option whose value is a secret.
fn names_secret(argument: &str) -> bool {
    argument.starts_with('-') && is_secret_option(argument.trim_start_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fault S35.
    #[test]
    fn secret_values_are_replaced_and_nothing_else_is() {
        let cases = [
            ("--api-key sk-1 --port 1", "--api-key [redacted] --port 1"),
            ("--api-key=sk-1 -hft hf_1 --hf-token=hf_2", "--api-key=[redacted] -hft [redacted] --hf-token=[redacted]"),
            ("--api_key sk-1 --hf_token=hf_1", "--api_key [redacted] --hf_token=[redacted]"),
            ("--api-key-file /keys --ssl-key-file /key", "--api-key-file /keys --ssl-key-file /key"),
            ("--api-key --api-key", "--api-key [redacted]"),
            ("--model-url https://u:pw@h/m.gguf", "--model-url https://[redacted]@h/m.gguf"),
            (
                "--mcp-servers-json {\"h\":{\"Authorization\":\"Bearer_x\",\"X-Api-Key\":\"y\"}}",
                "--mcp-servers-json {\"h\":{\"Authorization\":\"[redacted]\",\"X-Api-Key\":\"[redacted]\"}}",
            ),
            ("--override-kv a=b token x --api-key", "--override-kv a=b token x --api-key"),
        ];
        for (line, expected) in cases {
            let redacted: Vec<String> = masked_arguments(line.split(' ').map(str::to_owned)).collect();
            assert_eq!(redacted.join(" "), expected);
        }
    }

    #[test]
    fn each_key_of_a_list_is_a_secret() {
        let line = "--api-key sk-1,sk-2 --hf-token=hf_1 --port 8001";
        assert_eq!(argument_secrets(line.split(' ').map(str::to_owned)), ["sk-1,sk-2", "sk-1", "sk-2", "hf_1"]);
    }
}
