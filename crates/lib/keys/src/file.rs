//! The file of keys: `[[keys]]` with `name`, `sha256`, `models`, `max-in-flight` and `admin`.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use globset::{Glob, GlobMatcher};
use llama_warden_located_toml::tree::{self, TomlData, TomlNode, TomlTable};
use llama_warden_located_toml::{ConfigProblem, ConfigProblems, Document, Layer, Location, suggestion};
use llama_warden_support::{open_regular, read_bounded};

use crate::ring::{ClientKey, KeyHash, KeyRing};

/// Longest file in bytes: some ten thousand keys.
const LONGEST: u64 = 2 << 20;

/// Longest name in bytes.
const LONGEST_NAME: usize = 64;

const KEYS: [&str; 5] = ["name", "sha256", "models", "max-in-flight", "admin"];

/// Why a file of keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysUnusable {
    /// It cannot be read.
    #[error("cannot read the file of keys {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// Others than its owner can read or write it.
    #[error("the file of keys {} is open to others than its owner (mode {mode:04o})", path.display())]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// What it says is wrong.
    #[error("the file of keys is not valid: {0}")]
    Invalid(ConfigProblems),
}

impl KeysUnusable {
    /// What to do about it.
    pub fn next_step(&self) -> String {
        match self {
            Self::Unreadable { path, source } if source.kind() == io::ErrorKind::NotFound => {
                format!("`llama-warden key new NAME --file {}` makes a key and the file", path.display())
            }
            Self::Unreadable { path, .. } => {
                format!("look at {}: the daemon's user has to be able to read it", path.display())
            }
            Self::OpenToOthers { path, .. } => format!("`chmod 600 {}`", path.display()),
            Self::Invalid(problems) => {
                let help = problems.0.iter().find_map(|problem| problem.help.clone());
                help.unwrap_or_else(|| "fix the file; `llama-warden key new NAME` writes a whole entry".to_owned())
            }
        }
    }
}

/// Reads a file of keys.
///
/// # Errors
/// It cannot be read, is open to others, or is not valid.
pub fn read_keys(path: &Path) -> Result<KeyRing, KeysUnusable> {
    let unreadable = |source| KeysUnusable::Unreadable { path: path.to_owned(), source };
    let file = open_regular(path, OpenOptions::new().read(true)).map_err(unreadable)?;
    // Of the file that is read, whatever has the name by now.
    let mode = file.metadata().map_err(unreadable)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeysUnusable::OpenToOthers { path: path.to_owned(), mode });
    }
    let bytes = read_bounded(file, LONGEST).map_err(unreadable)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| unreadable(io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text")))?;
    parse_keys(&path.display().to_string(), &text).map_err(KeysUnusable::Invalid)
}

/// Reads the text of a file of keys.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_keys(name: &str, text: &str) -> Result<KeyRing, ConfigProblems> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = KeysReader::default();
    let document = Arc::new(Document::new(name, text, Layer::User));
    if let Some(root) = tree::parse(&document, &mut reader.problems) {
        reader.read(&root);
    }
    if reader.problems.is_empty() { Ok(reader.ring) } else { Err(ConfigProblems::sorted(reader.problems)) }
}

#[derive(Default)]
struct KeysReader {
    ring: KeyRing,
    problems: Vec<ConfigProblem>,
}

impl KeysReader {
    fn problem(&mut self, location: &Location, message: impl Into<String>, help: impl Into<String>) {
        // A person may have put the key itself where its hash belongs.
        self.problems.push(ConfigProblem::error(location, message, help).without_excerpt());
    }

