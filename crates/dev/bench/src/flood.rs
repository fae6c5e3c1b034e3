//! The hidden command `flood`: writes lines to stderr as fast as the reader takes them, like a llama-server that logs a lot.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use llama_warden_test_parts::error::{Error, OnPath};

/// Bytes of one write: the default capacity of a pipe.
const BLOCK: usize = 64 * 1024;

/// The output to write, and the file for the time that it took.
#[derive(Debug, clap::Args)]
pub struct FloodOptions {
    /// The lines, which are repeated
    #[arg(long)]
    pub text: PathBuf,
    /// How many bytes
    #[arg(long)]
    pub bytes: usize,
    /// Where to say how long it took
    #[arg(long)]
    pub report: PathBuf,
}

impl FloodOptions {
    /// The arguments of this program that write the flood.
    pub fn arguments(&self) -> [String; 7] {
        let [text, report] = [&self.text, &self.report].map(|path| path.display().to_string());
        ["flood".into(), "--text".into(), text, "--bytes".into(), self.bytes.to_string(), "--report".into(), report]
    }
}

/// How long a flood took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloodReport {
    /// The time of all writes together.
    pub whole: Duration,
    /// The longest single write, which is the longest that a server would have been blocked.
    pub longest: Duration,
}

impl FloodReport {
    /// Reads the report that a flood wrote to `path`.
    ///
    /// # Errors
    /// When there is no report, because the flood did not finish.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).on("read", path)?;
        let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok()).map(Duration::from_micros);
        match (numbers.next(), numbers.next()) {
            (Some(whole), Some(longest)) => Ok(Self { whole, longest }),
            _ => Err(Error::missing(format!("{} is not a report", path.display()), "see what the flood printed")),
        }
    }
}

/// Writes the lines, then the report.
///
/// # Errors
/// When the lines cannot be read, or the reader closes the pipe.
pub fn run(options: &FloodOptions) -> Result<(), Error> {
    let lines = fs::read(&options.text).on("read", &options.text)?;
    if lines.is_empty() {
        return Err(Error::missing("there are no lines to write", "name a file with some"));
    }
    // A block may begin anywhere in the first copy; with this length every block is one slice.
    let text = lines.repeat(1 + 2 * BLOCK / lines.len());
    let report =
        write_repeatedly(&text, lines.len(), options.bytes, &mut io::stderr()).on("write lines of", &options.text)?;
    let numbers = format!("{} {}", report.whole.as_micros(), report.longest.as_micros());
    fs::write(&options.report, numbers).on("write", &options.report)
}

/// Writes `bytes` bytes of `text`, which repeats itself every `period` bytes, as one endless text.
fn write_repeatedly(text: &[u8], period: usize, bytes: usize, out: &mut impl Write) -> io::Result<FloodReport> {
    let began = Instant::now();
    let (mut written, mut longest) = (0, Duration::ZERO);
    while written < bytes {
        let from = written % period;
        let block = &text[from..][..BLOCK.min(bytes - written)];
        let write = Instant::now();
        out.write_all(block)?;
        longest = longest.max(write.elapsed());
        written += block.len();
    }
    Ok(FloodReport { whole: began.elapsed(), longest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_poured_whole_over_the_ends_of_blocks() {
        let lines = b"one\ntwo and more\n";
        let text = lines.repeat(1 + 2 * BLOCK / lines.len());
        let mut written = Vec::new();
        write_repeatedly(&text, lines.len(), 3 * BLOCK + 5, &mut written).unwrap();
        assert_eq!(written.len(), 3 * BLOCK + 5);
        assert!(written.chunks(lines.len()).all(|chunk| lines.starts_with(chunk)));
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let [text, report] = ["text", "report"].map(|name| folder.path().join(name));
        fs::write(&text, "a line\n").unwrap();
        assert!(FloodReport::read(&report).is_err());
        run(&FloodOptions { text, bytes: 0, report: report.clone() }).unwrap();
        assert_eq!(FloodReport::read(&report).unwrap().longest, Duration::ZERO);
    }
}
