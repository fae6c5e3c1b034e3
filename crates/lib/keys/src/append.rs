//! New keys: 256 random bits, or one that clients have already. The file gets the hash.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use llama_warden_support::open_regular;
use rustix::rand::{GetRandomFlags, getrandom};
use toml::Value;

use crate::file::{KeysUnusable, parse_keys, read_keys};
use crate::ring::KeyHash;

/// The shortest key that is taken from elsewhere: its hash has no salt and is quickly made, so that shorter ones could be guessed.
const SHORTEST: usize = 16;

/// A text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoKey {
    /// It could be guessed.
    #[error("a key of fewer than {SHORTEST} characters can be guessed")]
    TooShort,
    /// No client can send it.
    #[error("a key has visible ASCII characters and no blanks")]
    NotSendable,
}

/// A key that no file has yet.
pub struct NewKey {
    text: String,
}

impl NewKey {
    /// A key of 256 random bits.
    ///
    /// # Errors
    /// The kernel gives no random bits.
    pub fn random() -> io::Result<Self> {
        let mut bits = [0; 32];
        let mut filled = 0;
        while filled < bits.len() {
            filled += getrandom(&mut bits[filled..], GetRandomFlags::empty())?;
        }
        Ok(Self { text: format!("lw-{}", HEXLOWER.encode(&bits)) })
    }

    /// A key that clients have already.
    ///
    /// # Errors
    /// It could be guessed, or no client can send it.
    pub fn existing(text: &str) -> Result<Self, NoKey> {
        if text.len() < SHORTEST {
            return Err(NoKey::TooShort);
        }
        let is_sendable = text.bytes().all(|byte| byte.is_ascii_graphic());
        is_sendable.then(|| Self { text: text.to_owned() }).ok_or(NoKey::NotSendable)
    }

    /// The key, for its holder alone.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn hash(&self) -> KeyHash {
        KeyHash::of(self.text.as_bytes())
    }
}

impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewKey(…)")
    }
}

/// Whose key it is, and what it may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyGrant {
    /// The name of its holder.
    pub name: String,
    /// Ids, aliases and globs; empty = every model.
    pub models: Vec<String>,
    /// Requests at a time; 0 = any number.
    pub max_in_flight: u32,
    /// Whether it may change servers.
    pub is_admin: bool,
}

