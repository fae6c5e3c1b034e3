//! Reads small files that somebody else names.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Keeps a FIFO without a writer from blocking; the value is the same on x86-64 and aarch64.
const O_NONBLOCK: i32 = 0o4000;

/// Keeps a terminal from becoming the controlling one; the value is the same on x86-64 and aarch64.
const O_NOCTTY: i32 = 0o400;

/// Reads a regular file, and waits for nobody: a FIFO or a device is an error.
///
/// # Errors
/// The file cannot be opened or read, is no regular file, or is longer than `most` bytes.
pub fn read_regular(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK | O_NOCTTY).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    read_bounded(file, most)
}

/// Reads a file or a pipe to its end.
///
/// # Errors
/// It cannot be read, or is longer than `most` bytes.
pub fn read_bounded(file: File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if file.take(most.saturating_add(1)).read_to_end(&mut bytes)? as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {most} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_of_a_bounded_length_is_read() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("file");
        std::fs::write(&path, "12345").expect("write");
        assert_eq!(read_regular(&path, 5).expect("readable"), b"12345");
        assert_eq!(read_regular(&path, 4).expect_err("too long").kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read_regular(folder.path(), 5).expect_err("a folder").kind(), io::ErrorKind::InvalidInput);
        assert!(read_regular(Path::new("/dev/zero"), 5).is_err());
    }
}
