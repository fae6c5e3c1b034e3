//! The options of every command. The doc comments of fields are their help.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser as _, ValueParser};
use llama_warden_config::{Environment, ShellSpelling};

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct GlobalArgs {
    /// The configuration; else the first of ./llama-warden.toml, $XDG_CONFIG_HOME/llama-warden/config.toml,
    /// /etc/llama-warden/config.toml
    #[arg(long, short, global = true, value_name = "FILE", env = "LLAMA_WARDEN_CONFIG", value_parser = path())]
    pub config: Option<PathBuf>,
    /// The daemon: http://HOST:PORT or unix:PATH; else that of the configuration, by its control socket or its `listen`;
    /// without any configuration http://127.0.0.1:9888
    #[arg(long, global = true, value_name = "ADDRESS", env = "LLAMA_WARDEN_ADDRESS", value_parser = address)]
    pub address: Option<String>,
    /// The file with the token of the daemon at --address; the configuration's token is sent only to its own daemon
    #[arg(long, global = true, value_name = "FILE", value_parser = path())]
    pub token_file: Option<PathBuf>,
    /// Print data as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// Reads a path as it is, but refuses one with a `~` or `$NAME` that no shell expanded, as in `--config=~/FILE`.
pub fn path() -> ValueParser {
    PathBufValueParser::new().try_map(expanded_path).into()
}

fn expanded_path(path: PathBuf) -> Result<PathBuf, String> {
    let found = path.to_str().and_then(|text| ShellSpelling::in_path(text, &Environment::current()));
    found.map_or(Ok(path), |found| Err(format!("{}: {}", found.message(), found.help())))
}

/// Reads the address of a daemon; a path in it as [`path`] does, since no shell expands `unix:~/FILE`.
fn address(text: &str) -> Result<String, String> {
    text.strip_prefix("unix:").map_or(Ok(PathBuf::new()), |path| expanded_path(path.into()))?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Command;

    use super::*;

    #[test]
    fn a_path_that_a_shell_was_to_expand_is_refused() {
        assert_eq!(expanded_path("./~/x".into()), Ok("./~/x".into()));
        let refused = expanded_path("~/x".into()).expect_err("refused");
        assert!(refused.starts_with("only a shell expands `~`: write "), "{refused}");
        let given = GlobalArgs::augment_args(Command::new("x")).try_get_matches_from(["x", "--config=~/x"]);
        assert!(given.is_err_and(|error| error.to_string().contains("only a shell expands")));
        assert!(address("unix:~/control.sock").is_err_and(|error| error.contains("only a shell expands `~`")));
        for plain in ["unix:/run/control.sock", "http://127.0.0.1:9888"] {
            assert_eq!(address(plain).as_deref(), Ok(plain));
        }
    }
}
