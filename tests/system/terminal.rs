//! What people see: tables on terminals of any size, lines of servers, and output whose reader goes away.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use llama_warden_stand_in::{Script, ScriptAction, ScriptPhase, Stream};
use llama_warden_tests::{
    Port, ProgramRun, Sandbox, TerminalScreen, TestDaemon, TestTerminal, WAIT_LIMIT, action_at, daemon_program,
    eventually, processes_with, sandbox,
};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// Ends the screen of `status --watch`.
const LEAVE_SCREEN: &str = "\x1b[?1049l";

fn says(line: &str) -> Script {
    let action = ScriptAction::Say { text: line.to_owned(), stream: Stream::Stderr };
    Script { actions: vec![action_at(ScriptPhase::Ready, action)], ..Script::default() }
}

fn command(sandbox: &Sandbox, config: &Path, arguments: &[&str]) -> Command {
    let mut command = sandbox.program(daemon_program());
    command.arg("--config").arg(config).args(arguments);
    command
}

async fn said(daemon: &TestDaemon, id: &str, text: &str) {
    daemon.ready(id).await;
    eventually("the line is kept", WAIT_LIMIT, async || daemon.output(id).await.contains(text)).await;
}

#[test]
fn a_table_is_never_wider_or_higher_than_its_terminal() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        for number in 0..12 {
            fleet.server(&format!("good_{number}"), Script::default());
        }
        fleet.server("bad", Script::default());
        std::fs::write(fleet.model("bad"), "no model ".repeat(40)).unwrap();
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("good_11").await;
        eventually("bad has failed", WAIT_LIMIT, async || daemon.report("bad").await.last_failure.is_some()).await;
        for (columns, rows) in [(80_u16, 10_u16), (100, 24), (33, 9)] {
            let [width, height] = [columns, rows].map(usize::from);
            let status = command(sandbox, daemon.config(), &["status"]);
            let status = ProgramRun::on_terminal(status, columns, rows, None).await.expect(0).stdout;
            assert!(status.contains("\x1b[32mready"), "status is coloured: {status:?}");
            // In a higher window everything is in sight, and a line that wraps would be two.
            let all = TerminalScreen::after(&status, width, 60).lines();
            let wide = TerminalScreen::after(&status, 1000, 60).lines();
            assert_eq!(all, wide, "{columns} columns");
            let watch = command(sandbox, daemon.config(), &["status", "--watch"]);
            let watch = ProgramRun::on_terminal(watch, columns, rows, Some("running")).await.expect(130).stdout;
            let (frames, rest) = watch.split_once(LEAVE_SCREEN).expect("the screen of before comes back");
            let lines = TerminalScreen::after(frames, width, height).lines();
            assert_eq!(lines.iter().filter(|line| line.starts_with("SERVER")).count(), 1, "{lines:#?}");
            assert!(lines[0].starts_with("SERVER"), "nothing scrolls: {lines:#?}");
            assert!(lines[1].starts_with("bad ") || rows >= 16, "trouble comes first: {lines:#?}");
            let before =
                TerminalScreen::after(&format!("before\r\n{frames}{LEAVE_SCREEN}{rest}"), width, height).lines();
            assert_eq!(before[0], "before");
        }
        let piped = sandbox.run(daemon.config(), ["status"]).await.expect(0).stdout;
        assert!(!piped.contains('\x1b') && piped.lines().count() == 1 + 13 + 1, "{piped}");
    });
}

/// A window of a phone, or of a split screen.
const TINY: (u16, u16) = (20, 5);

