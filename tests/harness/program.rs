//! Finds the programs under test, and runs programs to their end.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

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