    fn known(&mut self, table: &TomlTable, known: &[&'static str]) {
        for (key, (location, _)) in table {
            if !known.contains(&key.as_str()) {
                let help = suggestion(key, known.iter().copied()).unwrap_or_default();
                self.problem(location, format!("there is no key `{key}` here"), help);
            }
        }
    }

    fn read(&mut self, root: &TomlNode) {
        let TomlData::Table(table) = &root.data else { return };
        self.known(table, &["keys"]);
        let Some((location, keys)) = table.get("keys") else { return };
        let TomlData::Array(keys) = &keys.data else {
            return self.problem(location, format!("`keys` is {}", keys.data.kind()), "write [[keys]] before each key");
        };
        for key in keys {
            let Some(read) = self.key(key) else { continue };
            let same_name = self.ring.keys.values().any(|other| other.name == read.name);
            let name = read.name.clone();
            let same_key = self.ring.keys.insert(read.hash, Arc::new(read)).is_some();
            // A ring with a problem is not used.
            if same_name {
                let message = format!("there are two keys `{name}`");
                self.problem(&key.location, message, "give each key a name of its own");
            } else if same_key {
                let message = format!("the key of `{name}` is that of another entry");
                self.problem(&key.location, message, "`llama-warden key new NAME` makes a key of its own");
            }
        }
    }

    /// One entry; `None` where something is wrong with it.
    fn key(&mut self, node: &TomlNode) -> Option<ClientKey> {
        let TomlData::Table(table) = &node.data else {
            self.problem(&node.location, format!("a key is {}", node.data.kind()), "write [[keys]] before each key");
            return None;
        };
        let before = self.problems.len();
        self.known(table, &KEYS);
        let name = self.text(table, node, "name").filter(|name| {
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'@');
            let fits = (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(is_name);
            if !fits {
                let help = "use 1 to 64 letters, digits, `.`, `_`, `-` and `@`";
                self.problem(&node.location, "the name of a key does not fit", help);
            }
            fits
        });
        let hash = self.text(table, node, "sha256").and_then(|digits| {
            let hash = KeyHash::parse(&digits);
            if hash.is_none() {
                let help = "write 64 hexadecimal digits: `printf %s KEY | sha256sum`";
                self.problem(&node.location, "`sha256` is no SHA-256", help);
            }
            hash
        });
        let models = self.models(table);
        let max_in_flight = match table.get("max-in-flight") {
            None => 0,
            Some((location, node)) => match node.data {
                TomlData::Integer(number) if u32::try_from(number).is_ok() => u32::try_from(number).unwrap_or_default(),
                _ => {
                    self.problem(location, "`max-in-flight` is no number of requests", "write 0 for any number");
                    0
                }
            },
        };
        let is_admin = match table.get("admin") {
            None => false,
            Some((_, TomlNode { data: TomlData::Boolean(is_admin), .. })) => *is_admin,
            Some((location, _)) => {
                self.problem(location, "`admin` is not true or false", "leave it out for false");
                false
            }
        };
        let (name, hash) = name.zip(hash)?;
        let key = ClientKey { name: name.into(), hash, max_in_flight, is_admin, models, in_flight: Arc::default() };
        (self.problems.len() == before).then_some(key)
    }

    fn text(&mut self, table: &TomlTable, node: &TomlNode, key: &str) -> Option<String> {
        match table.get(key) {
            Some((_, TomlNode { data: TomlData::String(text), .. })) => Some(text.clone()),
            Some((location, other)) => {
                let message = format!("`{key}` must be a string, not {}", other.data.kind());
                self.problem(location, message, "put it in quotes");
                None
            }
            None => {
                self.problem(
                    &node.location,
                    format!("a key has no `{key}`"),
                    "`llama-warden key new NAME` writes a whole entry",
                );
                None
            }
        }
    }

    fn models(&mut self, table: &TomlTable) -> Vec<GlobMatcher> {
        const HELP: &str = "name ids, aliases or globs, or leave it out for every model";
        let Some((location, node)) = table.get("models") else { return pattern("*").into_iter().collect() };
        let TomlData::Array(items) = &node.data else {
            self.problem(location, format!("`models` must be an array, not {}", node.data.kind()), HELP);
            return Vec::new();
        };
        if items.is_empty() {
            self.problem(location, "`models` is empty, so that the key is good for nothing", HELP);
        }
        let mut patterns = Vec::new();
        for item in items {
            let read = match &item.data {
                TomlData::String(text) => pattern(text),
                _ => None,
            };
            match read {
                Some(pattern) => patterns.push(pattern),
                None => self.problem(&item.location, "this is no id, alias or glob", HELP),
            }
        }
        patterns
    }
}

/// A pattern for names of models; `None` for a glob that does not compile.
pub(crate) fn pattern(text: &str) -> Option<GlobMatcher> {
    Glob::new(text).ok().map(|glob| glob.compile_matcher())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_file_says_what_each_key_may_do() {
        let text = format!(
            "[[keys]]\nname = \"ci\"\nsha256 = \"{HASH}\"\n[[keys]]\nname = 'ops@home'\nsha256 = '{}'\n\
             models = [\"qwen*\"]\nmax-in-flight = 3\nadmin = true\n",
            HASH.replace('e', "A")
        );
        let ring = parse_keys("keys", &text).expect("valid");
        let keys: Vec<_> = ring
            .sorted()
            .into_iter()
            .map(|key| (&*key.name, key.models().collect::<Vec<_>>(), key.max_in_flight, key.is_admin))
            .collect();
        assert_eq!(keys, [("ci", vec!["*"], 0, false), ("ops@home", vec!["qwen*"], 3, true)]);
        assert!(parse_keys("keys", "").expect("a file without keys").is_empty());
    }

    #[test]
    fn a_wrong_entry_is_told_with_its_place_and_never_shown() {
        let entry = |rest: &str| format!("[[keys]]\nname = 'a'\nsha256 = '{HASH}'\n{rest}");
        for (text, expected) in [
            ("[[keys]]\nname = 'a'\n".to_owned(), "k:1:1: a key has no `sha256`"),
            (format!("[[keys]]\nsha256 = '{HASH}'"), "k:1:1: a key has no `name`"),
            ("[[keys]]\nname = 'a'\nsha256 = 'sk-s3cret'".to_owned(), "k:1:1: `sha256` is no SHA-256"),
            (format!("[[keys]]\nname = 'a b'\nsha256 = '{HASH}'"), "k:1:1: the name of a key does not fit"),
            (entry("model = ['x']"), "k:4:1: there is no key `model` here"),
            (entry("models = []"), "k:4:1: `models` is empty, so that the key is good for nothing"),
            (entry("models = ['[']"), "k:4:11: this is no id, alias or glob"),
            (entry("max-in-flight = -1"), "k:4:1: `max-in-flight` is no number of requests"),
            (entry("admin = 'yes'"), "k:4:1: `admin` is not true or false"),
            (
                format!("{}{}", entry(""), entry("").replace("'a'", "'b'")),
                "k:4:1: the key of `b` is that of another entry",
            ),
            (format!("{}{}", entry(""), entry("").replace("e3", "e4")), "k:4:1: there are two keys `a`"),
            ("keys = 1".to_owned(), "k:1:1: `keys` is an integer"),
        ] {
            let problems = parse_keys("k", &text).expect_err(expected);
            assert_eq!(problems.to_string(), expected);
            let shown = KeysUnusable::Invalid(problems);
            assert!(!shown.to_string().contains("s3cret") && !shown.next_step().is_empty(), "{shown}");
        }
        assert!(parse_keys("k", "[[keys]").is_err(), "no TOML");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("keys.toml");
        fs::write(&path, "").expect("writable");
        for (mode, is_refused) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true), (0o620, true)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("our own");
            let read = read_keys(&path);
            assert_eq!(matches!(read, Err(KeysUnusable::OpenToOthers { .. })), is_refused, "{mode:o}");
        }
        assert!(matches!(read_keys(folder.path()), Err(KeysUnusable::Unreadable { .. })));
        let missing = read_keys(&folder.path().join("none")).expect_err("missing");
        assert!(missing.next_step().contains("key new"), "{missing}");
    }
}