#[test]
fn every_live_view_keeps_to_a_window_of_20_columns_and_5_rows() {
    sandbox(async |sandbox| {
        let (columns, rows) = TINY;
        let mut fleet = sandbox.fleet();
        fleet.section("[peers.elsewhere]\nurl = \"http://127.0.0.1:9\"\n");
        for number in 0..4 {
            fleet.server(&format!("a_long_name_of_a_server_{number}"), says("a line that is longer than the window"));
        }
        fleet.server("bad", Script::default());
        std::fs::write(fleet.model("bad"), "no model ".repeat(40)).unwrap();
        let config = fleet.write();
        let screen = |text: &str| TerminalScreen::after(text, columns.into(), rows.into()).lines();
        let headers = |lines: &[String]| lines.iter().filter(|line| line.starts_with("SERVER")).count();

        // The log is above the table, and the last frame says how it ended.
        let up = ProgramRun::on_terminal(command(sandbox, &config, &["up"]), columns, rows, Some("4 of 5 ready")).await;
        let lines = screen(&up.expect(0).stdout);
        assert!(lines.iter().any(|line| line.starts_with("0 of 5 ready, 0")), "{lines:#?}");
        assert_eq!(headers(&lines), 1, "{lines:#?}");

        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a_long_name_of_a_server_3").await;
        eventually("bad has failed", WAIT_LIMIT, async || daemon.report("bad").await.last_failure.is_some()).await;
        for arguments in [["status", "--watch"].as_slice(), &["status", "--watch", "--all"]] {
            let watch = command(sandbox, daemon.config(), arguments);
            let watch = ProgramRun::on_terminal(watch, columns, rows, Some(" of 5 ready")).await.expect(130).stdout;
            let (frames, _) = watch.split_once(LEAVE_SCREEN).expect("the screen of before comes back");
            let lines = screen(frames);
            assert!(headers(&lines) <= 1 && lines.iter().any(|line| line.contains("of 5 ready")), "{lines:#?}");
        }
        let restart = ["restart", "--wait", "a_long*"];
        let restart = ProgramRun::on_terminal(command(sandbox, daemon.config(), &restart), columns, rows, None).await;
        let lines = screen(&restart.expect(0).stdout);
        assert!(headers(&lines) <= 1, "{lines:#?}");
        let logs = command(sandbox, daemon.config(), &["logs", "-f"]);
        let logs = ProgramRun::on_terminal(logs, columns, rows, Some("longer than")).await.stdout;
        assert!(logs.contains("a line that is longer than the window"), "{logs}");
    });
}

#[test]
fn a_terminal_gets_only_the_colours_of_others() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", says("\x1b[31mred\x1b[0m \x1b]52;c;aGk=\x07 \u{9b}2J end"));
        let daemon = sandbox.up(&fleet).await;
        said(&daemon, "a", "end").await;
        let logs = || command(sandbox, daemon.config(), &["logs", "a"]);
        let shown = ProgramRun::on_terminal(logs(), 80, 24, None).await.expect(0).stdout;
        assert!(shown.contains("\x1b[31mred\x1b[0m \\x1b]52;c;aGk=\\x07 \\x9b2J end"), "{shown:?}");
        // A file gets what the server wrote.
        let piped = ProgramRun::to_end(logs()).await.expect(0).stdout;
        assert!(piped.contains("\x1b]52;c;aGk=\x07"), "{piped:?}");
        let wrong = command(sandbox, daemon.config(), &["status", "a\x1b]0;title\x07"]);
        let wrong = ProgramRun::on_terminal(wrong, 80, 24, None).await.expect(2).stdout;
        assert!(wrong.contains("no server `a\\x1b]0;title\\x07`"), "{wrong:?}");
    });
}

/// A demo in a sandbox of its own, with the built-in stand-in.
fn demo(sandbox: &Sandbox, port: u16) -> (Command, PathBuf) {
    let mut command = sandbox.program(sandbox.copy_of_daemon());
    let (temporary, path) = (sandbox.file("tmp"), sandbox.file("path"));
    std::fs::create_dir_all(&temporary).unwrap();
    std::fs::create_dir_all(&path).unwrap();
    if !path.join("true").exists() {
        symlink("/bin/true", path.join("true")).unwrap();
    }
    command
        .arg("demo")
        .env("PATH", &path)
        .env("TMPDIR", &temporary)
        .env("LLAMA_WARDEN_DAEMON__LISTEN", format!("127.0.0.1:{port}"));
    (command, temporary)
}

#[test]
fn a_demo_whose_reader_is_gone_ends_and_leaves_nothing() {
    sandbox(async |sandbox| {
        let port = Port::lease();
        let (mut command, temporary) = demo(sandbox, port.number());
        let mut demo = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
        tokio::time::timeout(WAIT_LIMIT, lines.next_line()).await.unwrap().unwrap().expect("a first line");
        drop(lines);
        let status = tokio::time::timeout(WAIT_LIMIT, demo.wait()).await.expect("it ends").unwrap();
        assert_eq!(status.code(), Some(0));
        assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
        assert!(processes_with(&temporary.to_string_lossy()).is_empty());
    });
}

