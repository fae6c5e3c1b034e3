//! The file: appended in whole lines, rotated once, by its size alone.
//!
//! Invariants: the file that has the name now is the one that is written, even after another program has moved the former one away. The
//! file consists of whole lines: the rest of a failed write is cut off at once, and the rest of a crash when the file is opened.

use std::fs;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use llama_warden_support::{fail_point, open_regular};
use nix::errno::Errno;
use nix::sys::statvfs::fstatvfs;

/// Bytes of the disk that the log leaves free. The ids of runs, locks and ports need a block each, and a full disk would keep the
/// next start from them.
const LEFT_FREE: u64 = 64 << 10;

/// Bytes that are searched at once for the end of the last whole line.
const PIECE: u64 = 64 << 10;

/// Longest line in bytes that is searched for its begin, or read: many times that of any event.
pub(super) const LONGEST_LINE: u64 = 4 << 20;

/// A log file that keeps its last one or two parts of limited size.
#[derive(Debug)]
pub(super) struct RotatedFile {
    path: PathBuf,
    former: PathBuf,
    limit: u64,
    file: Option<File>,
    /// The length of the file after the last write.
    written: u64,
}

impl RotatedFile {
    /// A log in `directory`, appended to what earlier runs have left there.
    pub(super) fn new(directory: &Path, limit: u64) -> Self {
        Self {
            path: directory.join("events.jsonl"),
            former: directory.join("events.jsonl.1"),
            limit,
            file: None,
            written: 0,
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

    /// Closes the file, and opens or creates the one under its name.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.file = None;
        let (file, length) = self.open()?;
        (self.file, self.written) = (Some(file), length);
        Ok(())
    }

    /// Appends whole lines, all or none of them.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let (mut file, mut length) = self.current()?;
        if length >= self.limit {
            fail_point("event-log-full");
            fs::rename(&self.path, &self.former)?;
            fail_point("event-log-rotated");
            (file, length) = self.open()?;
        }
        leave_free(&file, lines.len() as u64)?;
        fail_point("event-log-before");
        if let Err(error) = file.write_all(lines) {
            // To shrink a file needs no room. Where it fails too, the next one who opens the file cuts it.
            let _ = file.set_len(length);
            return Err(error);
        }
        fail_point("event-log-appended");
        self.written = length + lines.len() as u64;
        self.file = Some(file);
        Ok(())
    }

    /// The open file if it is the one under the name, else that one; and its length. A tool that rotates logs moves a file away, or
    /// copies and truncates it.
    fn current(&mut self) -> io::Result<(File, u64)> {
        if let Some(file) = self.file.take()
            && let (Ok(named), Ok(own)) = (fs::metadata(&self.path), file.metadata())
            && id(&named) == id(&own)
        {
            return Ok((file, named.len()));
        }
        self.open()
    }

    fn open(&self) -> io::Result<(File, u64)> {
        // Events name paths and arguments: for the owner's eyes. A FIFO would block the writer.
        let mut file = open_regular(&self.path, OpenOptions::new().read(true).append(true).create(true).mode(0o600))?;
        let length = file.metadata()?.len();
        match whole_lines(&file, length)? {
            Some(whole) if whole < length => file.set_len(whole)?,
            Some(_) => {}
            // What the end of the file is, a crash did not leave.
            None => file.write_all(b"\n")?,
        }
        let length = file.metadata()?.len();
        Ok((file, length))
    }
}

