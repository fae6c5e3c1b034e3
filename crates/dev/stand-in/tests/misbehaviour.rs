//! Each misbehaviour of a script happens as documented.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod support;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use llama_warden_stand_in::{
    Grandchild, HealthScript, LineStyle, LoadProgress, ReadyLine, Replay, ScheduledAction, Script, ScriptAction,
    ScriptPhase, Stream, TermScript, Wedge,
};
use nix::sys::signal::Signal;
use support::{ModelFolder, eventually, start};

fn action_at(at: ScriptPhase, action: ScriptAction) -> Script {
    Script { actions: vec![ScheduledAction { at, after_ms: 0, action }], ..Script::default() }
}

fn die(signal: &str) -> ScriptAction {
    ScriptAction::Die { signal: signal.into(), core: false, last_words: None }
}

#[test]
fn it_exits_with_a_code_and_last_words_without_a_newline() {
    let folder = ModelFolder::new();
    let action = ScriptAction::Exit { code: 200, last_words: Some("no newline".into()) };
    let mut server = start(&folder, &action_at(ScriptPhase::Start, action), &[]);
    assert_eq!(server.end(), 200);
    assert_eq!(server.rest(), "no newline\n", "the reader of the test adds the newline");
}

#[test]
fn it_dies_of_any_signal() {
    let folder = ModelFolder::new();
    for name in ["SIGHUP", "SIGINT", "SIGABRT", "SIGKILL", "SIGSEGV", "SIGPIPE", "SIGTERM", "SIGBUS", "SIGUSR1"] {
        let mut server = start(&folder, &action_at(ScriptPhase::Ready, die(name)), &[]);
        assert_eq!(server.end(), -(name.parse::<Signal>().unwrap() as i32), "{name}");
    }
}

#[test]
fn it_ignores_term_and_counts() {
    let folder = ModelFolder::new();
    let file = folder.path("terms");
    let script = Script { term: TermScript::Ignore, term_count_file: Some(file.clone()), ..Script::default() };
    let mut server = start(&folder, &script, &[]);
    server.ready();
    eventually("a zero", || holds(&file, "0"));
    server.signal(Signal::SIGTERM);
    eventually("a first", || holds(&file, "1"));
    server.signal(Signal::SIGTERM);
    eventually("a second", || holds(&file, "2"));
    assert_eq!(server.get("/health").0, 200);
}

#[test]
fn a_slow_stop_refuses_connections_meanwhile() {
    let folder = ModelFolder::new();
    let mut server = start(&folder, &Script { term: TermScript::Slow(300), ..Script::default() }, &[]);
    server.ready();
    let began = Instant::now();
    server.signal(Signal::SIGTERM);
    server.line("cleaning up");
    assert_eq!(server.get("/health").0, 0);
    assert_eq!(server.end(), 0);
    assert!(began.elapsed() >= Duration::from_millis(300));
}

#[test]
fn it_ends_by_itself_even_when_it_ignores_term() {
    let folder = ModelFolder::new();
    let script = Script { max_life_s: 1, term: TermScript::Ignore, ..Script::default() };
    assert_eq!(start(&folder, &script, &[]).end(), -(Signal::SIGALRM as i32));
}

#[test]
fn the_ready_line_can_be_early_or_missing_or_double() {
    let folder = ModelFolder::new();
    let early = Script { ready_line: ReadyLine::Early, load_ms: 60_000, ..Script::default() };
    let mut server = start(&folder, &early, &[]);
    server.ready();
    assert_eq!(server.get("/health").0, 503);
    for (ready_line, count) in [(ReadyLine::Never, 0), (ReadyLine::Twice, 2), (ReadyLine::AgainWhenStopping, 2)] {
        let mut server = start(&folder, &Script { ready_line, ..Script::default() }, &[]);
        server.line("model loaded");
        eventually("health", || server.get("/health").0 == 200);
        server.signal(Signal::SIGTERM);
        server.end();
        assert_eq!(server.rest().matches("listening on").count(), count, "{ready_line:?}");
    }
}

