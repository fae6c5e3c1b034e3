//! Starts the daemon to measure, and talks to it through its own command line.
//!
//! A daemon and its servers never outlive the value that stands for them.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use llama_warden_test_parts::error::{Error, OnPath};
use llama_warden_test_parts::shell;
use serde_json::Value;

use crate::events;
use crate::procfs;
use crate::programs::quoted;

/// How long to wait for an event or an answer before the measurement fails.
pub const WAIT_LIMIT: Duration = Duration::from_secs(120);
/// A daemon that uses less than [`HARDLY`] for this long is idle.
const QUIET: Duration = Duration::from_secs(1);
/// Processor time of timers and of what they check.
const HARDLY: Duration = Duration::from_millis(5);

/// A running daemon. Dropping it kills the daemon; the kernel then kills its servers.
#[derive(Debug)]
pub struct MeasuredDaemon {
    child: Child,
    program: PathBuf,
    config: PathBuf,
}

impl MeasuredDaemon {
    /// Starts `program` with its state in `folder` and waits until it accepts connections. `sections` is the configuration
    /// without `[daemon]`.
    ///
    /// # Errors
    /// When the daemon ends, or does not answer within [`WAIT_LIMIT`].
    pub fn start(program: &Path, folder: &Path, sections: &str) -> Result<Self, Error> {
        Self::start_with(program, folder, sections, &[])
    }

    /// The same with more in its environment.
    ///
    /// # Errors
    /// When the daemon ends, or does not answer within [`WAIT_LIMIT`].
    pub fn start_with(
        program: &Path,
        folder: &Path,
        sections: &str,
        environment: &[(&str, &str)],
    ) -> Result<Self, Error> {
        let config = folder.join("llama-warden.toml");
        write_configuration(&config, sections)?;
        let log = folder.join("daemon.log");
        let child = up(program, &config, &[], environment, &log)?;
        let mut daemon = Self { child, program: program.to_owned(), config };
        daemon.wait_for_socket(&log)?;
        Ok(daemon)
    }

    fn wait_for_socket(&mut self, log: &Path) -> Result<(), Error> {
        let control = self.config.with_file_name("state/control.sock");
        let deadline = Instant::now() + WAIT_LIMIT;
        while UnixStream::connect(&control).is_err() {
            let has_ended = self.child.try_wait().on("wait for", &self.program)?.is_some();
            if has_ended || Instant::now() > deadline {
                let said = fs::read_to_string(log).unwrap_or_default();
                return Err(Error::missing("the daemon does not answer", format!("read its log:\n{said}")));
            }
            // Nothing signals that a socket appears, so this polls.
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Replaces the configuration in one step. The daemon notices it by itself.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn configure(&self, sections: &str) -> Result<(), Error> {
        let new = self.config.with_extension("new");
        write_configuration(&new, sections)?;
        fs::rename(&new, &self.config).on("write", &self.config)
    }

    /// The process id of the daemon.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Prepares a command of the command line for this daemon.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(&self.config).args(arguments);
        command
    }

    /// Runs a command of the command line against this daemon and returns its stdout.
    ///
    /// # Errors
    /// When the command ends with anything but 0.
    pub fn ask(&self, arguments: &[&str]) -> Result<String, Error> {
        shell::read(&mut self.command(arguments))
    }

    /// Runs a command that waits for its result; returns the milliseconds from `CommandAccepted` to `CommandCompleted`, by the
    /// daemon's clock.
    ///
    /// # Errors
    /// When the command ends with anything but 0, or the daemon has not completed it.
    pub fn time(&self, arguments: &[&str]) -> Result<f64, Error> {
        self.ask(arguments)?;
        events::latest_command(&self.events()?).ok_or_else(|| {
            Error::missing(format!("`{}` is not complete", arguments.join(" ")), "see what `llama-warden events` says")
        })
    }

    /// All events that the daemon keeps, oldest first.
    ///
    /// # Errors
    /// When the daemon does not answer, or the answer is not JSON.
    pub fn events(&self) -> Result<Vec<Value>, Error> {
        let lines = self.ask(&["events", "--json"])?;
        let parse = |line: &str| {
            serde_json::from_str(line).map_err(|error| {
                Error::missing(
                    format!("this line is not an event ({error}): {line}"),
                    "fix `llama-warden events --json`",
                )
            })
        };
        lines.lines().map(parse).collect()
    }

    /// Waits until the daemon has hardly used processor time for a moment.
    ///
    /// # Errors
    /// When the daemon has ended, or is not idle within [`WAIT_LIMIT`].
    pub fn wait_until_idle(&self) -> Result<(), Error> {
        let deadline = Instant::now() + WAIT_LIMIT;
        let mut before = procfs::processor_time(self.pid())?;
        while Instant::now() < deadline {
            std::thread::sleep(QUIET);
            let now = procfs::processor_time(self.pid())?;
            if now - before < HARDLY {
                return Ok(());
            }
            before = now;
        }
        Err(Error::missing("the daemon does not become idle", "see what its threads do"))
    }

    /// Has a new daemon take over from this one, and returns it when this one has ended and it answers.
    ///
    /// # Errors
    /// When this one does not end with 0, or the new one does not answer within [`WAIT_LIMIT`].
    pub fn taken_over(mut self) -> Result<Self, Error> {
        let log = self.config.with_file_name("next.log");
        let child = up(&self.program, &self.config, &["--take-over"], &[], &log)?;
        let mut next = Self { child, program: self.program.clone(), config: self.config.clone() };
        let status = self.child.wait().on("wait for", &self.program)?;
        if !status.success() {
            let said = fs::read_to_string(log).unwrap_or_default();
            return Err(Error::Failed { command: "llama-warden up --take-over".to_owned(), status, output: said });
        }
        // The new one has the servers before it has the socket.
        next.wait_for_socket(&log)?;
        Ok(next)
    }

    /// Shuts the daemon and its servers down.
    ///
    /// # Errors
    /// When the daemon ends with anything but 0.
    pub fn stop(mut self) -> Result<(), Error> {
        self.ask(&["down"])?;
        let status = self.child.wait().on("wait for", &self.program)?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Failed { command: "llama-warden up".to_owned(), status, output: String::new() })
    }
}

impl Drop for MeasuredDaemon {
    fn drop(&mut self) {
        // After `stop` the child is reaped already, and both calls do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a daemon.
fn up(
    program: &Path,
    config: &Path,
    options: &[&str],
    environment: &[(&str, &str)],
    log: &Path,
) -> Result<Child, Error> {
    let output = || File::create(log).on("write", log);
    let mut command = Command::new(program);
    command.arg("--config").arg(config).arg("up").args(options).envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(output()?).stderr(output()?).spawn().on("start", program)
}

fn write_configuration(config: &Path, sections: &str) -> Result<(), Error> {
    // Without TCP no port has to be found; the control socket serves the same requests.
    let state = config.with_file_name("state");
    let daemon = format!("[daemon]\nlisten = \"\"\nstate-dir = {}\n{sections}", quoted(&state));
    fs::write(config, daemon).on("write", config)
}
