//! The command line of a llama-server, taken apart: what the configuration has keys for, options, and the rest.

use std::collections::BTreeMap;

use toml::Value;

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
    pub(crate) sleep_after: Option<u64>,
    flags: BTreeMap<String, Value>,
    args: Vec<String>,
}

/// A command without its lines of comments.
pub(crate) fn without_comments(command: &str) -> String {
    let lines = command.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.collect::<Vec<_>>().join("\n")
}

/// Splits a command as a shell would, with continued lines joined.
pub(crate) fn words(command: &str) -> Option<Vec<String>> {
    let joined: Vec<&str> = command.lines().map(|line| line.trim_end().strip_suffix('\\').unwrap_or(line)).collect();
    shlex::split(&joined.join(" "))
}

/// Whether a program is a llama-server, by its file name.
pub(crate) fn is_llama_server(program: &str) -> bool {
    program.rsplit(['/', '\\']).next().is_some_and(|name| name.contains("llama-server"))
}

impl ServerCommand {
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
        match (option, value) {
            ("model", Some(path)) => self.model = Some(path),
            ("hf-repo", Some(repository)) => self.model = Some(format!("hf:{repository}")),
            ("port", port) => self.port = port.and_then(|port| port.parse().ok()),
            ("host", Some(host)) => self.host = Some(host),
            ("alias", Some(aliases)) => self.aliases.extend(aliases.split(',').map(|alias| alias.trim().to_owned())),
            ("sleep-idle-seconds", Some(seconds)) => self.sleep_after = seconds.parse().ok(),
            ("api-key", Some(_)) => document.leave_out(
                format!("{place}: --api-key"),
                "a key is not written into a file that others may read: put it into a file of its own and name that as \
                 `api-key-file`",
            ),
            ("api-key-file", Some(file)) => {
                self.flags.insert("api-key-file".to_owned(), file.into());
            }
            (option, value) => {
                let value = value.map_or(Value::Boolean(true), |value| scalar(&value));
                // Given twice, such as `--lora a --lora b`: both are meant.
                match self.flags.remove(option) {
                    None => self.flags.insert(option.to_owned(), value),
                    Some(Value::Array(mut values)) => {
                        values.push(value);
                        self.flags.insert(option.to_owned(), Value::Array(values))
                    }
                    Some(first) => self.flags.insert(option.to_owned(), Value::Array(vec![first, value])),
                };
            }
        }
    }

    /// An option that is on or off, however its build wants that.
    pub(crate) fn switch(&mut self, option: &str, is_on: bool) {
        self.flags.insert(option.to_owned(), is_on.into());
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
