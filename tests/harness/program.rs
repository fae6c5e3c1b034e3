//! Finds the programs under test, and runs programs to their end.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;

use crate::WAIT_LIMIT;

/// The result of a program that ran to its end.
#[derive(Debug)]
pub struct ProgramRun {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// Its standard output; invalid UTF-8 is replaced.
    pub stdout: String,
    /// Its standard error; invalid UTF-8 is replaced.
    pub stderr: String,
}

impl ProgramRun {
    /// Runs `command` to its end, with an empty standard input.
    ///
    /// # Panics
    /// If it does not start, or does not end within [`WAIT_LIMIT`].
    pub async fn to_end(mut command: Command) -> Self {
        let shown = format!("{:?}", command.as_std());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().unwrap_or_else(|error| panic!("{shown}: {error}"));
        let output = tokio::time::timeout(WAIT_LIMIT, child.wait_with_output()).await;
        let output = output.unwrap_or_else(|_| panic!("{shown} does not end")).expect("its output can be read");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Runs `command` on a terminal of this size to its end, or until `until` is on the terminal; then it gets INT. What the
    /// terminal got is its standard output.
    ///
    /// # Panics
    /// If it does not start, or does not end within [`WAIT_LIMIT`].
    pub async fn on_terminal(mut command: Command, columns: u16, rows: u16, until: Option<&str>) -> Self {
        let terminal = TestTerminal::new(columns, rows);
        let mut child = terminal.attach(&mut command).kill_on_drop(true).spawn().expect("it starts");
        let TestTerminal { master, slave } = terminal;
        // The command holds the other end too, and reading ends when nobody does.
        drop((command, slave));
        let pid = Pid::from_raw(child.id().and_then(|id| id.try_into().ok()).expect("it runs"));
        let until = until.map(str::to_owned);
        let reading = tokio::task::spawn_blocking(move || {
            let (mut master, mut bytes, mut buffer) = (File::from(master), Vec::new(), [0; 4096]);
            let mut interrupted = until.is_none();
            // The kernel reports EIO when no process has the terminal open any more.
            while let Ok(count @ 1..) = master.read(&mut buffer) {
                bytes.extend_from_slice(&buffer[..count]);
                if !interrupted && until.as_ref().is_some_and(|until| String::from_utf8_lossy(&bytes).contains(until)) {
                    interrupted = true;
                    // If it has ended by itself, there is nothing to interrupt.
                    let _ = kill(pid, Signal::SIGINT);
                }
            }
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let ended = tokio::time::timeout(WAIT_LIMIT, async { (child.wait().await, reading.await) }).await;
        let (status, stdout) = ended.expect("it ends");
        Self {
            status: status.expect("it can be waited for"),
            stdout: stdout.expect("it is read"),
            stderr: String::new(),
        }
    }

    /// The exit code.
    ///
    /// # Panics
    /// If a signal ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("a signal ended it: {self:?}"))
    }

    /// Asserts the exit code.
    ///
    /// # Panics
    /// With the output, if the program ended otherwise.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self:?}");
        self
    }

    /// Its standard output as JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A terminal. While nobody reads, it takes a few thousand bytes, and then nothing.
#[derive(Debug)]
pub struct TestTerminal {
    /// The end of the person: what the programs on the terminal write is read from it, and what is written to it is typed.
    pub master: OwnedFd,
    slave: OwnedFd,
}

impl TestTerminal {
    /// A terminal of this size.
    ///
    /// # Panics
    /// If the kernel has none.
    pub fn new(columns: u16, rows: u16) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None).expect("a pseudo terminal");
        Self { master, slave }
    }

    /// Makes it the terminal of a command.
    ///
    /// # Panics
    /// If its descriptor cannot be duplicated.
    pub fn attach<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let end = || self.slave.try_clone().expect("a descriptor");
        command.env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end())
    }
}

/// The path of llama-warden: `LLAMA_WARDEN_BIN`, else the program that was built beside this test.
pub fn daemon_program() -> PathBuf {
    match std::env::var_os("LLAMA_WARDEN_BIN") {
        Some(program) => program.into(),
        None => beside_this_test("llama-warden"),
    }
}

/// The path of the stand-in that was built beside this test.
pub fn stand_in_program() -> PathBuf {
    beside_this_test("stand-in-llama-server")
}

/// Writes a script that can be executed, creates its folder where it is missing, and returns its path.
///
/// # Panics
/// If it cannot be written.
pub fn executable(path: &Path, text: &str) -> PathBuf {
    std::fs::create_dir_all(path.parent().expect("a file in a folder")).expect("the sandbox can be written");
    // `sh` writes it, for the reason given in `Sandbox::copy_of_daemon`.
    let mut writer = std::process::Command::new("sh");
    writer.args(["-c", "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\""]).arg(path).arg(text);
    assert!(writer.status().expect("sh runs").success(), "the sandbox can be written");
    path.to_owned()
}

/// Cargo puts tests into `target/PROFILE/deps` and programs into `target/PROFILE`. It does not build the programs of other
/// packages for a test, so a missing one is an error with the command that builds it.
fn beside_this_test(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let folder = test.parent().and_then(Path::parent).expect("tests lie two folders deep");
    let program = folder.join(name);
    assert!(program.is_file(), "{} does not exist: run `cargo build --workspace --bins` first", program.display());
    program
}
