//! However a configuration file is written: a whole one is loaded, and one that looks half written disturbs nobody.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use std::path::Path;

use llama_warden_events::{Envelope, Event, Seq};
use llama_warden_stand_in::Script;
use llama_warden_tests::{DaemonOptions, Sandbox, TestDaemon, TestFleet, WAIT_LIMIT, eventually, sandbox};

/// A fleet of servers a and b, whose file is longer than a block of `ulimit -f`.
fn two_servers(sandbox: &Sandbox) -> TestFleet {
    let mut fleet = sandbox.fleet();
    fleet.section(&"# A comment that makes the file longer.\n".repeat(20));
    fleet.server_with("a", Script::default(), "flags = { ctx-size = 1111 }").server("b", Script::default());
    fleet
}

async fn start(sandbox: &Sandbox, fleet: &TestFleet, options: &DaemonOptions) -> TestDaemon {
    let daemon = sandbox.up_with(fleet, options).await;
    daemon.ready("a").await;
    daemon.ready("b").await;
    daemon
}

async fn pids(daemon: &TestDaemon) -> Vec<Option<u32>> {
    daemon.status().await.servers.iter().map(|server| server.pid).collect()
}

/// Runs a shell with `$1` and `$2`.
async fn shell(sandbox: &Sandbox, script: &str, one: &Path, two: &Path) {
    let mut command = sandbox.program("sh");
    command.arg("-c").arg(script).arg("sh").arg(one).arg(two);
    command.status().await.expect("a shell runs");
}

fn is_reloaded(event: &Envelope) -> bool {
    matches!(event.event, Event::ConfigurationReloaded { .. })
}

fn is_refused(event: &Envelope) -> bool {
    matches!(event.event, Event::ConfigurationRefused { .. })
}

async fn now(daemon: &TestDaemon) -> Seq {
    daemon.status().await.seq
}

/// The text without its last table, the server b: it ends where a table ends.
fn cut_at_a_table(toml: &str) -> String {
    toml[..toml.rfind("[[servers]]").expect("it has servers")].to_owned()
}

