//! Files with one token: which line is the token, and who can read it. Every reader of such a file follows these rules.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::read_regular::read_regular;

/// Longest file in bytes: many times the longest token.
const MAX_BYTES: u64 = 64 * 1024;

/// Longest token in bytes.
const MAX_TOKEN: usize = 4096;

/// Reads the token of a file: its first line that is not blank, without white space around it and without a byte order mark.
///
/// # Errors
/// The file cannot be read, or that line is not 1 to 4096 visible ASCII characters. The error does not contain the line.
pub fn read_token_line(path: &Path) -> io::Result<String> {
    let no_token =
        || io::Error::new(io::ErrorKind::InvalidData, "a token is one line of 1 to 4096 visible ASCII characters");
    let text = String::from_utf8(read_regular(path, MAX_BYTES)?).map_err(|_| no_token())?;
    let mut lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    let line = lines.find(|line| !line.is_empty()).unwrap_or_default();
    let is_token = (1..=MAX_TOKEN).contains(&line.len()) && line.bytes().all(|byte| byte.is_ascii_graphic());
    if is_token { Ok(line.to_owned()) } else { Err(no_token()) }
}

/// The warning about a token file that any user of this machine can read or write; `None` if there is nothing to warn of.
pub fn open_to_others(path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.mode() & 0o777;
    let path = path.display();
    (mode & 0o007 != 0).then(|| {
        format!("the token file {path} is open to every user of this machine (mode {mode:04o}): `chmod 600 {path}`")
    })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_file_that_others_can_read_is_warned_of() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("token");
        fs::write(&path, "s3cret").expect("writable");
        for (mode, is_open) in [(0o600, false), (0o640, false), (0o644, true), (0o602, true)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("our own");
            assert_eq!(open_to_others(&path).is_some(), is_open, "{mode:o}");
        }
    }
}
