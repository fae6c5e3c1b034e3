//! The command line of a llama-server, taken apart: what the configuration has keys for, options, and the rest.

use std::collections::BTreeMap;

use llama_warden_fleet::is_repository;
use toml::Value;

use crate::addresses::ServerAddresses;
use crate::document::DocumentWriter;

/// The short spellings that every build has had, and the long ones.
const LONG_NAMES: [(&str, &str); 16] = [
    ("-m", "model"),
    ("-hf", "hf-repo"),
    ("-hfr", "hf-repo"),
    ("-a", "alias"),
    ("-c", "ctx-size"),
    ("-n", "n-predict"),
    ("-t", "threads"),
    ("-tb", "threads-batch"),
    ("-b", "batch-size"),
    ("-ub", "ubatch-size"),
    ("-ngl", "n-gpu-layers"),
    ("-np", "parallel"),
    ("-fa", "flash-attn"),
    ("-ctk", "cache-type-k"),
    ("-ctv", "cache-type-v"),
    ("-md", "model-draft"),
];

/// What stands for a port that is chosen when the server starts. It is no text that a command has.
pub(crate) const PORT: &str = "\u{0}port\u{0}";

/// Most characters of a command that a reason repeats.
const LONGEST_SHOWN: usize = 30;

/// Options that a configuration has keys for, and that need a value.
const WITH_A_VALUE: [&str; 8] =
    ["model", "hf-repo", "port", "host", "alias", "api-key", "api-key-file", "sleep-idle-seconds"];

/// Options that no server of a configuration has, and what is said of them. llama-warden passes the others of this kind itself.
const NOT_OF_A_SERVER: [(&str, &str); 1] =
    [("models-dir", "each server has one model; `models.dirs` names folders of models")];

/// Longest time that a configuration takes, in seconds: a year.
pub(crate) const LONGEST_SECONDS: i64 = 365 * 24 * 60 * 60;

/// What is said of a time that is none.
pub(crate) const NO_SECONDS: &str = "its value is no number of seconds from 0 to 31536000, which is a year";

/// What a command line says.
#[derive(Debug, Default)]
pub(crate) struct ServerCommand {
    pub(crate) binary: String,
    /// The file, or `hf:` and a repository.
    pub(crate) model: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) host: Option<String>,
    pub(crate) aliases: Vec<String>,
    /// Idle seconds after which the server sleeps.
    pub(crate) sleep_after: Option<i64>,
    flags: BTreeMap<String, Value>,
    args: Vec<String>,
}

/// A command without its lines of comments.
pub(crate) fn without_comments(command: &str) -> String {
    let lines = command.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.collect::<Vec<_>>().join("\n")
}

/// Splits a command as a shell would, with continued lines joined.
///
/// # Errors
/// Why it cannot be split, or has a word that no argument can be.
pub(crate) fn words(command: &str) -> Result<Vec<String>, String> {
    let joined: Vec<&str> = command.lines().map(|line| line.trim_end().strip_suffix('\\').unwrap_or(line)).collect();
    let joined = joined.join(" ");
    let words = shlex::split(&joined).ok_or_else(|| {
        let open = open_quote(&joined).unwrap_or_default();
        format!("a quote in it is never closed: {open}; close it, or write a backslash before a quote that is meant as it is")
    })?;
    if words.iter().any(|word| word.replace(PORT, "").contains(['\n', '\r', '\0'])) {
        return Err("a word of it has a line break or a NUL character".to_owned());
    }
    Ok(words)
}

/// The quote that is never closed and what follows it, shortened.
fn open_quote(command: &str) -> Option<String> {
    let mut open = None;
    let mut characters = command.char_indices();
    while let Some((at, c)) = characters.next() {
        match (open, c) {
            (None | Some((_, '"')), '\\') => drop(characters.next()),
            (None, '"' | '\'') => open = Some((at, c)),
            (Some((_, quote)), c) if c == quote => open = None,
            _ => {}
        }
    }
    let (at, _) = open?;
    let shown: String = command[at..].chars().take(LONGEST_SHOWN).collect();
    Some(if shown.len() < command.len() - at { format!("{shown}…") } else { shown })
}

