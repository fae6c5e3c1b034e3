//! Finds secrets in a command line and keeps them from being shown.

/// What stands in place of a secret.
pub const REDACTED: &str = "[redacted]";

/// The arguments with every secret value replaced, `--api-key VALUE` and `--api-key=VALUE` alike.
pub fn arguments(arguments: impl IntoIterator<Item = String>) -> impl Iterator<Item = String> {
    let mut is_secret = false;
    arguments.into_iter().map(move |argument| {
        if std::mem::take(&mut is_secret) {
            return REDACTED.to_owned();
        }
        match argument.split_once('=') {
            Some((name, _)) if names_secret(name) => format!("{name}={REDACTED}"),
            _ => {
                is_secret = names_secret(&argument);
                argument
            }
        }
    })
}

/// The secret values among the arguments; a list of several gives each.
pub(crate) fn secrets(arguments: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut secrets = Vec::new();
    let mut is_secret = false;
    for argument in arguments {
        if std::mem::take(&mut is_secret) {
            add_secret(&mut secrets, &argument);
        } else if let Some((_, value)) = argument.split_once('=').filter(|(name, _)| names_secret(name)) {
            add_secret(&mut secrets, value);
        } else {
            is_secret = names_secret(&argument);
        }
    }
    secrets
}

/// Whether the value of an environment variable of this name is a secret.
pub fn is_secret_variable(name: &str) -> bool {
    ["KEY", "TOKEN", "SECRET", "PASSWORD"].iter().any(|suffix| name.to_ascii_uppercase().ends_with(suffix))
}

/// Whether `argument` is an option whose value is a secret.
fn names_secret(argument: &str) -> bool {
    argument.starts_with('-') && is_secret_option(argument.trim_start_matches('-'))
}

/// Whether the value of the option of this name, without dashes, is a secret.
pub(crate) fn is_secret_option(name: &str) -> bool {
    name == "hft" || ["api-key", "token", "secret", "password"].iter().any(|end| name.ends_with(end))
}

/// Adds a value, and where it is a list each of its parts.
pub(crate) fn add_secret(secrets: &mut Vec<String>, value: &str) {
    secrets.push(value.to_owned());
    if value.contains(',') {
        secrets.extend(value.split(',').map(|part| part.trim().to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_values_are_replaced_and_nothing_else_is() {
        let cases = [
            ("--api-key sk-1 --port 1", "--api-key [redacted] --port 1"),
            ("--api-key=sk-1 -hft hf_1 --hf-token=hf_2", "--api-key=[redacted] -hft [redacted] --hf-token=[redacted]"),
            ("--api-key-file /keys --ssl-key-file /key", "--api-key-file /keys --ssl-key-file /key"),
            ("--api-key --api-key", "--api-key [redacted]"),
            ("--override-kv a=b token x --api-key", "--override-kv a=b token x --api-key"),
        ];
        for (line, expected) in cases {
            let redacted: Vec<String> = arguments(line.split(' ').map(str::to_owned)).collect();
            assert_eq!(redacted.join(" "), expected);
        }
    }

    #[test]
    fn each_key_of_a_list_is_a_secret() {
        let line = "--api-key sk-1,sk-2 --hf-token=hf_1 --port 8001";
        assert_eq!(secrets(line.split(' ').map(str::to_owned)), ["sk-1,sk-2", "sk-1", "sk-2", "hf_1"]);
    }
}
