//! Commands whose output nobody reads: a closed pipe, a closed stream, a full disk.

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;

use futures_util::future::join_all;
use llama_warden_stand_in::Script;
use llama_warden_tests::{WAIT_LIMIT, daemon_program, sandbox};
use nix::unistd::pipe;
use tokio::process::Command;

/// The end of a pipe that nobody reads any more.
fn unread() -> OwnedFd {
    let (_, writer) = pipe().expect("a pipe");
    writer
}

/// The exit code of a command. One that panics or is ended by SIGPIPE has another one.
async fn code(mut command: Command) -> Option<i32> {
    let status = tokio::time::timeout(WAIT_LIMIT, command.stdin(Stdio::null()).status()).await;
    status.expect("it ends").expect("it starts").code()
}

#[test]
fn a_reader_that_left_changes_no_exit_code() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        fleet.server_with("wrong", Script::default(), "args = [\"--port\", \"1\"]");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let broken = sandbox.file("broken.toml");
        std::fs::write(&broken, "[daemon]\nlisten = 5\n").expect("the sandbox can be written");
        let told = |config: &Path, arguments: &[&str]| {
            let mut command = sandbox.program(daemon_program());
            command.arg("--config").arg(config).args(arguments);
            command
        };
        let config = daemon.config();
        let cases: [(&Path, &[&str], i32); 12] = [
            (config, &["check"], 2),
            (&broken, &["check"], 2),
            (&broken, &["up"], 2),
            (config, &["status"], 0),
            (config, &["status", "nobody"], 2),
            (config, &["status", "--json", "nobody"], 2),
            (config, &["wait", "--all", "--timeout", "60s"], 3),
            (config, &["logs"], 0),
            (config, &["events"], 0),
            (config, &["argv", "a"], 0),
            (config, &["no-command"], 2),
            (config, &["--help"], 0),
        ];
        let runs = join_all(cases.map(|(config, arguments, _)| {
            let mut neither = told(config, arguments);
            neither.stdout(unread()).stderr(unread());
            let mut no_errors = told(config, arguments);
            no_errors.stdout(Stdio::null()).stderr(unread());
            async move { (code(neither).await, code(no_errors).await) }
        }))
        .await;
        for ((_, arguments, expected), (neither, no_errors)) in cases.into_iter().zip(runs) {
            // Where the first byte of what is asked for finds no reader, nothing is left to fail.
            assert!(neither == Some(expected) || neither == Some(0), "{arguments:?}: {neither:?}");
            assert_eq!(no_errors, Some(expected), "{arguments:?}");
        }
    });
}

#[test]
fn what_a_full_disk_does_not_take_is_an_error_on_the_other_stream() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let commands: [&[&str]; 5] = [&["status"], &["status", "--json"], &["logs"], &["config", "init"], &["--help"]];
        for arguments in commands {
            let mut command = sandbox.program(daemon_program());
            let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
            let errors = sandbox.file("errors");
            command.arg("--config").arg(daemon.config()).args(arguments);
            command.stdout(full).stderr(File::create(&errors).expect("the sandbox can be written"));
            assert_eq!(code(command).await, Some(1), "{arguments:?}");
            let told = std::fs::read_to_string(&errors).expect("it was written");
            assert!(told.contains("cannot write to standard output: No space left"), "{arguments:?}: {told}");
        }
    });
}