/// Whether a program is a llama-server, by its file name.
pub(crate) fn is_llama_server(program: &str) -> bool {
    program.rsplit(['/', '\\']).next().is_some_and(|name| name.contains("llama-server"))
}

impl ServerCommand {
    /// A command without options.
    pub(crate) fn of(binary: &str) -> Self {
        Self { binary: binary.to_owned(), ..Self::default() }
    }

    /// Takes the words of a command apart. `place` is for what is left out.
    pub(crate) fn parse(words: &[String], place: &str, document: &mut DocumentWriter) -> Self {
        let mut command = Self { binary: words.first().cloned().unwrap_or_default(), ..Self::default() };
        let mut rest = words.iter().skip(1).peekable();
        while let Some(word) = rest.next() {
            let (name, own_value) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => (word.as_str(), None),
            };
            let Some(option) = option_name(name) else {
                // The value of an option stands behind it as it came, and so does what is no option.
                command.args.push(word.clone());
                if let Some(value) = rest.next_if(|next| is_value(next)) {
                    command.args.push(value.clone());
                }
                continue;
            };
            let value = own_value.or_else(|| rest.next_if(|next| is_value(next)).cloned());
            command.set(option, value, place, document);
        }
        command
    }

    fn set(&mut self, option: &str, value: Option<String>, place: &str, document: &mut DocumentWriter) {
        let listed = format!("{place}: --{option}");
        match (option, value) {
            (option, None) if option != "api-key" && WITH_A_VALUE.contains(&option) => {
                document.leave_out(listed, "it has no value");
            }
            ("model", Some(path)) => self.model = Some(path),
            ("hf-repo", Some(repository)) => self.model = Some(format!("hf:{repository}")),
            ("port", Some(port)) => {
                self.port = port.parse().ok().filter(|port| *port > 0);
                // 0 is any free port, which is what a server without one gets.
                if self.port.is_none() && port != "0" {
                    document.leave_out(listed, format!("`{}` is no port from 1 to 65535", port.escape_debug()));
                }
            }
            ("host", Some(host)) => self.host = Some(host),
            ("alias", Some(aliases)) => self.aliases.extend(aliases.split(',').map(|alias| alias.trim().to_owned())),
            ("sleep-idle-seconds", Some(seconds)) => match seconds.parse::<i64>() {
                Ok(seconds) if seconds <= LONGEST_SECONDS => {
                    self.sleep_after = Some(seconds).filter(|seconds| *seconds >= 0)
                }
                _ => document.leave_out(listed, NO_SECONDS),
            },
            ("api-key", _) => document.leave_out(
                listed,
                "a key is not written into a file that others may read: put it into a file of its own and name that as \
                 `api-key-file`",
            ),
            ("api-key-file", Some(file)) => {
                self.flags.insert("api-key-file".to_owned(), file.into());
            }
            (option, value) => {
                if let Some((_, because)) = NOT_OF_A_SERVER.iter().find(|(name, _)| *name == option) {
                    return document.leave_out(listed, *because);
                }
                self.set_flag(option, value);
            }
        }
    }

    fn set_flag(&mut self, option: &str, value: Option<String>) {
        // What a table of flags cannot have stays as it was written.
        if value.as_ref().is_some_and(|value| value.starts_with("--")) || !is_flag_name(option) {
            self.args.push(format!("--{option}"));
            self.args.extend(value);
            return;
        }
        let value = value.map_or(Value::Boolean(true), |value| scalar(&value));
        // Given twice, such as `--lora a --lora b`: both are meant. One that is on is on, though it stands there twice.
        let values = match self.flags.remove(option) {
            None | Some(Value::Boolean(_)) => value,
            Some(before) if value.is_bool() => before,
            Some(Value::Array(mut values)) => {
                values.push(value);
                Value::Array(values)
            }
            Some(first) => Value::Array(vec![first, value]),
        };
        self.flags.insert(option.to_owned(), values);
    }

    /// An option of a file of presets.
    pub(crate) fn set_preset(&mut self, option: &str, value: String, place: &str, document: &mut DocumentWriter) {
        let is_on = match value.as_str() {
            "true" | "on" | "enabled" | "" => true,
            "false" | "off" | "disabled" => false,
            _ if option.len() > 3 || option.contains('-') => return self.set(option, Some(value), place, document),
            // A short name that not every build has.
            _ => return self.args.extend([format!("-{option}"), value]),
        };
        let needs_value = WITH_A_VALUE.contains(&option) || NOT_OF_A_SERVER.iter().any(|(name, _)| *name == option);
        if needs_value || !is_flag_name(option) {
            self.set(option, Some(value).filter(|value| !value.is_empty()), place, document);
        } else {
            // On or off, however its build wants that.
            self.flags.insert(option.to_owned(), is_on.into());
        }
    }

    /// Why no server can have its model, or that it has none.
    pub(crate) fn model_problem(&self) -> Option<String> {
        let advice = "`-m FILE` or `-hf ORG/REPO` does";
        let Some(model) = &self.model else { return Some(format!("its command names no model; {advice}")) };
        let shown = model.escape_debug();
        match model.strip_prefix("hf:") {
            Some(repository) if is_repository(repository) => None,
            Some(_) => Some(format!("`{shown}` is no repository of Hugging Face, such as hf:ORG/REPO:QUANT")),
            None if model.is_empty() => Some(format!("the name of its model is empty; {advice}")),
            None if model.contains("://") => {
                Some(format!("`{shown}` is a URL, and a model is a file or a repository; {advice}"))
            }
            None if model.starts_with('-') && model.contains(' ') => {
                Some(format!("`{shown}` is an option, and not the name of a model; {advice}"))
            }
            None => None,
        }
    }

    /// Leaves out what another server listens on.
    pub(crate) fn take_addresses(
        &mut self,
        addresses: &mut ServerAddresses,
        place: &str,
        document: &mut DocumentWriter,
    ) {
        self.port = self.port.and_then(|port| addresses.take_port(port, place, document));
        self.host = self.host.take().and_then(|host| addresses.take_host(host, place, document));
    }

    /// Writes the keys of a server but its id.
    pub(crate) fn write(mut self, document: &mut DocumentWriter) {
        document.set("binary", self.binary);
        if let Some(model) = self.model {
            document.set("model", model);
        }
        if let Some(port) = self.port {
            document.set("port", i64::from(port));
        }
        if let Some(host) = self.host {
            document.set("host", host);
        }
        if let Some(file) = self.flags.remove("api-key-file") {
            document.set("api-key-file", file);
        }
        if !self.flags.is_empty() {
            document.set("flags", Value::Table(self.flags.into_iter().collect()));
        }
        if !self.args.is_empty() {
            document.set("args", self.args);
        }
    }
}