#[test]
fn every_way_to_write_a_file_is_noticed_and_loaded() {
    sandbox(async |sandbox| {
        let fleet = two_servers(sandbox);
        let daemon = start(sandbox, &fleet, &DaemonOptions::default()).await;
        let ways = [
            ("in place", r#"cat "$1" > "$2""#),
            ("in two parts", r#"head -c 300 "$1" > "$2"; tail -c +301 "$1" >> "$2""#),
            ("an editor that renames", r#"cp "$1" "$2.new" && mv "$2.new" "$2""#),
            ("an editor that keeps the old file", r#"mv "$2" "$2~" && cat "$1" > "$2""#),
            ("removed and made anew", r#"rm "$2" && cp "$1" "$2""#),
            ("through a hard link", r#"ln "$2" "$2.hard" && cat "$1" > "$2.hard""#),
            ("a link in its place", r#"cp "$1" "$2.real" && ln -s "$2.real" "$2.link" && mv -T "$2.link" "$2""#),
            ("through the link", r#"cat "$1" > "$2.real""#),
            (
                "as Kubernetes mounts it",
                r#"cd "$(dirname "$2")" && mkdir ..1 && cp "$1" ..1/warden.toml && ln -s ..1 ..data &&
                   ln -s ..data/warden.toml link && mv -T link warden.toml"#,
            ),
            (
                "as Kubernetes changes it",
                r#"cd "$(dirname "$2")" && mkdir ..2 && cp "$1" ..2/warden.toml && ln -s ..2 ..next && mv -T ..next ..data"#,
            ),
        ];
        let next = sandbox.file("next");
        for (number, (way, script)) in ways.into_iter().enumerate() {
            let size = (2000 + number).to_string();
            std::fs::write(&next, fleet.toml().replace("1111", &size)).expect("the sandbox can be written");
            let before = now(&daemon).await;
            shell(sandbox, script, &next, &fleet.path()).await;
            let is_new = |event: &Envelope| match &event.event {
                Event::ServerSpawned { argv, .. } => argv.iter().any(|argument| *argument == size),
                _ => false,
            };
            daemon.event_after(before, way, is_new).await;
            eventually(way, WAIT_LIMIT, async || daemon.status().await.ready_servers == 2).await;
        }
        assert_eq!(daemon.count("b", "LaunchBegan").await, 1, "nobody touched b");
        assert!(!daemon.event_stream().events().iter().any(is_refused));
    });
}

/// Fault S26.
#[test]
fn a_file_that_is_empty_for_a_while_stops_nothing() {
    sandbox(async |sandbox| {
        let fleet = two_servers(sandbox);
        let daemon = start(sandbox, &fleet, &DaemonOptions::default()).await;
        let before = (pids(&daemon).await, now(&daemon).await);
        let same = sandbox.file("same");
        std::fs::write(&same, fleet.toml()).expect("the sandbox can be written");
        shell(sandbox, r#"(sleep 1; cat "$1") > "$2""#, &same, &fleet.path()).await;
        daemon.event_after(before.1, "the whole file is loaded", is_reloaded).await;
        assert_eq!((pids(&daemon).await, daemon.status().await.configuration_refused), (before.0, None));
        assert!(!daemon.event_stream().events().iter().any(is_refused));
    });
}

/// Fault S26.
#[test]
fn a_file_that_would_stop_every_server_is_refused_until_it_is_complete() {
    sandbox(async |sandbox| {
        let fleet = two_servers(sandbox);
        let daemon = start(sandbox, &fleet, &DaemonOptions::default()).await;
        let before = pids(&daemon).await;
        let head = fleet.toml()[..fleet.toml().find("[[servers]]").expect("it has servers")].to_owned();
        let disabled = fleet.toml().replace("id = ", "enabled = false\nid = ");
        for (what, text) in [("empty", ""), ("comments", "# nothing\n"), ("no servers", &head), ("disabled", &disabled)]
        {
            let seq = now(&daemon).await;
            std::fs::write(fleet.path(), text).expect("the sandbox can be written");
            daemon.event_after(seq, what, is_refused).await;
            let status = daemon.status().await;
            let why = status.configuration_refused.unwrap_or_default();
            assert!(why.contains("looks half written") && why.contains("reload --force"), "{what}: {why}");
            assert_eq!(pids(&daemon).await, before, "{what}");
            assert!(daemon.log().contains("looks half written"));
        }
        let seq = now(&daemon).await;
        std::fs::write(fleet.path(), fleet.toml()).expect("the sandbox can be written");
        daemon.event_after(seq, "the whole file is loaded", is_reloaded).await;
        assert_eq!((pids(&daemon).await, daemon.status().await.configuration_refused), (before, None));
    });
}

/// Fault S26.
#[test]
fn a_file_that_was_cut_off_is_loaded_only_by_force() {
    sandbox(async |sandbox| {
        let fleet = two_servers(sandbox);
        let daemon = start(sandbox, &fleet, &DaemonOptions::default()).await;
        let before = pids(&daemon).await;
        std::fs::write(fleet.path(), cut_at_a_table(&fleet.toml())).expect("the sandbox can be written");
        let answer = daemon.post("/api/v1/reload?wait=20s").await.expect(422).json();
        assert_eq!(answer["reason"], "doubtful-configuration", "{answer}");
        let ran = sandbox.run(daemon.config(), ["reload"]).await.expect(2);
        assert!(ran.stderr.contains("ends after line") && ran.stderr.contains("reload --force"), "{}", ran.stderr);
        let shown = sandbox.run(daemon.config(), ["status"]).await.expect(0).stdout;
        assert!(shown.contains("looks half written") && shown.contains("reload --force"), "{shown}");
        assert_eq!(pids(&daemon).await, before);
        sandbox.run(daemon.config(), ["reload", "--force", "--wait"]).await.expect(0);
        let status = daemon.status().await;
        assert_eq!((status.total_servers, status.configuration_refused), (1, None));
        assert_eq!(pids(&daemon).await, before[..1], "a is what it was");
        std::fs::write(fleet.path(), "").expect("the sandbox can be written");
        daemon.post("/api/v1/reload?force=1&wait=20s").await.expect(200);
        assert_eq!(daemon.status().await.total_servers, 0);
    });
}

/// Fault S26.
#[test]
fn a_file_for_which_the_disk_had_no_room_disturbs_nobody() {
    sandbox(async |sandbox| {
        let fleet = two_servers(sandbox);
        let daemon = start(sandbox, &fleet, &DaemonOptions::default()).await;
        let before = (pids(&daemon).await, now(&daemon).await);
        let next = sandbox.file("next");
        std::fs::write(&next, fleet.toml().replace("1111", "2222")).expect("the sandbox can be written");
        shell(sandbox, r#"ulimit -f 1; cat "$1" > "$2""#, &next, &fleet.path()).await;
        daemon.event_after(before.1, "the cut file is refused", is_refused).await;
        assert_eq!(pids(&daemon).await, before.0);
        shell(sandbox, r#"cat "$1" > "$2""#, &next, &fleet.path()).await;
        let reloaded = daemon.event_after(before.1, "the whole one is loaded", is_reloaded).await;
        let ready = |event: &Envelope| matches!(event.event, Event::ReadyReached { .. });
        daemon.event_after(reloaded.seq, "a is ready again", ready).await;
    });
}

/// Fault S26.
#[test]
fn a_configuration_that_is_no_file_is_read_once_and_a_reload_says_so() {
    sandbox(async |sandbox| {
        // The shell waits for the writer, or is not its parent: it must not leave a child to the daemon that it becomes.
        for (name, script) in [
            ("pipe", r#"exec 3< <(cat "$2"); wait $!; exec "$0" --config /dev/fd/3 up"#),
            ("stdin", r#"exec "$0" --config /dev/stdin up < "$2""#),
            ("fifo", r#"mkfifo "$2.p"; (cat "$2" > "$2.p" &); exec "$0" --config "$2.p" up"#),
        ] {
            let mut fleet = sandbox.fleet_named(name);
            fleet.server(name, Script::default());
            let under = ["bash", "-c", script].map(str::to_owned).to_vec();
            let daemon = sandbox.up_with(&fleet, &DaemonOptions { under, ..DaemonOptions::default() }).await;
            daemon.ready(name).await;
            let before = pids(&daemon).await;
            let answer = daemon.post("/api/v1/reload").await.expect(422).json();
            assert_eq!(answer["reason"], "not-reloadable", "{name}: {answer}");
            let ran = sandbox.run(daemon.config(), ["reload"]).await.expect(2);
            assert!(ran.stderr.contains("read once") && ran.stderr.contains("up --config"), "{name}: {}", ran.stderr);
            assert_eq!((pids(&daemon).await, daemon.status().await.configuration_refused), (before, None), "{name}");
            assert!(daemon.log().contains("the configuration is read once"), "{name}: {}", daemon.log());
        }
    });
}

/// Fault S26.
#[test]
fn a_file_that_a_pipe_replaces_stops_neither_servers_nor_the_daemon() {
    sandbox(async |sandbox| {
        let fleet = two_servers(sandbox);
        let daemon = start(sandbox, &fleet, &DaemonOptions::default()).await;
        let before = (pids(&daemon).await, now(&daemon).await);
        shell(sandbox, r#"rm "$2"; mkfifo "$2""#, &fleet.path(), &fleet.path()).await;
        daemon.event_after(before.1, "the pipe is refused", is_refused).await;
        assert!(daemon.status().await.configuration_refused.is_some_and(|why| why.contains("no regular file")));
        assert_eq!(pids(&daemon).await, before.0);
    });
}

#[test]
fn a_signal_right_after_a_save_reloads_once_and_activates_no_profile() {
    sandbox(async |sandbox| {
        let fleet = two_servers(sandbox);
        let daemon = start(sandbox, &fleet, &DaemonOptions::default()).await;
        let before = now(&daemon).await;
        std::fs::write(fleet.path(), fleet.toml().replace("1111", "2222")).expect("the sandbox can be written");
        daemon.signal(nix::sys::signal::Signal::SIGHUP);
        let reloaded = daemon.event_after(before, "it is reloaded", is_reloaded).await;
        let ready = |event: &Envelope| matches!(event.event, Event::ReadyReached { .. });
        daemon.event_after(reloaded.seq, "a is ready again", ready).await;
        // A second one would come before the one of a later change.
        std::fs::write(fleet.path(), fleet.toml().replace("1111", "3333")).expect("the sandbox can be written");
        let is_change = |event: &Envelope| matches!(&event.event, Event::ConfigurationReloaded { trigger } if trigger.contains("a change of"));
        daemon.event_after(reloaded.seq, "the next change", is_change).await;
        eventually("a is ready again", WAIT_LIMIT, async || daemon.status().await.ready_servers == 2).await;
        daemon.event_stream().replay(now(&daemon).await).await;
        let events = daemon.event_stream().events();
        assert_eq!(events.iter().filter(|event| is_reloaded(event)).count(), 2);
        assert!(!events.iter().any(|event| matches!(event.event, Event::ProfileActivated { .. })));
    });
}
