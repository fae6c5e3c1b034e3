//! The file: appended in whole lines, rotated once.
//!
//! Invariant: `written` bytes of the file are whole lines; whatever a failed write left behind them is cut off before
//! the next one.

use std::fs;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A log file that keeps its last one or two parts of limited size.
#[derive(Debug)]
pub(super) struct RotatedFile {
    path: PathBuf,
    former: PathBuf,
    limit: u64,
    file: Option<File>,
    written: u64,
}

impl RotatedFile {
    /// A log in `directory`; what another run left there is moved away at the first write.
    pub(super) fn new(directory: &Path, limit: u64) -> Self {
        Self {
            path: directory.join("events.jsonl"),
            former: directory.join("events.jsonl.1"),
            limit,
            file: None,
            // As if the limit were reached: the first write rotates.
            written: u64::MAX,
        }
    }

    /// Bytes that may be appended before it is rotated.
    pub(super) const fn room(&self) -> u64 {
        if self.written < self.limit { self.limit - self.written } else { self.limit }
    }

    /// The file that is written.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends whole lines, all or none of them.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.written >= self.limit {
            self.rotate()?;
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.open()?,
        };
        file.write_all(lines)?;
        self.written += lines.len() as u64;
        // After an error the file is not put back, and the next write opens it anew.
        self.file = Some(file);
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        match fs::rename(&self.path, &self.former) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => self.written = 0,
        }
        Ok(())
    }

    fn open(&mut self) -> io::Result<File> {
        // Events name paths and arguments: for the owner's eyes.
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
        let length = file.metadata()?.len();
        if length > self.written {
            file.set_len(self.written)?;
        }
        self.written = self.written.min(length);
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(directory: &Path, name: &str) -> Option<String> {
        fs::read_to_string(directory.join(name)).ok()
    }

    #[test]
    fn a_run_begins_its_own_file_and_keeps_the_one_before() {
        let directory = tempfile::tempdir().expect("is made");
        for run in ["first\n", "second\n", "third\n"] {
            RotatedFile::new(directory.path(), 1000).append(run.as_bytes()).expect("writes");
        }
        assert_eq!(read(directory.path(), "events.jsonl").as_deref(), Some("third\n"));
        assert_eq!(read(directory.path(), "events.jsonl.1").as_deref(), Some("second\n"));
    }

    #[test]
    fn the_limit_rotates_at_a_line() {
        let directory = tempfile::tempdir().expect("is made");
        let mut log = RotatedFile::new(directory.path(), 10);
        for line in ["aaaa\n", "bbbb\n", "cccc\n", "dddd\n", "eeee\n"] {
            log.append(line.as_bytes()).expect("writes");
        }
        assert_eq!(read(directory.path(), "events.jsonl").as_deref(), Some("eeee\n"));
        assert_eq!(read(directory.path(), "events.jsonl.1").as_deref(), Some("cccc\ndddd\n"));
        log.append(b"longer than the limit\n").expect("writes");
        log.append(b"next\n").expect("writes");
        assert_eq!(read(directory.path(), "events.jsonl").as_deref(), Some("next\n"));
    }

    #[test]
    fn what_a_failed_write_left_is_cut_off() {
        let directory = tempfile::tempdir().expect("is made");
        let mut log = RotatedFile::new(directory.path(), 1000);
        log.append(b"whole\n").expect("writes");
        // A write that failed half way.
        log.file = None;
        fs::write(log.path(), b"whole\nha").expect("writes");
        log.append(b"next\n").expect("writes");
        assert_eq!(read(directory.path(), "events.jsonl").as_deref(), Some("whole\nnext\n"));
    }

    #[test]
    fn a_file_that_somebody_removed_is_begun_anew() {
        let directory = tempfile::tempdir().expect("is made");
        let mut log = RotatedFile::new(directory.path(), 1000);
        log.append(b"gone\n").expect("writes");
        fs::remove_file(log.path()).expect("removes");
        log.file = None;
        log.append(b"here\n").expect("writes");
        assert_eq!(read(directory.path(), "events.jsonl").as_deref(), Some("here\n"));
    }
}