#[test]
fn the_ready_line_can_be_dressed_up() {
    let folder = ModelFolder::new();
    for dress in [LineStyle::Bytes, LineStyle::Ansi, LineStyle::CarriageReturn, LineStyle::Nul, LineStyle::NotUtf8] {
        let mut server = start(&folder, &Script { ready_style: dress, ..Script::default() }, &[]);
        let (_, line) = server.line("listening on http");
        let before = server.seen[server.seen.len() - 2].1.clone();
        match dress {
            LineStyle::Ansi => assert!(line.starts_with(b"\x1b[34m0.00.")),
            LineStyle::CarriageReturn => assert!(line.ends_with(b"\r")),
            LineStyle::Nul => assert!(line.ends_with(b"\0") && before == b"\0\0\0"),
            LineStyle::NotUtf8 => assert!(String::from_utf8(before).is_err()),
            LineStyle::Plain | LineStyle::Bytes => assert!(line.starts_with(b"0.00.")),
        }
    }
}

#[test]
fn it_can_be_silent_and_without_a_socket() {
    let folder = ModelFolder::new();
    let mut server = start(
        &folder,
        &Script { silent: true, never_bind: true, ..action_at(ScriptPhase::Ready, die("SIGUSR1")) },
        &[],
    );
    server.end();
    assert_eq!(server.rest(), "");
}

#[test]
fn health_flaps_as_told() {
    let folder = ModelFolder::new();
    let health = HealthScript::Flap(vec![(0, 200), (200, 503), (400, 200)]);
    let mut server = start(&folder, &Script { health, ..Script::default() }, &[]);
    server.ready();
    for status in [200, 503, 200] {
        eventually("the next status", || server.get("/health").0 == status);
    }
}

#[test]
fn health_can_be_a_status_also_while_loading() {
    let folder = ModelFolder::new();
    let script = Script { health: HealthScript::Status(404), load_ms: 60_000, ..Script::default() };
    let mut server = start(&folder, &script, &[]);
    server.line("loading model");
    assert_eq!(server.get("/health").0, 404);
}

#[test]
fn health_can_waste_the_time_of_a_prober() {
    let folder = ModelFolder::new();
    let short = Duration::from_millis(300);
    let reply = |health| {
        let mut server = start(&folder, &Script { health, ..Script::default() }, &[]);
        server.ready();
        server.raw("GET", "/health", short)
    };
    assert_eq!(reply(HealthScript::Hang), "");
    assert_eq!(reply(HealthScript::Delay(60_000)), "");
    assert_eq!(reply(HealthScript::Trickle), "H");
    assert!(reply(HealthScript::HugeHeader(3)).len() > 3 << 20);
    assert!(reply(HealthScript::Redirect("http://127.0.0.1:1/".into())).contains("Location: http://127.0.0.1:1/\r\n"));
}

#[test]
fn an_endless_body_goes_on() {
    use std::io::{Read, Write};
    let folder = ModelFolder::new();
    let mut server = start(&folder, &Script { health: HealthScript::EndlessBody, ..Script::default() }, &[]);
    server.ready();
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\n\r\n").unwrap();
    let mut ten_megabytes = vec![0; 10 << 20];
    stream.read_exact(&mut ten_megabytes).unwrap();
}

#[test]
fn it_floods_and_prints_huge_lines() {
    let folder = ModelFolder::new();
    let flood = ScriptAction::Flood { megabytes: 3, stream: Stream::Stdout };
    let huge = ScriptAction::HugeLine { megabytes: 5, stream: Stream::Stderr };
    let actions =
        [flood, huge, die("SIGUSR1")].map(|action| ScheduledAction { at: ScriptPhase::Loading, after_ms: 0, action });
    let mut server = start(&folder, &Script { actions: actions.into(), load_ms: 60_000, ..Script::default() }, &[]);
    server.end();
    server.rest();
    let flooded: usize =
        server.seen.iter().filter(|(stream, _)| *stream == Stream::Stdout).map(|(_, line)| line.len() + 1).sum();
    assert!((3_000_000..=3 << 20).contains(&flooded), "{flooded}");
    assert!(server.seen.iter().any(|(_, line)| line.len() == 5 << 20));
}

#[test]
fn progress_can_be_lines_or_dots() {
    let folder = ModelFolder::new();
    let script = |load_progress| Script { load_progress, load_ms: 20, ..Script::default() };
    let mut server = start(&folder, &script(LoadProgress::Lines), &[]);
    server.line("loading 10 %");
    server.line("loading 100 %");
    let mut server = start(&folder, &script(LoadProgress::Dots), &[]);
    server.line(&".".repeat(100));
}