/// Why a key was not added.
#[derive(Debug, thiserror::Error)]
pub enum KeyNotAdded {
    /// The file as it is cannot be used, or could not be with the key.
    #[error(transparent)]
    Unusable(#[from] KeysUnusable),
    /// The file cannot be written.
    #[error("cannot write the file of keys {}: {source}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// The file has a key of this name.
    #[error("there is a key `{0}` already")]
    NameTaken(String),
    /// The file has this key, under another name.
    #[error("it is the key of `{0}` already")]
    KeyTaken(String),
}

/// Appends the hash of a key to a file, which is made with mode 0600 if it is missing. A file that is not valid, or would not be with
/// the key, stays as it is.
///
/// # Errors
/// The file cannot be used or written, or the name is taken.
pub fn append_key(path: &Path, grant: &KeyGrant, key: &NewKey) -> Result<(), KeyNotAdded> {
    let unwritable = |source| KeyNotAdded::Unwritable { path: path.to_owned(), source };
    let entry = entry(grant, &key.hash());
    // What is wrong with the entry is told before there is a file.
    parse_keys("the new key", &entry).map_err(KeysUnusable::Invalid)?;
    let mut file = open(path).map_err(unwritable)?;
    // So that of two commands at once, the second sees the entry of the first. Given back with the file.
    file.lock().map_err(unwritable)?;
    let ring = read_keys(path)?;
    if ring.sorted().iter().any(|known| *known.name == grant.name) {
        return Err(KeyNotAdded::NameTaken(grant.name.clone()));
    }
    if let Some(known) = ring.sorted().into_iter().find(|known| known.hash == key.hash()) {
        return Err(KeyNotAdded::KeyTaken(known.name.to_string()));
    }
    let separator = if file.metadata().map_err(unwritable)?.len() > 0 { "\n" } else { "" };
    // In one write, so that the daemon never reads half of it.
    file.write_all(format!("{separator}{entry}").as_bytes()).and_then(|()| file.sync_all()).map_err(unwritable)
}

fn open(path: &Path) -> io::Result<File> {
    open_regular(path, OpenOptions::new().append(true).create(true).mode(0o600))
}

fn entry(grant: &KeyGrant, hash: &KeyHash) -> String {
    let mut entry = format!("[[keys]]\nname = {}\nsha256 = \"{hash}\"\n", Value::from(grant.name.as_str()));
    if !grant.models.is_empty() {
        entry.push_str(&format!("models = {}\n", Value::from(grant.models.clone())));
    }
    if grant.max_in_flight > 0 {
        entry.push_str(&format!("max-in-flight = {}\n", grant.max_in_flight));
    }
    if grant.is_admin {
        entry.push_str("admin = true\n");
    }
    entry
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn grant(name: &str) -> KeyGrant {
        KeyGrant { name: name.to_owned(), ..KeyGrant::default() }
    }

    #[test]
    fn a_new_key_opens_and_only_its_hash_is_in_the_file() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("keys.toml");
        let [one, two] = [(); 2].map(|()| NewKey::random().expect("random"));
        assert_eq!((one.text().len(), one.text() == two.text()), (3 + 64, false));
        append_key(&path, &grant("one"), &one).expect("the file is made");
        let narrow =
            KeyGrant { models: vec!["a*".into(), "it's".into()], max_in_flight: 2, is_admin: true, ..grant("two") };
        append_key(&path, &narrow, &two).expect("appended");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).expect("readable");
        assert!(!text.contains(one.text()) && !text.contains(two.text()), "{text}");
        let ring = read_keys(&path).expect("valid");
        let holder = |key: &NewKey| {
            let mut headers = HeaderMap::new();
            headers.insert("x-api-key", HeaderValue::from_str(key.text()).expect("visible"));
            ring.holder(&headers).map(|key| key.name.to_string())
        };
        assert_eq!((holder(&one), holder(&two)), (Some("one".to_owned()), Some("two".to_owned())));
        let known = ring.sorted()[1].clone();
        assert_eq!(
            (known.models().collect::<Vec<_>>(), known.max_in_flight, known.is_admin),
            (vec!["a*", "it's"], 2, true)
        );
    }

    #[test]
    fn a_key_that_clients_have_already_is_taken_once_unless_it_can_be_guessed() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("keys.toml");
        let key = NewKey::existing("sk-0123456789abcdef+/=").expect("a key");
        append_key(&path, &grant("one"), &key).expect("the file is made");
        assert!(matches!(append_key(&path, &grant("two"), &key), Err(KeyNotAdded::KeyTaken(name)) if name == "one"));
        assert_eq!(read_keys(&path).expect("valid").len(), 1);
        for (text, why) in [
            ("sk-hunter2", NoKey::TooShort),
            ("", NoKey::TooShort),
            ("sk-with a blank in it", NoKey::NotSendable),
            ("sk-ümlaut-0123456789", NoKey::NotSendable),
        ] {
            assert_eq!(NewKey::existing(text).err(), Some(why), "{text}");
        }
    }

    #[test]
    fn a_file_in_which_the_key_has_no_place_stays_as_it_is() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("keys.toml");
        let key = NewKey::random().expect("random");
        let wrong = KeyGrant { models: vec!["[".into()], ..grant("a") };
        assert!(append_key(&path, &wrong, &key).is_err() && !path.exists());
        assert!(append_key(&path, &grant("a b"), &key).is_err() && !path.exists());
        append_key(&path, &grant("a"), &key).expect("valid");
        let before = fs::read_to_string(&path).expect("readable");
        let again = append_key(&path, &grant("a"), &NewKey::random().expect("random"));
        assert!(matches!(again, Err(KeyNotAdded::NameTaken(_))));
        assert_eq!(fs::read_to_string(&path).expect("readable"), before);
        fs::write(&path, "[[keys]]\nname = 1").expect("writable");
        assert!(matches!(append_key(&path, &grant("b"), &key), Err(KeyNotAdded::Unusable(_))));
        assert_eq!(fs::read_to_string(&path).expect("readable"), "[[keys]]\nname = 1");
    }
}
