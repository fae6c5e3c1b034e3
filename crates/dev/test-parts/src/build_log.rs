//! Runs a build with its output in a file. The terminal shows the progress, and the last lines of a build that fails.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, OnPath};
use crate::shell;

/// How many of a failed build's last lines are shown.
const TAIL_LINES: usize = 40;

/// The log file of one build, and its progress on stderr.
#[derive(Debug)]
pub struct BuildLog {
    path: PathBuf,
    file: File,
    progress: BuildProgress,
}

/// A step of a build, as ninja counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BuildStep {
    done: u32,
    total: u32,
}

/// Shows steps on stderr: on a terminal in one line that is rewritten, elsewhere with one line for each tenth.
#[derive(Debug)]
struct BuildProgress {
    name: String,
    is_terminal: bool,
    /// The last tenth that was shown, from 0 to 10.
    tenths: u32,
}

impl BuildLog {
    /// Creates the log of the build of `name` at `path`, replacing a log that is there.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create(path: &Path, name: &str) -> Result<Self, Error> {
        let file = File::create(path).on("create", path)?;
        let progress = BuildProgress { name: name.to_owned(), is_terminal: io::stderr().is_terminal(), tenths: 0 };
        Ok(Self { path: path.to_owned(), file, progress })
    }

    /// Runs `command` with all its output in the log.
    ///
    /// # Errors
    /// When it cannot be started, or ends with anything but 0; the error then shows its last lines and the log's path.
    pub fn run(&mut self, command: &mut Command) -> Result<(), Error> {
        let said = |source| Error::Io { what: "cannot read the output of a build".to_owned(), source };
        let (output, stdout) = io::pipe().map_err(said)?;
        let stderr = stdout.try_clone().map_err(said)?;
        let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn();
        let mut child = child.map_err(|source| shell::cannot_start(command, source))?;
        // `command` still owns write ends of the pipe; with them open the loop below would never reach end of file.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut last: Vec<String> = Vec::new();
        for line in BufReader::new(output).split(b'\n') {
            let line = line.map_err(said)?;
            self.file.write_all(&line).and_then(|()| self.file.write_all(b"\n")).on("write", &self.path)?;
            let line = String::from_utf8_lossy(&line).into_owned();
            if let Some(step) = BuildStep::of(&line) {
                self.progress.show(step);
            }
            if last.len() == TAIL_LINES {
                last.remove(0);
            }
            last.push(line);
        }
        let status = child.wait().map_err(said)?;
        self.progress.end();
        if status.success() {
            return Ok(());
        }
        let output: String = last.iter().map(|line| format!("\n  | {line}")).collect();
        let output = format!("{output}\n  the whole log: {}", self.path.display());
        Err(Error::Failed { command: shell::command_line(command), status, output })
    }
}

impl BuildStep {
    /// Reads a line like `[57/208] Building CXX object …`; `None` for any other.
    fn of(line: &str) -> Option<Self> {
        let (done, total) = line.strip_prefix('[')?.split_once("] ")?.0.split_once('/')?;
        let step = Self { done: done.trim().parse().ok()?, total: total.parse().ok()? };
        (step.total > 0 && step.done <= step.total).then_some(step)
    }

    fn tenths(self) -> u32 {
        u32::try_from(u64::from(self.done) * 10 / u64::from(self.total)).unwrap_or(10)
    }
}

impl BuildProgress {
    fn show(&mut self, step: BuildStep) {
        let line = self.line(step);
        // Progress is a courtesy: a closed stderr must not fail the build.
        let _ = match line {
            Some(line) if self.is_terminal => write!(io::stderr(), "\r\x1b[K{line}"),
            Some(line) => writeln!(io::stderr(), "{line}"),
            None => Ok(()),
        };
    }

    /// Returns the text to show for a step, if any.
    fn line(&mut self, step: BuildStep) -> Option<String> {
        let BuildStep { done, total } = step;
        if self.is_terminal {
            return Some(format!("{}: [{done}/{total}]", self.name));
        }
        let tenths = step.tenths();
        if tenths == self.tenths {
            return None;
        }
        self.tenths = tenths;
        Some(format!("{}: {} % ({done} of {total} steps)", self.name, tenths * 10))
    }

    /// Clears the line that was rewritten.
    fn end(&self) {
        if self.is_terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_read_from_what_ninja_says() {
        assert_eq!(BuildStep::of("[57/208] Building CXX object a.o"), Some(BuildStep { done: 57, total: 208 }));
        for line in ["", "[57/208]", "[0/0] x", "[9/8] x", "[a/b] x", "warning: [1/2] x", "[100%] Built target x"] {
            assert_eq!(BuildStep::of(line), None, "{line:?}");
        }
    }

    #[test]
    fn off_a_terminal_each_tenth_is_told_once() {
        let mut progress = BuildProgress { name: "x".to_owned(), is_terminal: false, tenths: 0 };
        let lines: Vec<String> = (1..=208).filter_map(|done| progress.line(BuildStep { done, total: 208 })).collect();
        assert_eq!(lines.len(), 10, "{lines:?}");
        assert_eq!(lines.first().map(String::as_str), Some("x: 10 % (21 of 208 steps)"));
        assert_eq!(lines.last().map(String::as_str), Some("x: 100 % (208 of 208 steps)"));
    }

    #[test]
    fn a_failed_build_shows_its_last_lines_and_where_the_others_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let mut log = BuildLog::create(&path, "a").unwrap();
        let script = "for n in $(seq 100); do echo line $n; done; echo bad >&2; exit 3";
        let error = log.run(Command::new("sh").args(["-c", script])).unwrap_err().to_string();
        assert!(error.contains("exit status: 3\n  | line 62\n") && !error.contains("line 61\n"), "{error}");
        assert!(error.ends_with(&format!("  | bad\n  the whole log: {}", path.display())), "{error}");
        log.run(Command::new("echo").arg("after it")).unwrap();
        let kept = std::fs::read_to_string(&path).unwrap();
        assert!(kept.starts_with("line 1\n") && kept.ends_with("bad\nafter it\n"), "{kept}");
    }
}
