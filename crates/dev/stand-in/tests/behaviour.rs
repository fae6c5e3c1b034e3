//! The stand-in behaves as the recordings of llama-server b11669, or of the era that its script names.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod support;

use std::{
    fs::File,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    process::Command,
    time::Duration,
};

use llama_warden_stand_in::{Era, Script, Stream};
use llama_warden_test_parts::ports::free_port;
use llama_warden_tiny_gguf::{Damage, TinyModel};
use nix::{fcntl::OFlag, sys::signal::Signal};
use support::{ModelFolder, PROGRAM, RunningStandIn, eventually, start, start_on};

fn of(era: Era) -> Script {
    Script { era, ..Script::default() }
}

#[test]
fn it_loads_becomes_ready_and_ends_with_zero_on_term() {
    let folder = ModelFolder::new();
    let mut server = start(&folder, &Script::default(), &["--alias", "tiny"]);
    server.line("I srv    load_model: loading model '");
    let ready = server.line("I srv  llama_server: listening on http://127.0.0.1:");
    assert_eq!(ready.0, Stream::Stderr);
    assert_eq!(server.get("/health"), (200, r#"{"status":"ok"}"#.into()));
    server.signal(Signal::SIGTERM);
    assert_eq!(server.end(), 0);
    assert!(server.rest().contains("cleaning up before exit..."));
}

#[test]
fn while_it_loads_health_is_503_and_term_kills() {
    let folder = ModelFolder::new();
    let mut server = start(&folder, &Script { load_ms: 60_000, ..Script::default() }, &[]);
    server.line("loading model");
    let body = r#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#;
    assert_eq!(server.get("/health"), (503, body.into()));
    server.signal(Signal::SIGTERM);
    assert_eq!(server.end(), -15);
}

#[test]
fn the_model_is_named_by_its_alias_and_by_its_path() {
    let folder = ModelFolder::new();
    let mut server = start(&folder, &Script::default(), &["--alias", "tiny"]);
    server.ready();
    assert!(server.get("/v1/models").1.contains(r#""id":"tiny""#));
    let path = folder.model().display().to_string();
    assert!(server.get("/props").1.contains(&format!(r#""model_path":"{path}""#)));
}

#[test]
fn without_an_alias_the_id_is_the_path() {
    let folder = ModelFolder::new();
    let mut server = start(&folder, &Script::default(), &[]);
    server.ready();
    assert!(server.get("/v1/models").1.contains(&format!(r#""id":"{}""#, folder.model().display())));
}

#[test]
fn a_key_guards_all_but_health() {
    let folder = ModelFolder::new();
    std::fs::write(folder.path("keys"), "# comment\nsesame\n").unwrap();
    let keys = folder.path("keys");
    let mut server = start(&folder, &Script::default(), &["--api-key-file", keys.to_str().unwrap(), "--metrics"]);
    server.ready();
    assert_eq!(server.get("/health").0, 200);
    for path in ["/v1/models", "/props", "/slots", "/metrics"] {
        assert_eq!(server.get(path).0, 401, "{path}");
        assert_eq!(server.ask("GET", path, "Authorization: Bearer sesame\r\n", "").0, 200, "{path}");
    }
}

#[test]
fn metrics_need_their_option() {
    let folder = ModelFolder::new();
    let mut server = start(&folder, &Script::default(), &[]);
    server.ready();
    assert_eq!(server.get("/metrics").0, 501);
}

#[test]
fn completions_come_whole_and_streamed() {
    let folder = ModelFolder::new();
    let mut server = start(&folder, &Script { token_ms: 0, ..Script::default() }, &[]);
    server.ready();
    let (status, body) = server.ask("POST", "/completion", "", r#"{"prompt":"x","n_predict":3}"#);
    assert_eq!(status, 200);
    assert!(body.contains(r#""content":"all work and""#) && body.contains(r#""tokens_predicted":3"#), "{body}");
    let (_, body) = server.ask("POST", "/v1/chat/completions", "", r#"{"stream":true,"max_tokens":2}"#);
    assert_eq!(body.matches("data: ").count(), 4, "{body}");
    assert!(body.contains("data: [DONE]"), "{body}");
}

#[test]
fn a_streamed_stop_lasts_until_the_ping() {
    let folder = ModelFolder::new();
    let mut server = start(&folder, &Script::default(), &["--sse-ping-interval", "1"]);
    server.ready();
    let client = stream_without_end(&server);
    server.line("processing task");
    let began = std::time::Instant::now();
    server.signal(Signal::SIGTERM);
    assert_eq!(server.end(), 0);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    client.join().unwrap();
}

#[test]
fn a_streamed_stop_aborts_a_server_of_2025() {
    let folder = ModelFolder::new();
    let mut server = start(&folder, &of(Era::August2025), &[]);
    server.ready();
    let client = stream_without_end(&server);
    server.line("processing task");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.end(), -6);
    assert!(server.rest().contains("terminate called without an active exception"));
    client.join().unwrap();
}

fn stream_without_end(server: &RunningStandIn) -> std::thread::JoinHandle<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let body = r#"{"stream":true,"n_predict":-1}"#;
    write!(stream, "POST /completion HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    // The first bytes prove that the stream is counted.
    stream.read_exact(&mut [0; 16]).unwrap();
    std::thread::spawn(move || drop(std::io::copy(&mut stream, &mut std::io::sink())))
}

#[test]
fn a_second_term_ends_it_with_one() {
    let folder = ModelFolder::new();
    let script = Script { term: llama_warden_stand_in::TermScript::Slow(60_000), ..Script::default() };
    let mut server = start(&folder, &script, &[]);
    server.ready();
    server.signal(Signal::SIGTERM);
    server.line("cleaning up");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.end(), 1);
    assert!(server.rest().contains("Received second interrupt, terminating immediately."));
}

#[test]
fn a_bad_model_is_reported_in_the_recorded_words() {
    let folder = ModelFolder::new();
    let model = folder.path("bad.gguf");
    let text_of = |damage: Option<Damage>| {
        if let Some(damage) = damage {
            TinyModel::new("Bad").write_damaged(&model, damage).unwrap();
        }
        let mut server = start_on(0, &model, &Script::default(), &[]);
        assert_eq!(server.end(), 1, "{damage:?}");
        let text = server.rest();
        assert!(text.ends_with("E srv  llama_server: exiting due to model loading error\n"), "{text}");
        text
    };
    let path = model.display();
    assert!(
        text_of(None)
            .contains(&format!("E gguf_init_from_file: failed to open GGUF file '{path}' (No such file or directory)"))
    );
    assert!(
        text_of(Some(Damage::WrongMagic))
            .contains("E gguf_init_from_reader: invalid magic characters: 'GGML', expected 'GGUF'")
    );
    assert!(text_of(Some(Damage::HeaderCut)).contains("failed to read key-value pairs"));
    assert!(text_of(Some(Damage::WeightsCut)).contains("data is not within the file bounds"));
    assert!(text_of(Some(Damage::FutureVersion)).contains("this GGUF file is version 99"));
    assert!(text_of(Some(Damage::Empty)).contains("failed to read magic"));
}

#[test]
fn a_busy_port_is_reported_in_the_recorded_words() {
    let folder = ModelFolder::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut server = start_on(port, &folder.model(), &Script::default(), &[]);
    assert_eq!(server.end(), 1);
    let text = server.rest();
    let line = format!("E srv         start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: {port}\n");
    assert!(text.contains(&line), "{text}");
    assert!(text.ends_with("E srv  llama_server: exiting due to HTTP server error\n"), "{text}");
}

#[test]
fn servers_of_2025_share_a_port() {
    let folder = ModelFolder::new();
    let mut first = start(&folder, &of(Era::August2025), &[]);
    first.ready();
    let mut second = start_on(first.port, &folder.model(), &of(Era::August2025), &[]);
    second.ready();
}

#[test]
fn a_server_of_2025_speaks_of_listening_too_early() {
    let folder = ModelFolder::new();
    let mut server = start(&folder, &Script { load_ms: 60_000, ..of(Era::August2025) }, &[]);
    server.line("main: HTTP server is listening, hostname: 127.0.0.1, port: ");
    assert_eq!(server.get("/health").0, 503);
}

#[test]
fn a_server_of_mid_2024_prints_on_stdout_and_crashes_on_a_bad_model() {
    let folder = ModelFolder::new();
    let mut server = start(&folder, &of(Era::July2024), &[]);
    let line = server.line("HTTP server listening | tid=");
    assert_eq!(line.0, Stream::Stdout);
    assert!(server.get("/health").1.contains("slots_idle"));
    let mut broken = start_on(0, &folder.path("none.gguf"), &of(Era::July2024), &[]);
    assert_eq!(broken.end(), -11);
}

#[test]
fn a_server_of_2023_has_no_health_and_dies_of_term() {
    let folder = ModelFolder::new();
    let mut server = start(&folder, &of(Era::December2023), &[]);
    server.line("llama server listening at http://127.0.0.1:");
    server.line("all slots are idle");
    assert_eq!(server.get("/health").0, 404);
    assert_eq!(server.get("/v1/models").0, 200);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.end(), -15);
}

#[test]
fn a_server_of_today_prints_what_a_completion_cost_and_releases_its_slot() {
    let folder = ModelFolder::new();
    let mut server = start(&folder, &Script::default(), &[]);
    server.line("llama_server: listening on");
    assert_eq!(server.ask("POST", "/completion", "", r#"{"prompt": "a", "n_predict": 3}"#).0, 200);
    let (_, line) = server.line("|        eval time = ");
    assert!(String::from_utf8_lossy(&line).contains(" ms / 3 tokens ("));
    server.line("| stop processing: n_tokens = 3,");
}

#[test]
fn the_version_goes_to_stderr_and_the_help_to_stdout() {
    let run = |argument: &str| Command::new(PROGRAM).arg(argument).output().unwrap();
    let version = run("--version");
    assert!(version.status.success() && version.stdout.is_empty());
    let text = String::from_utf8(version.stderr).unwrap();
    assert!(text.starts_with("version: 0.7.0 (build 11669, commit stand-in)\nbuilt with "), "{text}");
    let help = run("--help");
    assert!(help.status.success() && help.stderr.is_empty());
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(text.contains("--load-mode MODE") && !text.contains("--no-mmap"), "{text}");
    let unknown = run("--no-such-flag");
    assert_eq!(unknown.status.code(), Some(1));
    assert_eq!(unknown.stderr, b"error: invalid argument: --no-such-flag\n");
}

#[test]
fn a_script_beside_the_program_decides_what_it_is() {
    let folder = ModelFolder::new();
    let program = folder.path("llama-server");
    std::os::unix::fs::symlink(PROGRAM, &program).unwrap();
    of(Era::August2025).write_beside(&program).unwrap();
    let help = Command::new(&program).arg("--help").output().unwrap();
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(text.contains("--no-mmap") && !text.contains("--load-mode") && !text.contains("--sse-ping"), "{text}");
}

#[test]
fn a_script_beside_the_model_is_for_one_server_and_a_bad_one_is_refused() {
    let folder = ModelFolder::new();
    Script { model_id: Some("other".into()), ..Script::default() }.write_beside(&folder.model()).unwrap();
    let mut server = start(&folder, &Script::default(), &[]);
    server.ready();
    assert!(server.get("/v1/models").1.contains(r#""id":"other""#));
    std::fs::write(Script::sidecar(&folder.model()), r#"{"no_such_key": 1}"#).unwrap();
    let mut refused = start(&folder, &Script::default(), &[]);
    assert_eq!(refused.end(), 64);
    assert!(refused.rest().contains("no_such_key"));
}

#[test]
fn an_undrained_log_hangs_completions_and_not_health() {
    let folder = ModelFolder::new();
    let port = free_port().unwrap();
    // Nobody reads this pipe, and the script fills it.
    let script = r#"{"max_life_s": 60, "acts": [{"at": "ready", "do": {"flood": {"megabytes": 1}}}]}"#;
    let (_reader, writer) = std::io::pipe().unwrap();
    // Opened anew, since the flag of a copy would make the stand-in's own writes non-blocking too.
    let mut probe = File::options()
        .write(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(format!("/proc/self/fd/{}", writer.as_raw_fd()))
        .unwrap();
    let mut child = Command::new(PROGRAM)
        .args(["-m", folder.model().to_str().unwrap(), "--port", &port.to_string()])
        .env("STAND_IN_SCRIPT", script)
        .stderr(writer)
        .spawn()
        .unwrap();
    let server = support::TestClient { port };
    eventually("health", || server.get("/health").0 == 200);
    // Health turns before the flood begins.
    eventually("the pipe is full", || probe.write(b"x").is_err());
    let reply = server.raw("POST", "/completion", "", "{}", Duration::from_millis(500));
    let health = server.get("/health").0;
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!((reply.as_str(), health), ("", 200));
}

#[test]
fn a_connection_takes_as_many_requests_as_those_of_the_builds() {
    let folder = ModelFolder::new();
    for (era, most) in [(Era::November2024, 5), (Era::August2025, 100), (Era::B11669, 100)] {
        let mut server = start(&folder, &of(era), &[]);
        eventually("it answers", || server.get("/health").0 == 200);
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n".repeat(most + 1).as_slice()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answers = String::new();
        // The request behind the last is never answered: the connection may be reset.
        let _ = stream.read_to_string(&mut answers);
        let heads: Vec<&str> = answers.split("HTTP/1.1 200").skip(1).collect();
        assert_eq!(heads.len(), most, "{era:?}");
        let closing = heads.iter().position(|head| head.contains("Connection: close\r\n"));
        assert_eq!(closing, Some(most - 1), "{era:?}");
        server.signal(Signal::SIGKILL);
        server.end();
    }
}
