//! Opens what a person names to be read once: a file, a device, a pipe.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fcntl_setfl, open};
use rustix::io::Errno;

/// Longest time that a FIFO may be without a writer. One that a script starts in the background needs milliseconds.
const WRITER_LIMIT: Duration = Duration::from_secs(2);

/// Opens a file to be read to its end. A FIFO to which nobody writes is an error: opening it would wait for ever.
///
/// # Errors
/// It cannot be opened; a FIFO has got no byte within two seconds.
pub fn open_input(path: &Path) -> Result<File> {
    // Without blocking, even opening would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(open(path, flags, Mode::empty())?);
    // The writer of a descriptor of this process, such as `<(command)`, is there or has been; it may take its time.
    if file.metadata()?.file_type().is_fifo() && !is_descriptor(path) {
        await_writer(&file, WRITER_LIMIT)?;
    }
    // Reading does wait, for the writer that is there.
    fcntl_setfl(&file, OFlags::empty())?;
    Ok(file)
}

/// Whether a path names a descriptor of this process, whose file has another name or none.
pub fn is_descriptor(path: &Path) -> bool {
    path.starts_with("/dev") || path.starts_with("/proc")
}

/// Waits for the first bytes, or for the end of a writer. The kernel reports neither before a writer has come.
fn await_writer(fifo: &File, limit: Duration) -> Result<()> {
    let limit = Timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: limit.subsec_nanos().into() };
    let mut watched = [PollFd::new(fifo, PollFlags::IN)];
    loop {
        match poll(&mut watched, Some(&limit)) {
            Ok(0) => return Err(Error::new(ErrorKind::TimedOut, "it is a FIFO, and nobody writes to it")),
            Err(Errno::INTR) => {}
            result => return result.map(drop).map_err(Error::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn a_fifo_is_read_when_somebody_writes_and_an_error_otherwise() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .expect("is made");
        let refused = open_input(&path).expect_err("nobody writes");
        assert_eq!(refused.to_string(), "it is a FIFO, and nobody writes to it");
        let writer = {
            let path = path.clone();
            // Opening waits for the reader.
            std::thread::spawn(move || File::create(path).and_then(|mut fifo| fifo.write_all(b"text")))
        };
        let mut text = String::new();
        open_input(&path).and_then(|mut fifo| fifo.read_to_string(&mut text)).expect("somebody writes");
        writer.join().expect("no panic").expect("is written");
        assert_eq!(text, "text");
        assert!(open_input(Path::new("/dev/null")).is_ok());
    }
}
