//! Reads a file of keys or tokens: one per line, comments and empty lines skipped.
//!
//! Everything that needs a key reads it here, so that a launch, `check` and a request mean the same key.

use std::io;
use std::path::Path;

use crate::read_regular::read_regular;

/// Longest file, in bytes. A longer one is refused: the keys behind the limit would be valid, and shown where keys are hidden.
const MAX_BYTES: u64 = 256 * 1024;

/// The content of a key file.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KeyFile {
    /// The keys, in the order of the file, without the blanks around them.
    pub keys: Vec<String>,
    /// Whether there are comments, which old builds of llama-server take for keys.
    pub has_comments: bool,
    /// What a program that reads the file byte by byte takes for a part of a key, in words; empty for a plain file.
    pub oddities: Vec<&'static str>,
}

impl KeyFile {
    /// Reads the file at `path`. A file without a key has no `keys`; it is up to the caller to refuse it.
    ///
    /// # Errors
    /// If it cannot be read, is no regular file or no text, or is too long.
    pub fn read(path: &Path) -> io::Result<Self> {
        let bytes = read_regular(path, MAX_BYTES)?;
        let text =
            String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))?;
        Ok(Self::parse(&text))
    }

    /// Reads a text. A line that begins with `#` is a comment.
    pub fn parse(text: &str) -> Self {
        let unmarked = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut this = Self::default();
        this.note(unmarked.len() < text.len(), "it begins with a byte order mark");
        for line in unmarked.split('\n') {
            let key = line.trim();
            this.has_comments |= key.starts_with('#');
            if key.is_empty() || key.starts_with('#') {
                continue;
            }
            let without_return = line.strip_suffix('\r').unwrap_or(line);
            this.note(without_return.len() < line.len(), "its lines end with a carriage return");
            this.note(without_return != key, "there are blanks around a key");
            this.keys.push(key.to_owned());
        }
        this
    }

    fn note(&mut self, holds: bool, oddity: &'static str) {
        if holds && !self.oddities.contains(&oddity) {
            self.oddities.push(oddity);
        }
    }
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyFile({} keys, {:?})", self.keys.len(), self.oddities)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blanks_are_no_keys_and_what_is_odd_about_a_key_is_told() {
        let (mark, returns, blanks) = (
            "it begins with a byte order mark",
            "its lines end with a carriage return",
            "there are blanks around a key",
        );
        let cases: [(&str, &[&str], &[&str]); 9] = [
            ("sk-1\nsk-2\n", &["sk-1", "sk-2"], &[]),
            ("# team keys\n\nsk-1", &["sk-1"], &[]),
            ("", &[], &[]),
            ("# only\n  # comments\n \t\n", &[], &[]),
            ("sk-1\r\nsk-2\r\n", &["sk-1", "sk-2"], &[returns]),
            ("\u{feff}sk-1\n", &["sk-1"], &[mark]),
            ("\u{feff}# team\n", &[], &[mark]),
            (" sk-1 \r\n", &["sk-1"], &[returns, blanks]),
            ("\r\n", &[], &[]),
        ];
        for (text, keys, oddities) in cases {
            let read = KeyFile::parse(text);
            assert_eq!(
                (read.keys, read.oddities),
                (keys.iter().map(|key| (*key).to_owned()).collect(), oddities.to_vec()),
                "{text:?}"
            );
        }
    }

    #[test]
    fn what_is_no_file_is_refused_and_no_key_is_shown() {
        let folder = tempfile::tempdir().expect("tempdir");
        assert!(KeyFile::read(folder.path()).is_err());
        assert!(KeyFile::read(&folder.path().join("missing")).is_err());
        let path = folder.path().join("keys");
        std::fs::write(&path, "sk-secret\n").expect("write");
        let read = KeyFile::read(&path).expect("readable");
        assert_eq!(read.keys, ["sk-secret"]);
        assert!(!format!("{read:?}").contains("secret"));
        for (content, why) in
            [(vec![b'k', 0xe9], "it is not UTF-8 text"), (vec![b'k'; 256 * 1024 + 1], "it is longer than 262144 bytes")]
        {
            std::fs::write(&path, content).expect("write");
            assert_eq!(KeyFile::read(&path).expect_err("refused").to_string(), why);
        }
    }
}
