//! The verbatim arguments of a server as llama-server reads them, and the place where a setting is written.

use crate::server_spec::{FlagValue, ServerSpec};

/// The option that unloads the model of an idle server; below zero it is off, as it is by default.
const SLEEP_OPTION: &str = "sleep-idle-seconds";

/// Where the setting of a server is written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum WrittenAt {
    /// A key of the server itself, or of the section that all servers share.
    Key(&'static str),
    /// An option in `flags` of the server, of the profile, or of all servers.
    Flag(String),
    /// An element of `args`, those of all servers first.
    Argument(usize),
    /// A variable in `env`.
    Variable(String),
}

/// An option among verbatim arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenOption<'a> {
    /// The index of the argument.
    pub index: usize,
    /// Its name without dashes in front. llama-server takes `_` for `-` in long names.
    pub name: String,
    /// Its value: what follows `=`, or the next argument unless that is an option itself.
    pub value: Option<&'a str>,
}

/// The options among verbatim arguments. A negative number is a value.
pub fn written_options(args: &[String]) -> impl DoubleEndedIterator<Item = WrittenOption<'_>> {
    args.iter().enumerate().filter(|(_, argument)| is_option(argument)).map(|(index, argument)| {
        let (name, joined) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (argument.as_str(), None),
        };
        let name = match name.strip_prefix("--") {
            Some(long) => long.replace('_', "-"),
            None => name.trim_start_matches('-').to_owned(),
        };
        let next = args.get(index + 1).map(String::as_str).filter(|next| !is_option(next));
        WrittenOption { index, name, value: joined.or(next) }
    })
}

fn is_option(argument: &str) -> bool {
    let name = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'));
    name.is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()))
}

impl ServerSpec {
    /// The value of an option among the verbatim arguments, under any of its `names`; the last one, which llama-server takes.
    pub fn argument(&self, names: &[&str]) -> Option<&str> {
        written_options(&self.args).rev().find(|option| names.contains(&option.name.as_str()))?.value
    }

    /// Whether an option or a variable has it unload its model while it is idle, if its build can.
    pub fn may_sleep(&self) -> bool {
        let sleeps = |value: &str| !value.trim().starts_with('-');
        let flag = match self.flags.get(SLEEP_OPTION).map(|flag| &flag.value) {
            Some(FlagValue::Integer(seconds)) => Some(*seconds >= 0),
            Some(FlagValue::Text(seconds)) => Some(seconds != "default" && sleeps(seconds)),
            Some(_) => Some(true),
            None => None,
        };
        let variable = || self.env.get("LLAMA_ARG_SLEEP_IDLE_SECONDS").is_some_and(|seconds| sleeps(seconds));
        self.argument(&[SLEEP_OPTION]).map(sleeps).or(flag).unwrap_or_else(variable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_found_in_every_spelling_that_llama_server_or_a_wrapper_takes() {
        let args =
            ["--ctx_size", "512", "-a", "x,y", "--port=8099", "--verbose", "-ngl", "-1", "--", "-", "--api-key", "--x"];
        let args = args.map(str::to_owned);
        let found: Vec<_> =
            written_options(&args).map(|option| (option.index, option.name.clone(), option.value)).collect();
        let expected = [
            (0, "ctx-size", Some("512")),
            (2, "a", Some("x,y")),
            (4, "port", Some("8099")),
            (5, "verbose", None),
            (6, "ngl", Some("-1")),
            (10, "api-key", None),
            (11, "x", None),
        ];
        assert_eq!(found, expected.map(|(index, name, value)| (index, name.to_owned(), value)));
    }
}
