//! Mistakes of users: an invalid edit while the daemon runs, a closed pipe, a mistyped path.

use std::process::Stdio;

use llama_warden_stand_in::Script;
use llama_warden_tests::{WAIT_LIMIT, daemon_program, sandbox};
use tokio::time::timeout;

/// Fault S26.
/// Commands still find the daemon, and `reload` reports the problems of the file.
#[test]
fn an_invalid_configuration_does_not_hide_the_daemon() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let right = fleet.toml();
        let line = right.trim_end().lines().count() + 1;
        for wrong in ["[no-such-section]\n", "[stop\n"] {
            std::fs::write(fleet.path(), format!("{}\n{wrong}", right.trim_end())).unwrap();
            let status = sandbox.run(&fleet.path(), ["status"]).await.expect(0);
            assert!(status.stderr.contains("llama-warden check"), "{}", status.stderr);
            let reload = sandbox.run(&fleet.path(), ["reload"]).await.expect(2);
            let place = format!("warden.toml:{line}");
            assert!(reload.stderr.contains(&place), "no {place} in {}", reload.stderr);
        }
        sandbox.run(&fleet.path(), ["stop", "a"]).await.expect(0);
        std::fs::write(fleet.path(), right).unwrap();
    });
}

/// The exit code is 0 and nothing panics, as with `llama-warden schema | head -1`.
#[test]
fn a_reader_that_closes_the_pipe_ends_a_command_well() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let config = fleet.write();
        let commands: [&[&str]; 8] = [
            &["schema"],
            &["schema", "detector"],
            &["schema", "dialect"],
            &["schema", "openapi"],
            &["check"],
            &["check", "--json"],
            &["completions", "bash"],
            &["demo"],
        ];
        for arguments in commands {
            let mut command = sandbox.program(daemon_program());
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            command.arg("--config").arg(&config).args(arguments).stdin(Stdio::null()).stdout(writer);
            let child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
            let output = timeout(WAIT_LIMIT, child.wait_with_output()).await.expect("it ends").unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!((output.status.code(), said.contains("panicked")), (Some(0), false), "{arguments:?}: {said}");
        }
    });
}

/// The exit code is 2. A folder in the configuration may be created later; one on the command line must exist.
#[test]
fn up_refuses_a_folder_of_models_that_is_none() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section("[models]\ndirs = [\"not-there-yet\"]");
        let config = fleet.write();
        sandbox.run(&config, ["check"]).await.expect(0);
        let file = sandbox.file("a-file");
        std::fs::write(&file, "").unwrap();
        for folder in [sandbox.file("not-there"), file] {
            let folder = folder.to_string_lossy().into_owned();
            let ran = sandbox.run(&config, ["up", "--models", &folder]).await.expect(2);
            assert!(ran.stderr.contains(&folder) && ran.stderr.contains("next: "), "{}", ran.stderr);
        }
    });
}

/// Errors of every kind and warnings come together, and JSON has the same.
#[test]
fn the_check_tells_everything_at_once() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        fleet.section("[stop]\ngrase = \"1s\"\n[readiness]\ndetectors-dir = \"packs\"");
        fleet.section("[profiles.p]\nservers = [{ tier = \"Q9*\" }]\n[extensions.pager]");
        fleet.section("[[servers]]\nid = \"cut\"\nmodel = \"cut.gguf\"\nport = 1");
        let config = fleet.write();
        let beside = |name: &str| config.with_file_name(name);
        std::fs::write(beside("cut.gguf"), "GGUF").unwrap();
        std::fs::create_dir(beside("packs")).unwrap();
        std::fs::write(beside("packs/bad.toml"), "name = 1").unwrap();
        let checked = sandbox.run(&config, ["check"]).await.expect(2);
        for told in [
            "unknown key `stop.grase`",
            "no server has a tier like `Q9*`",
            "bad.toml:1",
            "no component `pager`",
            "cut.gguf cannot be served",
            "not valid, 3 errors",
        ] {
            assert!(checked.stderr.contains(told), "{told} in {}", checked.stderr);
        }
        let json = sandbox.run(&config, ["check", "--json"]).await.expect(2).json();
        let count = |key: &str| json[key].as_array().map(Vec::len);
        assert_eq!((count("problems"), count("refused_files"), &json["valid"]), (Some(2), Some(1), &false.into()));
        assert!(count("warnings") >= Some(2), "{json}");
    });
}
