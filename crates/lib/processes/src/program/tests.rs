//! Programs that run and programs that cannot, each as a child of the test.

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use llama_warden_events::ProcessEnd;
use nix::unistd::Pid;

use super::*;
use crate::descent;

/// The output of a program with these words and variables, and how it ended; or the error of the kernel.
fn run(words: &[&str], variables: &[&str]) -> io::Result<(String, bool)> {
    let block = words.iter().chain(variables).copied().collect::<Vec<_>>().join("\0");
    let (mut reader, writer) = io::pipe()?;
    let pid = ReadyProgram::new(block.as_bytes(), words.len() - 1)?.run(&writer, &writer)?;
    drop(writer);
    let mut output = String::new();
    reader.read_to_string(&mut output)?;
    let has_succeeded = wait(pid) == ProcessEnd::Exited { code: 0 };
    Ok((output, has_succeeded))
}

fn wait(pid: u32) -> ProcessEnd {
    match waitpid(Pid::from_raw(pid.cast_signed()), None).expect("a child") {
        nix::sys::wait::WaitStatus::Exited(_, code) => ProcessEnd::Exited { code: u8::try_from(code).expect("a byte") },
        _ => ProcessEnd::Unknown,
    }
}

fn file(path: &Path, text: &str, mode: u32) -> String {
    fs::write(path, text).expect("writes");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("is ours");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn a_program_gets_its_arguments_and_its_variables_and_no_others() {
    let (output, has_succeeded) =
        run(&["/usr/bin/env", "-u", "B", "/usr/bin/env"], &["A=1=2", "B=3", "=C"]).expect("runs");
    assert!(has_succeeded && output == "A=1=2\n", "{output}");
}

#[test]
fn a_program_has_a_session_of_its_own_and_no_blocked_signal() {
    let shown = "read -r pid _ _ _ group session _ < /proc/self/stat; echo $((pid - group)) $((pid - session)); grep SigBlk /proc/self/status";
    let (output, _) = run(&["/bin/sh", "-c", shown], &["PATH=/bin:/usr/bin"]).expect("runs");
    let lines: Vec<&str> = output.lines().collect();
    assert!(matches!(lines[..], ["0 0", blocked] if blocked.ends_with("\t0000000000000000")), "{output}");
}

#[test]
fn a_name_is_searched_in_the_path_of_the_program_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    file(&folder.path().join("found-here"), "#!/bin/sh\necho found\n", 0o755);
    let path = format!("PATH=/nowhere:{}", folder.path().display());
    assert_eq!(run(&["found-here"], &[&path]).expect("runs").0, "found\n");
    assert_eq!(run(&["true"], &[]).expect("is in the default path"), (String::new(), true));
}

#[test]
fn a_file_that_names_no_interpreter_is_run_by_the_shell() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = file(&folder.path().join("script"), "echo \"$0\" \"$1\"\n", 0o755);
    assert_eq!(run(&[&script, "one"], &[]).expect("runs").0, format!("{script} one\n"));
}

#[test]
fn the_error_of_the_kernel_comes_back_and_no_child_is_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let plain = file(&folder.path().join("plain"), "text", 0o644);
    let path = format!("PATH={}:/nowhere", folder.path().display());
    for (words, variables, expected) in [
        (&["/no/such/program"][..], &[][..], Errno::ENOENT),
        (&[&plain], &[], Errno::EACCES),
        (&["plain"], &[&*path], Errno::EACCES),
        (&["no-such-program"], &[&*path], Errno::ENOENT),
        (&[""], &[], Errno::ENOENT),
        (&["/bin/true", &"x".repeat(1 << 18)], &[], Errno::E2BIG),
    ] {
        let error = run(words, variables).expect_err("it cannot run");
        assert_eq!(error.raw_os_error(), Some(expected as i32), "{words:.40?}: {error}");
    }
    let own = |pid: &u32| llama_warden_procfs::ProcessStat::of(*pid).is_some_and(|stat| stat.is_zombie());
    let zombies: Vec<u32> = descent::children().into_iter().filter(own).collect();
    assert!(zombies.is_empty(), "{zombies:?}");
}
