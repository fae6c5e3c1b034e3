//! Opens and reads files that somebody else names, or may have replaced.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Keeps a FIFO without a writer from blocking; the value is the same on x86-64 and aarch64.
const O_NONBLOCK: i32 = 0o4000;

/// The error of a FIFO that nobody reads, on every machine.
const ENXIO: i32 = 6;

/// Keeps a terminal from becoming the controlling one; the value is the same on x86-64 and aarch64.
const O_NOCTTY: i32 = 0o400;

/// Opens a regular file without waiting: a FIFO or a device is an error, whatever `options` ask for.
///
/// # Errors
/// The file cannot be opened, or is no regular file.
pub fn open_regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    open(path, options, 0)
}

/// Opens a regular file of our own. A link is an error too: in a folder that others can write, it would lead to any file.
///
/// # Errors
/// Those of [`open_regular`]; it is a symbolic link.
pub fn open_own_file(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // Not a number of our own: it differs between x86-64 and aarch64.
    open(path, options, OFlags::NOFOLLOW.bits().cast_signed())
}

fn open(path: &Path, options: &mut OpenOptions, flags: i32) -> io::Result<File> {
    let none = || io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file");
    let opened = options.custom_flags(O_NONBLOCK | O_NOCTTY | flags).open(path);
    // ENXIO: a FIFO without a reader, or a socket.
    let file = opened.map_err(|error| if error.raw_os_error() == Some(ENXIO) { none() } else { error })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(none()) }
}

/// Opens a file to see whether its user can read it, or what it has. `None` is what is no regular file: a FIFO gives what it has once,
/// and to its user.
///
/// # Errors
/// There is no such file, or it cannot be read.
pub fn open_if_regular(path: &Path) -> io::Result<Option<File>> {
    if path.metadata()?.is_file() { open_regular(path, OpenOptions::new().read(true)).map(Some) } else { Ok(None) }
}

/// Reads a regular file without waiting for a writer: a FIFO or a device is an error.
///
/// # Errors
/// Those of [`open_regular`]; the file cannot be read, or is longer than `most` bytes.
pub fn read_regular(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_bounded(open_regular(path, OpenOptions::new().read(true))?, most)
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