#[test]
fn closed_stdio_is_an_end_of_file_and_not_an_exit() {
    let folder = ModelFolder::new();
    let mut server = start(&folder, &action_at(ScriptPhase::Ready, ScriptAction::CloseStdio {}), &[]);
    assert!(server.rest().contains("listening on"));
    assert_eq!(server.get("/health").0, 200);
}

#[test]
fn it_stops_itself_and_continues() {
    let folder = ModelFolder::new();
    let mut server = start(&folder, &action_at(ScriptPhase::Loading, ScriptAction::StopSelf {}), &[]);
    let state = || process_state(server.child.id());
    eventually("stopped", || state() == Some('T'));
    server.signal(Signal::SIGCONT);
    server.ready();
}

#[test]
fn a_grandchild_holds_the_pipe_after_the_leaders_exit() {
    let folder = ModelFolder::new();
    let chatty = Grandchild { chat_every_ms: Some(10), life_ms: 700, ..Grandchild::default() };
    let actions = vec![
        ScheduledAction { at: ScriptPhase::Start, after_ms: 0, action: ScriptAction::Spawn(chatty) },
        ScheduledAction {
            at: ScriptPhase::Start,
            after_ms: 0,
            action: ScriptAction::Exit { code: 0, last_words: None },
        },
    ];
    let mut server = start(&folder, &Script { actions, ..Script::default() }, &[]);
    assert_eq!(server.end(), 0);
    server.line("line 10");
    server.rest();
}

#[test]
fn a_detached_grandchild_that_ignores_term_is_in_a_session_of_its_own_and_ends() {
    let folder = ModelFolder::new();
    let stubborn = Grandchild {
        ignore_term: true,
        detach: true,
        scrub_env: true,
        chat_every_ms: Some(10),
        life_ms: 1_000,
        ..Grandchild::default()
    };
    let mut server = start(&folder, &action_at(ScriptPhase::Ready, ScriptAction::Spawn(stubborn)), &[]);
    let (_, line) = server.line("grandchild ");
    let pid: i32 = String::from_utf8_lossy(&line).split(' ').nth(1).unwrap().parse().unwrap();
    let pid = nix::unistd::Pid::from_raw(pid);
    assert_ne!(nix::unistd::getsid(Some(pid)).unwrap().as_raw(), server.child.id() as i32);
    assert_eq!(fs::read(format!("/proc/{pid}/environ")).unwrap(), b"");
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    server.line("grandchild ");
    server.line("grandchild ");
    eventually("the end of its life", || process_state(pid.as_raw() as u32).is_none_or(|state| state == 'Z'));
}

#[test]
fn a_grandchild_keeps_the_port() {
    let folder = ModelFolder::new();
    let holder = Grandchild { hold_port: true, hold_pipe: false, life_ms: 500, ..Grandchild::default() };
    let mut server = start(&folder, &action_at(ScriptPhase::Stopping, ScriptAction::Spawn(holder)), &[]);
    server.ready();
    server.signal(Signal::SIGTERM);
    assert_eq!(server.end(), 0);
    let free = || std::net::TcpListener::bind(("127.0.0.1", server.port)).is_ok();
    assert!(!free());
    eventually("the port is free", free);
}

#[test]
fn it_becomes_another_program_with_the_same_pid() {
    let folder = ModelFolder::new();
    let argv = ["sleep", "60"].map(str::to_owned).to_vec();
    let server = start(&folder, &action_at(ScriptPhase::Ready, ScriptAction::Exec { argv }), &[]);
    eventually("sleep", || holds(format!("/proc/{}/comm", server.child.id()), "sleep\n"));
    server.signal(Signal::SIGTERM);
    let mut server = server;
    assert_eq!(server.end(), -15);
}

#[test]
fn it_dumps_what_it_inherited() {
    let folder = ModelFolder::new();
    let path = folder.path("dump.json");
    let mut server = start(&folder, &action_at(ScriptPhase::Start, ScriptAction::Dump { path: path.clone() }), &[]);
    server.ready();
    let dump: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!(dump["pid"], server.child.id());
    assert_eq!(dump["group"], server.child.id());
    assert_eq!(dump["signals_blocked"], serde_json::json!([]));
    assert!(dump["env"]["STAND_IN_SCRIPT"].is_string());
    assert!(dump["fds"]["1"].as_str().unwrap().starts_with("pipe:"));
    assert_eq!(dump["fds"].as_object().unwrap().keys().filter(|fd| fd.parse::<u32>().unwrap() < 3).count(), 3);
}