#[test]
fn the_last_frame_of_a_demo_says_how_it_ended() {
    sandbox(async |sandbox| {
        let port = Port::lease();
        let (command, _) = demo(sandbox, port.number());
        let text = ProgramRun::on_terminal(command, 80, 24, Some("3 of 3 ready")).await.expect(0).stdout;
        let lines = TerminalScreen::after(&text, 80, 24).lines();
        let place = |start: &str| lines.iter().position(|line| line.starts_with(start));
        let (header, totals) = (place("SERVER"), place("0 of 3 ready, 0 running"));
        assert_eq!(lines.iter().filter(|line| line.starts_with("SERVER")).count(), 1, "{lines:#?}");
        assert_eq!(totals, header.map(|header| header + 4), "{lines:#?}");
        assert_eq!(place("everything is stopped"), totals.map(|totals| totals + 1), "{lines:#?}");
    });
}

#[test]
fn up_on_a_terminal_shows_a_live_table_with_the_warnings_above_it() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("good", Script::default()).server("slow", Script { load_ms: 500, ..Script::default() });
        fleet.server("bad", Script::default());
        std::fs::write(fleet.model("bad"), "no model ".repeat(40)).unwrap();
        let config = fleet.write();
        for (columns, rows) in [(80_u16, 24_u16), (160, 50)] {
            let up = command(sandbox, &config, &["up"]);
            let text = ProgramRun::on_terminal(up, columns, rows, Some("2 of 3 ready")).await.expect(0).stdout;
            let lines = TerminalScreen::after(&text, columns.into(), 60).lines();
            let place = |start: &str| lines.iter().position(|line| line.starts_with(start)).unwrap_or(usize::MAX);
            assert_eq!(lines.iter().filter(|line| line.starts_with("SERVER")).count(), 1, "{lines:#?}");
            assert_eq!(place("0 of 3 ready, 0 running"), place("SERVER") + 4, "how it ended: {lines:#?}");
            let failures = lines.iter().filter(|line| line.contains("ERROR bad: server failed")).count();
            assert_eq!(failures, 1, "{lines:#?}");
            let above = lines[..place("SERVER")].join("");
            assert!(above.contains(&format!("http://127.0.0.1:{}", fleet.listen())), "{lines:#?}");
            assert!(above.contains("ERROR bad: server failed"), "a line of the log stands above the table: {lines:#?}");
        }
        let plain = command(sandbox, &config, &["up", "--plain"]);
        let text = ProgramRun::on_terminal(plain, 80, 24, Some("answers requests")).await.expect(0).stdout;
        assert!(text.contains("llama-warden is up") && !text.contains("SERVER"), "{text}");
    });
}

/// A terminal that is stopped by Ctrl-S takes nothing.
#[test]
fn a_terminal_that_nobody_reads_does_not_hold_up_the_daemon() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        for number in 0..20 {
            fleet.server(&format!("server_{number}"), Script::default());
        }
        let config = fleet.write();
        let terminal = TestTerminal::new(80, 24);
        let mut up = command(sandbox, &config, &["up"]);
        let mut up = terminal.attach(&mut up).env("LLAMA_WARDEN_LOG", "debug").kill_on_drop(true).spawn().unwrap();
        sandbox.run(&config, ["status"]).await;
        eventually("the daemon answers", WAIT_LIMIT, async || {
            sandbox.run(&config, ["wait", "--all", "--timeout", "60s"]).await.status.success()
        })
        .await;
        // Each writes more than the terminal takes.
        for _ in 0..5 {
            sandbox.run(&config, ["restart", "--all", "--wait", "--timeout", "60s"]).await.expect(0);
        }
        sandbox.run(&config, ["down"]).await.expect(0);
        let status = tokio::time::timeout(WAIT_LIMIT, up.wait()).await.expect("it ends").unwrap();
        assert_eq!(status.code(), Some(0));
    });
}

