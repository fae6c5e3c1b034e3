//! A FIFO or a device where a command expects a file: the command ends with a clear error, and waits for nobody.

use std::fs;
use std::path::Path;

use futures_util::future::join_all;
use llama_warden_stand_in::Script;
use llama_warden_tests::sandbox;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

fn pipe(path: &Path) {
    mkfifo(path, Mode::S_IRWXU).expect("the sandbox can be written");
}

#[test]
fn a_configuration_that_nobody_writes_ends_every_command_with_a_clear_error() {
    sandbox(async |sandbox| {
        let config = sandbox.file("pipe.toml");
        pipe(&config);
        let commands: [&[&str]; 20] = [
            &["up"],
            &["up", "--detach"],
            &["status"],
            &["status", "--watch"],
            &["start", "a"],
            &["stop", "a"],
            &["restart", "a"],
            &["down"],
            &["logs", "a"],
            &["events"],
            &["events", "--run", "0"],
            &["wait", "a"],
            &["models"],
            &["profile", "list"],
            &["detector", "list"],
            &["dialect", "list"],
            &["argv", "a"],
            &["check"],
            &["config", "show"],
            &["reload"],
        ];
        let runs = join_all(commands.map(|command| sandbox.run(&config, command.iter().copied()))).await;
        for (command, ran) in commands.iter().zip(runs) {
            let told = ran.expect(2).stderr;
            assert!(told.contains("pipe.toml") && told.contains("nobody writes to it"), "{command:?}: {told}");
            assert!(told.contains("name a regular file"), "{command:?}: {told}");
        }
    });
}

#[test]
fn a_log_or_a_file_to_read_that_is_a_pipe_is_refused() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let (config, state, given) = (fleet.write(), fleet.state_dir(), sandbox.file("given"));
        fs::create_dir_all(&state).expect("the sandbox can be written");
        pipe(&state.join("daemon.log"));
        pipe(&given);
        let up = sandbox.run(&config, ["up", "--detach"]).await.expect(1).stderr;
        assert!(up.contains("daemon.log: it is no regular file") && up.contains("remove it"), "{up}");
        let given = given.to_str().expect("a path of ours");
        for command in [&["detector", "test", "generic", given][..], &["dialect", "check", given]] {
            let told = sandbox.run(&config, command).await.expect(1).stderr;
            assert!(told.contains("nobody writes to it"), "{command:?}: {told}");
        }
    });
}

#[test]
fn the_end_of_a_daemon_whose_lock_became_a_pipe_is_not_waited_for_for_ever() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let lock = fleet.state_dir().join("daemon.lock");
        fs::rename(&lock, lock.with_extension("old")).expect("it is ours");
        pipe(&lock);
        sandbox.run(daemon.config(), ["down"]).await.expect(0);
        assert_eq!(daemon.exit_code().await, 0, "{}", daemon.log());
        // The harness looks whether the lock is free.
        fs::remove_file(&lock).expect("it is ours");
    });
}
