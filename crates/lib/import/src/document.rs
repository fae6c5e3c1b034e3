//! The configuration that is written, and what could not be.

use std::fmt::Write as _;

use toml::Value;

/// A configuration as text, and what of the other file is not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedConfig {
    /// The file, as TOML.
    pub toml: String,
    /// What has no counterpart, in the order in which it was met.
    pub left_out: Vec<LeftOut>,
}

/// A setting without a counterpart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Where it stands in the other file, such as `models.coder.cmdStop`.
    pub place: String,
    /// Why, and what to do instead.
    pub because: String,
}

/// Collects the parts of both, in the order of the file.
#[derive(Debug, Default)]
pub(crate) struct DocumentWriter {
    text: String,
    pub(crate) left_out: Vec<LeftOut>,
}

impl DocumentWriter {
    pub(crate) fn comment(&mut self, line: &str) {
        let _ = writeln!(self.text, "# {line}");
    }

    /// Begins a table: `[router]` or `[[servers]]`.
    pub(crate) fn table(&mut self, header: &str) {
        let _ = writeln!(self.text, "\n{header}");
    }

    /// Leaves these options of servers to the build: a command that was converted runs with its own options alone, and not with what a
    /// configuration without `[flags]` adds.
    pub(crate) fn leave_to_the_build(&mut self, options: &[String]) {
        self.table("[flags]");
        self.comment("What a server of this file does not set, its build decides, as before.");
        options.iter().for_each(|option| self.set(&quoted_key(option), "default"));
    }

    /// Sets a text that has to be on one line.
    pub(crate) fn set_line(&mut self, key: &str, text: String, place: &str) {
        if text.contains(['\n', '\r', '\0']) {
            self.leave_out(place, "it has a line break or a NUL character, for each of which a blank is written");
        }
        self.set(key, text.trim().replace(['\n', '\r', '\0'], " "));
    }

    pub(crate) fn set(&mut self, key: &str, value: impl Into<Value>) {
        let _ = writeln!(self.text, "{key} = {}", value.into());
    }

    pub(crate) fn leave_out(&mut self, place: impl Into<String>, because: impl Into<String>) {
        self.left_out.push(LeftOut { place: place.into(), because: because.into() });
    }

    pub(crate) fn finish(self) -> ImportedConfig {
        ImportedConfig { toml: self.text, left_out: self.left_out }
    }
}

/// A name as part of a header, quoted where TOML asks for it.
pub(crate) fn quoted_key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if is_bare { name.to_owned() } else { Value::from(name).to_string() }
}
