//! Where the API keys of a server come from.

use std::fmt;
use std::path::PathBuf;

use llama_warden_support::KeyFile;

use crate::arguments::{WrittenAt, written_options};
use crate::server_spec::{FlagValue, ServerSpec};

/// Keys that a server requires of clients: a file, or a list.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySource {
    /// Where they are written.
    pub at: WrittenAt,
    content: KeyContent,
}

#[derive(Clone, PartialEq, Eq)]
enum KeyContent {
    File(PathBuf),
    /// Keys, each of them a comma-separated list.
    Texts(Vec<String>),
}

/// What is wrong with a key file with comments and a build that takes them for keys, and what to do.
pub const COMMENTS_ARE_KEYS: [&str; 2] = [
    "this build takes each line of the key file that begins with # for a key, and answers whoever sends it",
    "remove these lines from the key file, or use a newer build",
];

/// Why a server cannot be protected by its keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the key file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the kernel.
        source: std::io::Error,
    },
    /// The file has no key: llama-server would answer everybody.
    #[error("the key file {} has no key, and the server would answer everybody; write one key a line, or remove it from the configuration", .0.display())]
    EmptyFile(PathBuf),
    /// The list has no key.
    #[error(
        "`{0}` has no key, and the server would answer everybody; write a key, or remove it from the configuration"
    )]
    EmptyList(String),
}

impl KeySource {
    /// The keys in a file.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { at: WrittenAt::Key("api-key-file"), content: KeyContent::File(path.into()) }
    }

    /// Whether the keys stand in a file, which may change until the launch.
    pub fn is_file(&self) -> bool {
        matches!(self.content, KeyContent::File(_))
    }

    /// Reads the keys; at least one.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn read(&self) -> Result<KeyFile, KeyError> {
        match &self.content {
            KeyContent::File(path) => {
                let keys = KeyFile::read(path).map_err(|source| KeyError::Unreadable { path: path.clone(), source })?;
                if keys.keys.is_empty() { Err(KeyError::EmptyFile(path.clone())) } else { Ok(keys) }
            }
            KeyContent::Texts(texts) => {
                let keys = texts.iter().flat_map(|text| text.split(',')).map(str::trim);
                let keys: Vec<String> = keys.filter(|key| !key.is_empty()).map(str::to_owned).collect();
                let name = match &self.at {
                    WrittenAt::Variable(name) => name,
                    _ => "api-key",
                };
                if keys.is_empty() {
                    return Err(KeyError::EmptyList(name.to_owned()));
                }
                Ok(KeyFile { keys, ..KeyFile::default() })
            }
        }
    }
}

impl ServerSpec {
    /// Everything that gives the server a key; any key of any of them opens it. Files come first: their keys stand on no
    /// command line.
    pub fn key_sources(&self) -> Vec<KeySource> {
        let mut files: Vec<KeySource> = self.api_key_file.iter().map(KeySource::file).collect();
        let mut lists = Vec::new();
        if let Some(flag) = self.flags.get("api-key").filter(|flag| !flag.value.is_default()) {
            let texts = match &flag.value {
                FlagValue::Text(text) => vec![text.clone()],
                FlagValue::Many(texts) => texts.clone(),
                FlagValue::Integer(number) => vec![number.to_string()],
                FlagValue::Float(_) | FlagValue::Switch(_) => Vec::new(),
            };
            lists.push((WrittenAt::Flag("api-key".to_owned()), texts));
        }
        for option in written_options(&self.args) {
            let at = WrittenAt::Argument(option.index);
            if option.name == "api-key" {
                lists.push((at, option.value.map(str::to_owned).into_iter().collect()));
            }
        }
        for (name, value) in self.env.iter() {
            let at = WrittenAt::Variable(name.clone());
            match name.as_str() {
                "LLAMA_ARG_API_KEY_FILE" => files.push(KeySource { at, content: KeyContent::File(value.into()) }),
                "LLAMA_API_KEY" | "LLAMA_ARG_API_KEY" => lists.push((at, vec![value.clone()])),
                _ => {}
            }
        }
        files.extend(lists.into_iter().map(|(at, texts)| KeySource { at, content: KeyContent::Texts(texts) }));
        files
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            KeyContent::File(path) => f.debug_tuple("File").field(path).finish(),
            KeyContent::Texts(_) => f.write_str("Texts(…)"),
        }
    }
}
