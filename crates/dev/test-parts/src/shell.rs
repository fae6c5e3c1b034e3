//! Runs other programs: captured, or with their output on stderr.
//!
//! Nothing here writes to stdout, because a chore's stdout is its result, and nothing reads stdin.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use crate::error::Error;

/// How many of a failed program's last lines are shown.
const TAIL_LINES: usize = 15;

/// Runs `command` and returns its stdout.
///
/// # Errors
/// When it cannot be started, or ends with anything but 0; the error then has its last lines.
pub fn read(command: &mut Command) -> Result<String, Error> {
    let output = command.stdin(Stdio::null()).output().map_err(|source| cannot_start(command, source))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let said = format!("{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    Err(Error::Failed { command: command_line(command), status: output.status, output: tail(&said) })
}

/// Runs `command` with all its output on stderr.
///
/// # Errors
/// When it cannot be started, or ends with anything but 0.
pub fn run(command: &mut Command) -> Result<(), Error> {
    let status = status(command.stdout(Stdio::from(std::io::stderr())))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Failed { command: command_line(command), status, output: String::new() })
}

/// Runs `command` with the output that the caller has set, and returns its exit status.
///
/// # Errors
/// When it cannot be started.
pub fn status(command: &mut Command) -> Result<ExitStatus, Error> {
    command.stdin(Stdio::null()).status().map_err(|source| cannot_start(command, source))
}

/// The exit code of a program as that of this one; 1 if a signal ended the program.
pub fn exit_code(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Runs `command --version` and returns the first line of the answer, which some programs write to stderr.
///
/// # Errors
/// When it cannot be started, or ends with anything but 0.
pub fn version(command: &mut Command) -> Result<String, Error> {
    let output =
        command.arg("--version").stdin(Stdio::null()).output().map_err(|source| cannot_start(command, source))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    if !output.status.success() {
        return Err(Error::Failed { command: command_line(command), status: output.status, output: tail(&said) });
    }
    Ok(said.lines().next().unwrap_or_default().to_owned())
}

/// Finds the first executable file named `program` on `PATH`.
pub fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Creates the error of a program that does not start.
pub fn cannot_start(command: &Command, source: std::io::Error) -> Error {
    Error::Io { what: format!("cannot start `{}`", command_line(command)), source }
}

/// Formats a command as a person would type it.
pub fn command_line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

fn tail(said: &str) -> String {
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].iter().map(|line| format!("\n  | {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_program_is_reported_with_its_last_lines() {
        let error = read(Command::new("sh").args(["-c", "echo first; echo second >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit status: 3") && text.ends_with("\n  | first\n  | second"), "{text}");
    }

    #[test]
    fn only_executable_files_count_as_programs() {
        assert!(on_path("sh").is_some());
        assert_eq!(on_path("no-such-program-anywhere"), None);
    }
}