/// Whether a table of flags can have an option of this name. Short names are none.
fn is_flag_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let is_short = matches!(name, "m" | "hf" | "hfr");
    !is_short && !name.is_empty() && !name.starts_with('-') && name.bytes().all(allowed)
}

/// The long spelling of an option without its dashes.
pub(crate) fn long_name(option: &str) -> &str {
    let long = LONG_NAMES.iter().find(|(short, _)| short.strip_prefix('-') == Some(option));
    long.map_or(option, |(_, long)| long)
}

/// The long name of an option; `None` for a short one that not every build has, and for what is none.
fn option_name(word: &str) -> Option<&str> {
    let long = LONG_NAMES.iter().find(|(short, _)| *short == word).map(|(_, long)| *long);
    long.or_else(|| word.strip_prefix("--").filter(|name| name.len() > 1))
}

/// Whether a word is the value of the option before it: it is none itself, though it may be a negative number.
fn is_value(word: &str) -> bool {
    !word.starts_with('-') || word.parse::<f64>().is_ok()
}

/// A number where the text is one.
pub(crate) fn scalar(text: &str) -> Value {
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text => Value::Integer(number),
        _ => match text.parse::<f64>() {
            Ok(number) if number.is_finite() && text.contains('.') => Value::Float(number),
            _ => Value::String(text.to_owned()),
        },
    }
}
