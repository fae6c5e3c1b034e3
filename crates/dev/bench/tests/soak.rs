//! Short runs of the soak, so that it works when somebody needs a long one.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

/// Runs the soak with the programs that were built beside it, and returns its table.
fn soak(arguments: &[&str]) -> String {
    let soak = Path::new(env!("CARGO_BIN_EXE_llama-warden-bench"));
    let programs = soak.parent().expect("a program lies in a folder");
    for name in ["llama-warden", "stand-in-llama-server"] {
        assert!(
            programs.join(name).exists(),
            "run `cargo build --workspace --bins` first: {name} is not in {programs:?}"
        );
    }
    let output = Command::new(soak).arg("soak").arg("--programs").arg(programs).args(arguments).output();
    let output = output.expect("it was built");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_few_seconds_of_random_commands_leave_nothing_behind() {
    assert!(soak(&["--minutes", "0.05"]).contains("most zombies"));
}

#[test]
fn a_few_restarts_leave_nothing_behind() {
    assert!(soak(&["--restarts", "10"]).contains("descriptors"));
}
