//! The file of the API token, which daemon and command line read by the same rules.
//!
//! The daemon reads it again when it changes and with each reload, so that a token can be rotated while servers run. A file
//! that holds no valid token changes nothing.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use llama_warden_api::{InvalidToken, Token, TokenInForce};
use llama_warden_exit::CommandFailure;
use llama_warden_support::{open_to_others, read_token_line};

use crate::reread_file::{RereadFile, WatchedFile};

/// Why a token file cannot be used. The text never contains the token.
#[derive(Debug, thiserror::Error)]
enum TokenFileError {
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    #[error("{0}")]
    NoToken(#[from] InvalidToken),
}

/// Reads the token of a file: its first line that is not blank, without white space around it and without a byte order mark.
///
/// # Errors
/// The file cannot be read, or that line is no token.
pub fn read_token(path: &Path) -> Result<String, CommandFailure> {
    Ok(read(path).map_err(|error| unusable(path, &error))?.text)
}

/// The token of a running daemon, kept up to date with its file.
#[derive(Debug, Clone)]
pub struct TokenFile(Arc<WatchedFile<Option<Token>>>);

impl TokenFile {
    /// Reads the file and watches it.
    ///
    /// # Errors
    /// As [`read_token`].
    pub fn open(path: &Path) -> Result<Self, CommandFailure> {
        let token = read(path).map_err(|error| unusable(path, &error))?.token;
        if let Some(warning) = open_to_others(path) {
            tracing::warn!("{warning}");
        }
        let warn = |_: &Path, error: &io::Error| {
            tracing::warn!(%error, "the token file is not watched; send HUP after a change");
        };
        Ok(Self(Arc::new(WatchedFile::new(path, Some(token), warn))))
    }

    /// The token in force, for the API, which checks requests.
    pub fn token(&self) -> TokenInForce {
        self.0.value.subscribe().into()
    }
}

impl RereadFile for TokenFile {
    const NAME: &'static str = "token-file";

    /// A file of one line is written at once.
    const REST: Duration = Duration::ZERO;

    type Value = Option<Token>;

    fn watched(&self) -> &WatchedFile<Option<Token>> {
        &self.0
    }

    fn reread(&self) {
        self.0.arm();
        let path = self.0.path.display();
        match read(&self.0.path) {
            Ok(TokenLine { token, .. }) => {
                let changed = self.0.value.send_if_modified(|known| {
                    let changed = known.as_ref() != Some(&token);
                    *known = Some(token);
                    changed
                });
                if changed {
                    tracing::info!(%path, "a new token is in force");
                }
            }
            // A writer empties the file before it fills it, so this is not always a mistake.
            Err(error) => {
                tracing::debug!(%path, %error, "the token file cannot be used; the former token stays in force")
            }
        }
    }
}

/// The line of a token file that is the token.
struct TokenLine {
    text: String,
    token: Token,
}

fn read(path: &Path) -> Result<TokenLine, TokenFileError> {
    let text = read_token_line(path)?;
    let token = Token::new(&text)?;
    Ok(TokenLine { text, token })
}

fn unusable(path: &Path, error: &TokenFileError) -> CommandFailure {
    CommandFailure::usage(format!("cannot use the token file {}: {error}", path.display()))
        .next_step("write the token into its first line, and let only the daemon's user read it")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use llama_warden_component_kit::{PATIENCE, TestBus};

    use super::*;
    use crate::reread_file::FileReader;

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("token");
        fs::write(&path, text).expect("writable");
        (folder, path)
    }

    #[test]
    fn the_token_is_the_first_line_however_the_file_was_written() {
        for text in ["s3cret", "s3cret\n", "s3cret\nold\n", "\u{feff}s3cret\r\n", "\r\n  s3cret \r\nother"] {
            let (_folder, path) = written(text);
            assert_eq!(read_token(&path).expect(text), "s3cret", "{text:?}");
        }
        for text in ["", "\n \n", "two words\n", "\u{feff}"] {
            let (_folder, path) = written(text);
            assert!(read_token(&path).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_token_file_that_is_no_file_is_refused_at_once() {
        let (folder, _) = written("");
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        assert!(read_token(&fifo).is_err());
        assert!(read_token(folder.path()).is_err());
    }

    #[tokio::test]
    async fn a_token_that_is_rotated_is_in_force_and_the_former_one_is_not() {
        let (folder, path) = written("one\n");
        let file = TokenFile::open(&path).expect("a token");
        let mut token = file.0.value.subscribe();
        let mut bus = TestBus::new();
        let running = bus.run(FileReader(file.clone()));
        let mut change = async |what: &str, text: &str| {
            let expected = Some(Token::new(text).expect("valid"));
            let changed = tokio::time::timeout(PATIENCE, token.wait_for(|known| *known == expected)).await;
            changed.expect(what).expect("the file is open");
        };
        change("as it was", "one").await;
        fs::write(&path, "two\n").expect("writable");
        change("written in place", "two").await;
        fs::write(folder.path().join("new"), "three\n").expect("writable");
        fs::rename(folder.path().join("new"), &path).expect("writable");
        change("renamed over", "three").await;
        fs::write(&path, "").expect("writable");
        file.reread();
        change("emptied: the former one stays", "three").await;
        running.end().await;
    }
}
