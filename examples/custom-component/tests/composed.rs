//! The composed program gives up a server whose model does not exist, and the pager reports it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

#[test]
fn a_server_that_is_given_up_is_paged_and_the_page_is_an_event() {
    let folder = tempfile::tempdir().expect("makes a folder");
    let config = folder.path().join("llama-warden.toml");
    let server = "[[servers]]\nid = \"ghost\"\nmodel = \"ghost.gguf\"\nport = 18999\n[llama-server]\nbinary = \"/bin/true\"\n";
    let daemon = "[daemon]\nlisten = \"\"\nstate-dir = \"state\"\n[extensions.pager]\nfile = \"pages.log\"\n";
    fs::write(&config, format!("{server}{daemon}")).expect("writes");
    let program = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_custom-component"));
        command.arg("--config").arg(&config).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("starts")
    };
    let mut up = program(&["up"]);
    let mut log = BufReader::new(up.stderr.take().expect("is piped")).lines().map_while(Result::ok);
    assert!(log.any(|line| line.contains("llama-warden is up")), "the daemon does not start");
    std::thread::spawn(move || log.for_each(drop));
    let mut events = program(&["events", "-f", "--json"]);
    let mut lines = BufReader::new(events.stdout.take().expect("is piped")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("PageSent") && line.contains("\"source\":\"pager\"")), "no page was sent");
    assert!(fs::read_to_string(folder.path().join("state/pages.log")).expect("written").contains("ghost: "));
    assert!(program(&["down"]).wait().expect("runs").success());
    assert!(up.wait().expect("ends").success() && events.wait().expect("ends").success());
}
