//! The environment as a value, so that nothing below reads global state and every test names its own.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Environment variables, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
}

impl Environment {
    /// The environment of this process.
    pub fn current() -> Self {
        std::env::vars_os().collect()
    }

    /// A variable's value. One that is set to nothing counts as unset, as in the XDG base directory specification.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// All variables, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.variables.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// A base directory: the variable's value if it is an absolute path, else `fallback` below `HOME`.
    pub fn base_dir(&self, variable: &str, fallback: &str) -> Option<PathBuf> {
        let absolute = |name| self.get(name).map(Path::new).filter(|path| path.is_absolute());
        absolute(variable).map(PathBuf::from).or_else(|| absolute("HOME").map(|home| home.join(fallback)))
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { variables }
    }
}

/// Where the daemon keeps its state when the configuration names no directory: `llama-warden` below
/// `$XDG_STATE_HOME` where that is set, else `/var/lib/llama-warden` for root, else below `$HOME/.local/state`.
/// `None` without a home directory.
pub fn default_state_dir(environment: &Environment, user: User) -> Option<PathBuf> {
    const NAME: &str = "llama-warden";
    match (environment.get("XDG_STATE_HOME"), user) {
        (None, User::Root) => Some(Path::new("/var/lib").join(NAME)),
        _ => environment.base_dir("XDG_STATE_HOME", ".local/state").map(|base| base.join(NAME)),
    }
}

/// The user that runs the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// Effective user id 0.
    Root,
    /// Anybody else.
    Ordinary,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state_dir(variables: &[(&str, &str)], user: User) -> Option<String> {
        let environment = variables.iter().copied().collect();
        default_state_dir(&environment, user).map(|path| path.display().to_string())
    }

    #[test]
    fn the_state_directory_follows_xdg_and_the_user() {
        let home = ("HOME", "/home/u");
        let xdg = ("XDG_STATE_HOME", "/state");
        assert_eq!(state_dir(&[home, xdg], User::Ordinary).as_deref(), Some("/state/llama-warden"));
        assert_eq!(state_dir(&[home], User::Ordinary).as_deref(), Some("/home/u/.local/state/llama-warden"));
        assert_eq!(state_dir(&[home], User::Root).as_deref(), Some("/var/lib/llama-warden"));
        assert_eq!(state_dir(&[xdg], User::Root).as_deref(), Some("/state/llama-warden"));
        assert_eq!(
            state_dir(&[home, ("XDG_STATE_HOME", "relative")], User::Ordinary),
            state_dir(&[home], User::Ordinary)
        );
        assert_eq!(state_dir(&[], User::Ordinary), None);
    }
}
