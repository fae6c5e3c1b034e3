//! Reads the list of options out of `llama-server --help`.
//!
//! The format, as recorded from builds of 2023 to 2026 (`tests/fixtures/transcripts`): a line that names options starts with
//! them, indented by at most 9 columns, and separates them by `, ` and padding. A value follows the last name after exactly
//! one space (in 2023 it follows each name: `-t N, --threads N`). The description follows after two or more spaces, or on
//! further lines that are indented by at least 32 columns.
//!
//! Invariant: text in another format gives an empty list, never an error. The caller decides what that means.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The kind of value that an option takes, according to its placeholder in the help text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// No value: the option is a bare switch.
    Nothing,
    /// `on` or `off`, perhaps further words: `[on|off|auto]`.
    OnOff,
    /// `0` or `1`: `<0|1>`.
    ZeroOne,
    /// Any value, or several.
    Value,
}

/// The long options that a build lists, by name without dashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OptionList {
    /// Sorted. Events share this allocation: a build of 2026 lists more than 300 names.
    names: Arc<[String]>,
    /// One entry per name, in the same order.
    kinds: Box<[ValueKind]>,
    hosts: HostForms,
}

/// What a build listens on, according to what its help says about `--host`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HostForms {
    /// The help does not say.
    #[default]
    Unknown,
    /// Addresses alone: builds until early 2025.
    Addresses,
    /// Addresses and unix sockets.
    AddressesAndSockets,
}

/// Deepest indentation, in columns, of a line that names options. Descriptions start at column 32.
const MAX_INDENT: usize = 12;

impl OptionList {
    /// Reads a help text. A text without options gives an empty list.
    pub fn parse(help: &str) -> Self {
        let listed: BTreeMap<String, ValueKind> = help.lines().flat_map(options_of_line).collect();
        let (names, kinds): (Vec<_>, Vec<_>) = listed.into_iter().unzip();
        Self { names: names.into(), kinds: kinds.into(), hosts: host_forms(help) }
    }

    /// What the build listens on.
    pub const fn hosts(&self) -> HostForms {
        self.hosts
    }

    /// Whether the build lists `--name`.
    pub fn lists(&self, name: &str) -> bool {
        self.value_kind(name).is_some()
    }

    /// The kind of value that `--name` takes; `None` if the build does not list it.
    pub fn value_kind(&self, name: &str) -> Option<ValueKind> {
        let index = self.names.binary_search_by(|known| known.as_str().cmp(name)).ok()?;
        self.kinds.get(index).copied()
    }

    /// All names without dashes, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// All names without dashes, sorted, as a shared allocation.
    pub fn shared_names(&self) -> Arc<[String]> {
        self.names.clone()
    }