#[test]
fn wedged_completions_hang_while_health_answers() {
    let folder = ModelFolder::new();
    for wedge in [Wedge::Idle, Wedge::Busy] {
        let mut server = start(&folder, &Script { wedge, ..Script::default() }, &[]);
        server.ready();
        let probe = support::TestClient { port: server.port };
        let limit = Duration::from_millis(400);
        let hanging = std::thread::spawn(move || probe.raw("POST", "/completion", "", "{}", limit));
        server.line("processing task");
        let before = cpu_ticks(server.child.id());
        assert_eq!(server.get("/health").0, 200);
        assert_eq!(hanging.join().unwrap(), "", "{wedge:?}");
        let used = || cpu_ticks(server.child.id()) - before;
        match wedge {
            // How fast it gets its share depends on what else runs.
            Wedge::Busy => eventually("it computes", || used() > 5),
            _ => assert!(used() <= 5, "{wedge:?} used {} ticks", used()),
        }
    }
}

#[test]
fn it_makes_zombies_and_eats_memory() {
    let folder = ModelFolder::new();
    let actions = [ScriptAction::Zombies { count: 5 }, ScriptAction::Eat { megabytes: 64 }];
    let actions = actions.map(|action| ScheduledAction { at: ScriptPhase::Start, after_ms: 0, action }).into();
    let mut server = start(&folder, &Script { actions, ..Script::default() }, &[]);
    server.ready();
    eventually("five zombies", || zombies_of(server.child.id()) == 5);
    let status = fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let resident = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    assert!(resident.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() > 64 << 10, "{resident}");
}

#[test]
fn a_transcript_is_replayed_with_our_port_and_its_exit() {
    let folder = ModelFolder::new();
    let path = folder.path("t.jsonl");
    let transcript = r#"{"t_us": 0, "stream": "meta", "data": {"argv": ["s", "-m", "/m/x.gguf"], "port": 4711}}
{"t_us": 1000, "stream": "stderr", "data": "loading '/m/x.gguf'"}
{"t_us": 200000, "stream": "health", "data": {"status": 200, "body": ""}}
{"t_us": 210000, "stream": "stdout", "data": "ready on 4711"}
{"t_us": 220000, "stream": "exit", "data": {"code": null, "signal": "SIGSEGV"}}
"#;
    fs::write(&path, transcript).unwrap();
    let began = Instant::now();
    let script = Script { replay: Some(Replay { path, scale: 2.0 }), ..Script::default() };
    let mut server = start(&folder, &script, &[]);
    assert_eq!(server.end(), -11);
    assert!(began.elapsed() >= Duration::from_millis(440));
    let text = server.rest();
    assert_eq!(text, format!("loading '{}'\nready on {}\n", folder.model().display(), server.port));
}

#[test]
fn a_replay_that_nobody_probed_is_ready_at_its_last_line_and_ends_at_the_recorded_stop() {
    let folder = ModelFolder::new();
    let path = folder.path("t.jsonl");
    let transcript = r#"{"t_us": 0, "stream": "stderr", "data": "listening on http"}
{"t_us": 60000000, "stream": "signal", "data": "SIGTERM"}
{"t_us": 60000001, "stream": "exit", "data": {"code": 9, "signal": null}}
"#;
    fs::write(&path, transcript).unwrap();
    let script = Script { replay: Some(Replay { path, scale: 1.0 }), ..Script::default() };
    let mut server = start(&folder, &script, &[]);
    server.ready();
    eventually("health", || server.get("/health").0 == 200);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.end(), 0);
}

fn holds(path: impl AsRef<Path>, text: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|found| found == text)
}

fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit(')').next()?.split_whitespace().map(str::to_owned).collect())
}

fn process_state(pid: u32) -> Option<char> {
    stat(pid)?.first()?.chars().next()
}

fn cpu_ticks(pid: u32) -> u64 {
    let stat = stat(pid).unwrap();
    stat[11].parse::<u64>().unwrap() + stat[12].parse::<u64>().unwrap()
}

fn zombies_of(pid: u32) -> usize {
    let children =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    children.filter_map(stat).filter(|stat| stat[0] == "Z" && stat[1] == pid.to_string()).count()
}