#[test]
fn lines_of_several_servers_have_a_time_and_are_in_its_order() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", says("a is here")).server("longer", says("longer is here"));
        let daemon = sandbox.up(&fleet).await;
        said(&daemon, "a", "a is here").await;
        said(&daemon, "longer", "longer is here").await;
        let logs = sandbox.run(daemon.config(), ["logs"]).await.expect(0).stdout;
        let mut before = "";
        for line in logs.lines() {
            let (server, rest) = line.split_once(" | ").expect(line);
            assert!(["a     ", "longer"].contains(&server), "{line}");
            // 2026-11-26T20:41:04.123Z
            let (time, _) = rest.split_once(' ').unwrap_or((rest, ""));
            assert!(time.len() == 24 && time.ends_with('Z') && before <= time, "{before} and {line}");
            before = time;
        }
        let is_mixed = |server: &str| logs.lines().any(|line| line.starts_with(server) && line.ends_with("is here"));
        assert!(is_mixed("a ") && is_mixed("longer "), "{logs}");
        // One server has its lines as it wrote them, unless the time is asked for.
        let one = sandbox.run(daemon.config(), ["logs", "a"]).await.expect(0).stdout;
        assert!(one.lines().any(|line| line == "a is here"), "{one}");
        let one = sandbox.run(daemon.config(), ["logs", "a", "-t"]).await.expect(0).stdout;
        assert!(one.lines().any(|line| line.len() == 24 + 1 + 9 && line.ends_with("Z a is here")), "{one}");
        let json = sandbox.run(daemon.config(), ["logs", "--json"]).await.expect(0).stdout;
        let times = json.lines().map(|line| {
            let record: serde_json::Value = serde_json::from_str(line).expect("a record a line");
            record["at"].as_str().expect("a time").to_owned()
        });
        assert!(times.collect::<Vec<_>>().is_sorted(), "{json}");
    });
}

#[test]
fn a_port_that_another_llama_warden_holds_is_named_with_its_pid() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        let (command, _) = demo(sandbox, fleet.listen());
        let ran = ProgramRun::to_end(command).await.expect(1);
        for part in [format!("a llama-warden (pid {})", daemon.pid()), "LLAMA_WARDEN_DAEMON__LISTEN".to_owned()] {
            assert!(ran.stderr.contains(&part), "{part}: {}", ran.stderr);
        }
    });
}

#[test]
fn events_are_sentences_of_the_named_servers_in_the_given_time() {
    sandbox(async |sandbox| {
        let (_, daemon) = sandbox.up_ready(&["a", "b"]).await;
        let events = sandbox.run(daemon.config(), ["events", "a", "--since", "1h"]).await.expect(0).stdout;
        assert!(events.lines().all(|line| line.contains(" a ") || line.contains(" a#1 ")), "{events}");
        assert!(events.lines().any(|line| line.contains(" a#1 server is ready: via ")), "{events}");
        let none = sandbox.run(daemon.config(), ["events", "--since", "0s"]).await.expect(0).stdout;
        assert_eq!(none, "");
        let json = sandbox.run(daemon.config(), ["events", "a", "--json"]).await.expect(0).stdout;
        for line in json.lines() {
            let envelope: serde_json::Value = serde_json::from_str(line).expect("one envelope a line");
            assert_eq!(envelope["server"], "a");
        }
    });
}

#[test]
fn a_launch_begins_with_a_mark_in_the_log() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", says("here I am"));
        let daemon = sandbox.up(&fleet).await;
        said(&daemon, "a", "here I am").await;
        sandbox.run(daemon.config(), ["restart", "--wait", "a"]).await.expect(0);
        let logs = sandbox.run(daemon.config(), ["logs", "a"]).await.expect(0);
        assert_eq!(logs.stderr, "--- launch 2 ---\n");
        let json = sandbox.run(daemon.config(), ["logs", "a", "--json"]).await.expect(0).stdout;
        let launches = json.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let mut launches: Vec<_> = launches.map(|record| record["incarnation"].as_u64()).collect();
        launches.dedup();
        assert_eq!(launches, [Some(1), Some(2)]);
    });
}

/// It would be called a server with the generic pack.
#[test]
fn a_program_that_is_no_llama_server_gets_no_pack() {
    sandbox(async |sandbox| {
        let config = sandbox.fleet().write();
        let ran = sandbox.run(&config, ["detector", "which", "/bin/ls"]).await.expect(1);
        assert!(ran.stderr.contains("/bin/ls is no llama-server"), "{}", ran.stderr);
        // Before anything is started.
        let out = sandbox.file("missing/pack.toml");
        let learn = ["detector", "learn", "--out", &out.to_string_lossy(), "--", "/bin/true", "--model", "m.gguf"];
        let ran = sandbox.run(&config, learn).await.expect(1);
        assert!(ran.stderr.contains("cannot write") && !ran.stderr.contains("start 1"), "{}", ran.stderr);
    });
}
