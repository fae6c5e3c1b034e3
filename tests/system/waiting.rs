//! What commands that wait say, and when they end.

use llama_warden_stand_in::Script;
use llama_warden_tests::{ProgramRun, daemon_program, sandbox};

#[test]
fn a_wait_for_a_server_that_was_stopped_by_hand_ends_and_says_so() {
    sandbox(async |sandbox| {
        let (_, daemon) = sandbox.up_ready(&["a", "b"]).await;
        // Without a wait: its stop may still be under way.
        sandbox.run(daemon.config(), ["stop", "a"]).await.expect(0);
        for arguments in [&["wait", "a"][..], &["wait", "a", "b"], &["wait", "--all"]] {
            let told = sandbox.run(daemon.config(), arguments).await.expect(3).stderr;
            let start = format!("`llama-warden start a --config {}`", daemon.config().display());
            assert!(told.contains(&format!("a: stopped by hand; {start} starts it")), "{arguments:?}: {told}");
        }
        sandbox.run(daemon.config(), ["wait", "b"]).await.expect(0);
        sandbox.run(daemon.config(), ["wait", "a", "--for", "stopped"]).await.expect(0);
        sandbox.run(daemon.config(), ["start", "a"]).await.expect(0);
        sandbox.run(daemon.config(), ["wait", "a"]).await.expect(0);
    });
}

#[test]
fn a_wait_of_no_time_looks_once() {
    sandbox(async |sandbox| {
        let (_, daemon) = sandbox.up_ready(&["a"]).await;
        let look = async |arguments: &[&str]| sandbox.run(daemon.config(), arguments).await;
        look(&["wait", "a", "--timeout", "0s"]).await.expect(0);
        let told = look(&["wait", "a", "--for", "stopped", "--timeout", "0s"]).await.expect(3).stderr;
        assert!(told.starts_with("a: ready"), "{told}");
    });
}

#[test]
fn a_command_that_waits_says_once_how_it_ended() {
    sandbox(async |sandbox| {
        let (_, daemon) = sandbox.up_ready(&["a"]).await;
        let lines = async |arguments: &[&str], text: &str| {
            let told = sandbox.run(daemon.config(), arguments).await.expect(0).stdout;
            (told.lines().filter(|line| line.starts_with(text)).count(), told)
        };
        for (arguments, text) in [
            (&["restart", "--wait", "a"][..], "a: ready"),
            // Nothing changes, and that it is ready is said nevertheless.
            (&["start", "--wait", "a"], "a: ready"),
            (&["stop", "--wait", "a"], "a: exited"),
            (&["stop", "--wait", "a"], "a: stopped"),
            (&["start", "--wait", "a"], "a: ready"),
        ] {
            let (count, told) = lines(arguments, text).await;
            assert_eq!(count, 1, "{arguments:?}: {told}");
        }
    });
}

#[test]
fn a_wait_on_a_terminal_tells_a_failure_once() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("bad", Script::default());
        std::fs::write(fleet.model("bad"), "no model").expect("the sandbox can be written");
        let daemon = sandbox.up(&fleet).await;
        let mut command = sandbox.program(daemon_program());
        command.arg("--config").arg(daemon.config()).args(["wait", "bad"]);
        let told = ProgramRun::on_terminal(command, 200, 24, None).await.expect(3).stdout;
        // Below the table, since it does not fit into its row.
        assert_eq!(told.matches("bad: ").count(), 1, "{told:?}");
    });
}
