//! A daemon to measure: started with a configuration, asked through its own command line, ended with the value.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use xtask::error::{Error, OnPath};
use xtask::shell;

use crate::events;
use crate::procfs;
use crate::programs::quoted;

/// Longest time for something that must come.
pub const WAIT_LIMIT: Duration = Duration::from_secs(120);
/// A daemon that uses no processor time for this long has settled.
const QUIET: Duration = Duration::from_secs(1);

/// A running daemon. Dropped, it is killed, and the kernel kills its servers.
#[derive(Debug)]
pub struct MeasuredDaemon {
    child: Child,
    program: PathBuf,
    config: PathBuf,
}

impl MeasuredDaemon {
    /// Starts `program` in `folder`, which must be empty or keep what an ended daemon left, and waits until it answers.
    /// `sections` is the configuration without `[daemon]`.
    ///
    /// # Errors
    /// When it ends instead, or does not answer within [`WAIT_LIMIT`].
    pub fn start(program: &Path, folder: &Path, sections: &str) -> Result<Self, Error> {
        let config = folder.join("llama-warden.toml");
        // No TCP: the control socket serves the same, and no port has to be found.
        let daemon = format!("[daemon]\nlisten = \"\"\nstate-dir = {}\n{sections}", quoted(&folder.join("state")));
        fs::write(&config, daemon).on("write", &config)?;
        let log = folder.join("daemon.log");
        let output = || File::create(&log).on("write", &log);
        let mut command = Command::new(program);
        command.arg("--config").arg(&config).arg("up").stdin(Stdio::null()).stdout(output()?).stderr(output()?);
        let child = command.spawn().on("start", program)?;
        let mut daemon = Self { child, program: program.to_owned(), config };
        daemon.wait_for_socket(&folder.join("state/control.sock"), &log)?;
        Ok(daemon)
    }

    fn wait_for_socket(&mut self, control: &Path, log: &Path) -> Result<(), Error> {
        let deadline = Instant::now() + WAIT_LIMIT;
        while UnixStream::connect(control).is_err() {
            let has_ended = self.child.try_wait().on("wait for", &self.program)?.is_some();
            if has_ended || Instant::now() > deadline {
                let said = fs::read_to_string(log).unwrap_or_default();
                return Err(Error::missing("the daemon does not answer", format!("read what it said:\n{said}")));
            }
            // A socket that is not there yet sends no event.
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A command of the command line against it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(&self.config).args(arguments);
        command
    }

    /// Runs a command of the command line against it and returns what that printed.
    ///
    /// # Errors
    /// When the command ends with anything but 0.
    pub fn ask(&self, arguments: &[&str]) -> Result<String, Error> {
        shell::read(&mut self.command(arguments))
    }

    /// Asks it for something that takes time and waits; returns the milliseconds from the acceptance of that to its
    /// completion, by the daemon's own clock.
    ///
    /// # Errors
    /// When the command ends with anything but 0, or what it asked for is not complete.
    pub fn time(&self, arguments: &[&str]) -> Result<f64, Error> {
        self.ask(arguments)?;
        events::latest_command(&self.events()?).ok_or_else(|| {
            Error::missing(format!("`{}` is not complete", arguments.join(" ")), "see what `llama-warden events` says")
        })
    }

    /// Every event that it keeps, oldest first.
    ///
    /// # Errors
    /// When it does not answer, or with anything but JSON.
    pub fn events(&self) -> Result<Vec<Value>, Error> {
        let lines = self.ask(&["events", "--json"])?;
        let parse = |line: &str| {
            serde_json::from_str(line).map_err(|error| {
                Error::missing(format!("no event ({error}): {line}"), "mend `llama-warden events --json`")
            })
        };
        lines.lines().map(parse).collect()
    }

    /// Waits until it has used no processor time for a second.
    ///
    /// # Errors
    /// When it has ended, or does not come to rest within [`WAIT_LIMIT`].
    pub fn wait_until_idle(&self) -> Result<(), Error> {
        let deadline = Instant::now() + WAIT_LIMIT;
        let mut before = procfs::processor_time(self.pid())?;
        while Instant::now() < deadline {
            std::thread::sleep(QUIET);
            let now = procfs::processor_time(self.pid())?;
            if now == before {
                return Ok(());
            }
            before = now;
        }
        Err(Error::missing("the daemon does not come to rest", "see what its threads do"))
    }

    /// Ends it and its servers.
    ///
    /// # Errors
    /// When it does not end well.
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
        // After a stop it has been waited for, and these do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