fn id(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Length of the whole lines in the first `length` bytes of a file. `None` if the last line is longer than [`LONGEST_LINE`].
fn whole_lines(file: &File, length: u64) -> io::Result<Option<u64>> {
    let mut end = length;
    let mut piece = Vec::new();
    while end > 0 {
        if length - end >= LONGEST_LINE {
            return Ok(None);
        }
        let begin = end.saturating_sub(PIECE);
        piece.resize(usize::try_from(end - begin).unwrap_or(usize::MAX), 0);
        file.read_exact_at(&mut piece, begin)?;
        if let Some(line_end) = piece.iter().rposition(|byte| *byte == b'\n') {
            return Ok(Some(begin + line_end as u64 + 1));
        }
        end = begin;
    }
    Ok(Some(0))
}

/// Fails with ENOSPC if `bytes` more would leave less than [`LEFT_FREE`] on the disk.
fn leave_free(file: &File, bytes: u64) -> io::Result<()> {
    let disk = fstatvfs(file)?;
    let free = disk.blocks_available().saturating_mul(disk.fragment_size());
    // A file system that reports no size, such as some network ones, reports no room either.
    if disk.blocks() > 0 && free < bytes.saturating_add(LEFT_FREE) {
        return Err(Errno::ENOSPC.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(directory: &Path, name: &str) -> Option<String> {
        fs::read_to_string(directory.join(name)).ok()
    }

    #[test]
    fn a_start_rotates_nothing_however_often_it_comes() {
        let directory = tempfile::tempdir().expect("is made");
        for run in ["first\n", "second\n", "third\n"] {
            RotatedFile::new(directory.path(), 1000).append(run.as_bytes()).expect("writes");
        }
        assert_eq!(read(directory.path(), "events.jsonl").as_deref(), Some("first\nsecond\nthird\n"));
        assert_eq!(read(directory.path(), "events.jsonl.1"), None);
    }

    #[test]
    fn a_file_that_was_moved_away_is_not_written_any_more() {
        let directory = tempfile::tempdir().expect("is made");
        let mut log = RotatedFile::new(directory.path(), 1000);
        log.append(b"old\n").expect("writes");
        fs::rename(log.path(), directory.path().join("moved")).expect("moves");
        log.append(b"new\n").expect("writes");
        assert_eq!(read(directory.path(), "moved").as_deref(), Some("old\n"));
        assert_eq!(read(directory.path(), "events.jsonl").as_deref(), Some("new\n"));
        fs::rename(log.path(), directory.path().join("moved")).expect("moves");
        log.reopen().expect("opens");
        assert_eq!(read(directory.path(), "events.jsonl").as_deref(), Some(""));
    }

    #[test]
    fn a_file_that_was_truncated_in_place_is_written_from_its_new_end() {
        let directory = tempfile::tempdir().expect("is made");
        let mut log = RotatedFile::new(directory.path(), 10);
        log.append(b"copied\n").expect("writes");
        File::options().write(true).truncate(true).open(log.path()).expect("truncates");
        log.append(b"one\n").expect("writes");
        log.append(b"two\n").expect("writes");
        assert_eq!(read(directory.path(), "events.jsonl").as_deref(), Some("one\ntwo\n"));
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
    fn what_a_crash_left_of_a_line_is_cut_off() {
        let directory = tempfile::tempdir().expect("is made");
        for (left, expected) in [("whole\nha", "whole\nnext\n"), ("ha", "next\n"), ("whole\n", "whole\nnext\n")] {
            let mut log = RotatedFile::new(directory.path(), 1 << 20);
            fs::write(log.path(), left).expect("writes");
            log.append(b"next\n").expect("writes");
            assert_eq!(read(directory.path(), "events.jsonl").as_deref(), Some(expected), "{left:?}");
        }
        let long = format!("whole\n{}", "x".repeat(3 * PIECE as usize));
        fs::write(directory.path().join("events.jsonl"), long).expect("writes");
        RotatedFile::new(directory.path(), 1 << 20).append(b"next\n").expect("writes");
        assert_eq!(read(directory.path(), "events.jsonl").as_deref(), Some("whole\nnext\n"));
    }

    #[test]
    fn a_file_that_somebody_removed_is_begun_anew() {
        let directory = tempfile::tempdir().expect("is made");
        let mut log = RotatedFile::new(directory.path(), 1000);
        log.append(b"gone\n").expect("writes");
        fs::remove_file(log.path()).expect("removes");
        log.append(b"here\n").expect("writes");
        assert_eq!(read(directory.path(), "events.jsonl").as_deref(), Some("here\n"));
    }

    #[test]
    fn what_is_no_log_is_neither_waited_for_nor_read_to_its_begin() {
        let directory = tempfile::tempdir().expect("is made");
        let path = directory.path().join("events.jsonl");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("is made");
        let refused = RotatedFile::new(directory.path(), u64::MAX).append(b"x\n").expect_err("nobody reads it");
        assert_eq!(refused.to_string(), "it is no regular file");
        fs::remove_file(&path).expect("removes");
        // Without blocks on the disk, and longer than could be read in time.
        let hole = 1 << 42;
        File::create(&path).and_then(|file| file.set_len(hole)).expect("is made");
        RotatedFile::new(directory.path(), u64::MAX).append(b"x\n").expect("writes");
        let mut end = [0; 3];
        File::open(&path).and_then(|file| file.read_exact_at(&mut end, hole)).expect("reads");
        assert_eq!(&end, b"\nx\n");
    }
}
