//! The composed program gives up a server whose model is cut off, and the pager reports it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Runs the program with a server that cannot be started and with the table `pager`.
fn program(folder: &tempfile::TempDir, pager: &str, arguments: &[&str]) -> Child {
    let config = folder.path().join("llama-warden.toml");
    let server = "[[servers]]\nid = 'ghost'\nmodel = 'ghost.gguf'\nport = 18999\nbinary = '/bin/true'\n";
    let daemon = "[daemon]\nlisten = ''\nstate-dir = 'state'\n[extensions.pager]\n";
    fs::write(folder.path().join("ghost.gguf"), "GGUF").expect("writes");
    fs::write(&config, format!("{server}{daemon}{pager}")).expect("writes");
    let mut command = Command::new(env!("CARGO_BIN_EXE_custom-component"));
    command.arg("--config").arg(&config).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("starts")
}

#[test]
fn a_server_that_is_given_up_is_paged_and_the_page_is_an_event() {
    let folder = tempfile::tempdir().expect("makes a folder");
    let program = |arguments: &[&str]| program(&folder, "file = 'pages.log'", arguments);
    let mut up = program(&["up"]);
    let mut log = BufReader::new(up.stderr.take().expect("is piped")).lines().map_while(Result::ok);
    assert!(log.any(|line| line.contains("llama-warden is up")), "the daemon does not start");
    std::thread::spawn(move || log.for_each(drop));
    let mut events = program(&["events", "-f", "--json"]);
    let mut lines = BufReader::new(events.stdout.take().expect("is piped")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("PageSent") && line.contains("\"source\":\"pager\"")), "no page was sent");
    assert!(fs::read_to_string(folder.path().join("state/pages.log")).expect("written").contains("ghost: "));
    assert!(program(&["down"]).wait().expect("runs").success() && up.wait().expect("ends").success());
    // A follower waits for the next daemon.
    events.kill().and_then(|()| events.wait()).expect("ends");
}

/// What it says to do, it says of itself.
#[test]
fn commands_that_it_advises_are_its_own() {
    let folder = tempfile::tempdir().expect("makes a folder");
    let say = |arguments: &[&str]| {
        let ended = program(&folder, "file = 'pages.log'", arguments).wait_with_output().expect("ends");
        [ended.stdout, ended.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat()
    };
    for (arguments, expected) in [
        (&["status"][..], "`custom-component up"),
        (&["--json", "status"], "`custom-component up"),
        (&["--help"], "  custom-component status --watch "),
        (&["check", "missing.toml"], "`custom-component config init`"),
    ] {
        let said = say(arguments);
        assert!(said.contains(expected) && !said.contains("`llama-warden "), "{arguments:?}: {said}");
    }
}

/// Fault S13.
#[test]
fn a_component_that_fails_ends_the_daemon_with_its_error() {
    let folder = tempfile::tempdir().expect("makes a folder");
    let ended = program(&folder, "file = \".\"\n", &["up"]).wait_with_output().expect("ends");
    let log = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{log}");
    assert!(log.contains("component `pager` failed") && log.contains("cannot append a page"), "{log}");
}

#[test]
fn a_component_that_cannot_be_built_says_where_in_the_configuration() {
    for (table, expected) in [
        ("file = 7\n", "llama-warden.toml:10:8"),
        ("file = \"a\"\nfiel = 1\n", "llama-warden.toml:11:1"),
        ("", "llama-warden.toml:9:1"),
    ] {
        let folder = tempfile::tempdir().expect("makes a folder");
        let ended = program(&folder, table, &["up"]).wait_with_output().expect("ends");
        let log = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{log}");
        assert!(log.contains("component `pager` cannot be built: [extensions.pager]: ") && log.contains(expected), "{log}");
    }
}
