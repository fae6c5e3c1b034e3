//! What a command does while its daemon accepts connections and does nothing else.

use std::process::Stdio;

use futures_util::future::join_all;
use llama_warden_stand_in::Script;
use llama_warden_tests::{WAIT_LIMIT, daemon_program, eventually, sandbox};
use nix::sys::signal::Signal;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::{Duration, timeout};

/// Far longer than a command may take, and shorter than the time that a living daemon has for an answer.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn every_command_says_within_seconds_that_its_daemon_does_not_answer() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        fleet.section("[profiles.p]\nservers = [\"a\"]");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let commands: [&[&str]; 15] = [
            &["status"],
            &["status", "--watch"],
            &["start", "a"],
            &["stop", "--all", "--wait"],
            &["restart", "--wait", "a"],
            &["logs", "a"],
            &["logs", "-f"],
            &["events"],
            &["events", "-f"],
            &["wait", "a"],
            &["argv", "a"],
            &["profile", "list"],
            &["profile", "switch", "p", "--wait"],
            &["reload"],
            &["health"],
        ];
        let listen = format!("127.0.0.1:{}", fleet.listen());
        let commands = commands.into_iter().flat_map(|command| {
            // By the control socket, and over TCP.
            [command.to_vec(), [&["--address", &*listen], command].concat()]
        });
        daemon.signal(Signal::SIGSTOP);
        let runs = commands.map(async |arguments| {
            let ran = timeout(SOON, sandbox.run(daemon.config(), &arguments)).await;
            let ran = ran.unwrap_or_else(|_| panic!("{arguments:?} waits for ever")).expect(5);
            assert!(ran.stderr.contains("accepts connections and"), "{arguments:?}: {}", ran.stderr);
            assert!(ran.stderr.contains("next: see in the daemon's log"), "{arguments:?}: {}", ran.stderr);
        });
        join_all(runs).await;
        daemon.signal(Signal::SIGCONT);
        eventually("it answers again", WAIT_LIMIT, async || daemon.control().answers("/livez").await).await;
    });
}

/// The load takes longer than any silence may last.
#[test]
fn a_daemon_that_waits_for_a_server_is_not_taken_for_a_silent_one() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server_with("slow", Script { load_ms: 7000, ..Script::default() }, "enabled = false");
        let daemon = sandbox.up(&fleet).await;
        sandbox.run(daemon.config(), ["start", "--wait", "slow"]).await.expect(0);
        assert!(daemon.report("slow").await.is_ready);
    });
}

#[test]
fn a_wait_ends_soon_after_its_daemon_falls_silent() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("slow", Script { load_ms: 120_000, ..Script::default() });
        let daemon = sandbox.up(&fleet).await;
        let commands: [&[&str]; 2] = [&["wait", "slow"], &["restart", "--wait", "slow"]];
        let runs = join_all(commands.map(|arguments| sandbox.run(daemon.config(), arguments)));
        let freeze = async {
            // Both are under way.
            daemon.event("the restart begins", |event| event.incarnation.is_some_and(|launch| launch.get() == 2)).await;
            daemon.signal(Signal::SIGSTOP);
        };
        let (ended, ()) = tokio::join!(timeout(WAIT_LIMIT, runs), freeze);
        for ran in ended.expect("they end") {
            let ran = ran.expect(5);
            assert!(ran.stderr.contains("accepts connections and"), "{}", ran.stderr);
        }
        daemon.signal(Signal::SIGCONT);
        eventually("it answers again", WAIT_LIMIT, async || daemon.control().answers("/livez").await).await;
    });
}

#[test]
fn whoever_follows_is_told_that_the_daemon_has_fallen_silent() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let commands: [(&[&str], &str); 3] = [
            (&["status", "--watch"], "accepts connections and has not answered"),
            (&["status", "--watch", "--json"], "accepts connections and has not answered"),
            (&["events", "-f"], "[the daemon does not answer; waiting]"),
        ];
        let mut followers = Vec::new();
        for (arguments, told) in commands {
            let mut command = sandbox.program(daemon_program());
            command.arg("--config").arg(daemon.config()).args(arguments);
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
            let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
            timeout(WAIT_LIMIT, lines.next_line()).await.expect("it shows something").expect("readable");
            followers.push((arguments, told, child, lines));
        }
        daemon.signal(Signal::SIGSTOP);
        for (arguments, told, child, lines) in &mut followers {
            let mut errors = BufReader::new(child.stderr.take().expect("piped")).lines();
            // The problem of `--json` is data.
            let mut said = Vec::new();
            let says = async {
                while !said.last().is_some_and(|line: &String| line.contains(*told)) {
                    said.push(tokio::select! {
                        Ok(Some(line)) = errors.next_line() => line,
                        Ok(Some(line)) = lines.next_line() => line,
                        else => return false,
                    });
                }
                true
            };
            let has_said = timeout(SOON, says).await;
            assert_eq!(has_said, Ok(true), "{arguments:?} says only {said:#?}");
        }
        daemon.signal(Signal::SIGCONT);
        eventually("it answers again", WAIT_LIMIT, async || daemon.control().answers("/livez").await).await;
        for (_, _, child, _) in &mut followers {
            // That of `status` has ended.
            let _ = child.start_kill();
            child.wait().await.expect("it ends");
        }
    });
}