    /// Whether the list has no option, because the text was not a help text.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// Reads the description of `--host`, which ends where the next option begins.
fn host_forms(help: &str) -> HostForms {
    let mut lines = help.lines().skip_while(|line| !options_of_line(line).iter().any(|(name, _)| name == "host"));
    let Some(first) = lines.next() else { return HostForms::Unknown };
    let mut description = std::iter::once(first).chain(lines.take_while(|line| options_of_line(line).is_empty()));
    match description.any(|line| line.contains(".sock") || line.to_ascii_lowercase().contains("unix")) {
        true => HostForms::AddressesAndSockets,
        false => HostForms::Addresses,
    }
}

/// Reads the options that one line of the help text names; all of them take the value that follows the last name.
fn options_of_line(line: &str) -> Vec<(String, ValueKind)> {
    let mut rest = line.trim_start_matches(' ');
    if line.len() - rest.len() > MAX_INDENT {
        return Vec::new();
    }
    let mut names = Vec::new();
    while let Some(length) = name_length(rest) {
        let (name, after) = rest.split_at(length);
        names.push(name);
        match after.strip_prefix(',').or_else(|| skip_value(after)) {
            Some(after) => rest = after.trim_start_matches(' '),
            None => {
                rest = after;
                break;
            }
        }
    }
    let kind = placeholder(rest).map_or(ValueKind::Nothing, value_kind_of);
    let long_names = names.into_iter().filter_map(|name| name.strip_prefix("--"));
    long_names.map(|name| (name.to_owned(), kind)).collect()
}

/// Skips a value that stands between two names, as in `-t N, --threads N`; `None` if no other name follows.
fn skip_value(after_name: &str) -> Option<&str> {
    let (value, rest) = after_name.strip_prefix(' ')?.split_once(' ')?;
    let is_value = !value.is_empty() && !value.starts_with('-');
    (is_value && name_length(rest).is_some()).then_some(rest)
}

/// The length in bytes of the option name that `text` starts with: dashes, a letter, then letters, digits, `-`, `_` or `.`.
fn name_length(text: &str) -> Option<usize> {
    let name = text.strip_prefix("--").or_else(|| text.strip_prefix('-'))?;
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let end = name.find(|c| !is_part(c)).unwrap_or(name.len());
    name.starts_with(|c: char| c.is_ascii_alphabetic()).then_some(text.len() - name.len() + end)
}

/// The placeholder of the value, which follows the last name after exactly one space.
fn placeholder(after_names: &str) -> Option<&str> {
    let text = after_names.strip_prefix(' ')?;
    (!text.is_empty() && !text.starts_with(' ')).then(|| text.split("  ").next().unwrap_or(text))
}

fn value_kind_of(placeholder: &str) -> ValueKind {
    let choices: Vec<&str> = placeholder.trim_matches(['[', ']', '<', '>', '{', '}']).split(['|', ',']).collect();
    if choices.contains(&"on") && choices.contains(&"off") {
        ValueKind::OnOff
    } else if choices == ["0", "1"] {
        ValueKind::ZeroOne
    } else {
        ValueKind::Value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn every_recorded_help_text_is_read_in_full() {
        for (build, count) in fixtures::HELP_OPTION_COUNTS {
            let list = OptionList::parse(&fixtures::help(build));
            assert_eq!(list.names().count(), count, "{build}");
            for name in ["model", "host", "port", "ctx-size", "threads", "api-key"] {
                assert_eq!(list.value_kind(name), Some(ValueKind::Value), "{build} --{name}");
            }
            for name in ["help", "version", "metrics", "log-disable"] {
                assert_eq!(list.value_kind(name), Some(ValueKind::Nothing), "{build} --{name}");
            }
        }
    }

    #[test]
    fn an_option_takes_what_its_build_says() {
        let cases = [
            ("2024-07-py0.2.80", "flash-attn", Some(ValueKind::Nothing)),
            ("2025-08-py0.3.16", "flash-attn", Some(ValueKind::Nothing)),
            ("b11669-debian", "flash-attn", Some(ValueKind::OnOff)),
            ("b11669-debian", "cpu-strict", Some(ValueKind::ZeroOne)),
            ("b11669-debian", "poll", Some(ValueKind::Value)),
            ("b11669-debian", "no-perf", Some(ValueKind::Nothing)),
            ("2024-07-py0.2.80", "lookup-cache-static", Some(ValueKind::Value)),
            ("2024-07-py0.2.80", "in-file", Some(ValueKind::Value)),
            ("2025-08-py0.3.16", "no-mmap", Some(ValueKind::Nothing)),
            ("b11669-debian", "no-mmap", None),
            ("b11669-debian", "load-mode", Some(ValueKind::Value)),
            ("2025-08-py0.3.16", "load-mode", None),
            ("b11669-debian", "n-gpu-layers", Some(ValueKind::Value)),
            ("b11669-debian", "gpu-layers", Some(ValueKind::Value)),
        ];
        for (build, name, takes) in cases {
            assert_eq!(OptionList::parse(&fixtures::help(build)).value_kind(name), takes, "{build} --{name}");
        }
    }

    #[test]
    fn the_help_says_whether_a_build_listens_on_unix_sockets() {
        for (build, hosts) in [
            ("2023-12-py0.2.26", HostForms::Addresses),
            ("2024-07-py0.2.80", HostForms::Addresses),
            ("2024-11-py0.3.2", HostForms::Addresses),
            ("2025-08-py0.3.16", HostForms::AddressesAndSockets),
            ("b11669-debian", HostForms::AddressesAndSockets),
        ] {
            assert_eq!(OptionList::parse(&fixtures::help(build)).hosts(), hosts, "{build}");
        }
        assert_eq!(OptionList::parse("  --port N   x\n").hosts(), HostForms::Unknown);
    }

    #[test]
    fn a_value_may_stand_behind_each_name() {
        let of_2023 = OptionList::parse(&fixtures::help("2023-12-py0.2.26"));
        assert_eq!(of_2023.names().count(), 32);
        for name in ["threads", "ctx-size", "batch-size", "model", "port", "timeout"] {
            assert_eq!(of_2023.value_kind(name), Some(ValueKind::Value), "{name}");
        }
        assert_eq!(of_2023.value_kind("no-mmap"), Some(ValueKind::Nothing));
        let list = OptionList::parse(
            "  -t N, --threads N         number of threads\n  -ts SPLIT --tensor-split SPLIT\n  -cb, --cont-batching      x\n\
             --numa          -1 is no option\n",
        );
        assert_eq!(list.names().collect::<Vec<_>>(), ["cont-batching", "numa", "tensor-split", "threads"]);
        assert_eq!(list.value_kind("threads"), Some(ValueKind::Value));
        assert_eq!(list.value_kind("cont-batching"), Some(ValueKind::Nothing));
    }

    #[test]
    fn text_that_is_no_help_lists_nothing() {
        for text in ["", "error: unknown argument: --help\n", "- none: one\n-- two\n--- three", "\u{fffd}\0"] {
            assert!(OptionList::parse(text).is_empty(), "{text:?}");
        }
    }
}
