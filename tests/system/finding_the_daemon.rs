//! Which daemon a command talks to, what it tells it, and what it does where nobody answers.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use llama_warden_stand_in::{Script, TermScript};
use llama_warden_tests::{Port, ProgramRun, Sandbox, WAIT_LIMIT, daemon_program, eventually, sandbox};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A command without a configuration of its own.
async fn bare(sandbox: &Sandbox, arguments: &[&str]) -> ProgramRun {
    let mut command = sandbox.program(daemon_program());
    command.args(arguments);
    ProgramRun::to_end(command).await
}

/// Fault S30: the exit code is 5, and the message names every address that was tried.
#[test]
fn a_configuration_leads_to_its_own_daemon_and_no_other() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let mut idle = sandbox.fleet_named("idle");
        idle.server("a", Script::default());
        let socket = idle.state_dir().join("control.sock").display().to_string();
        let listen = format!("http://127.0.0.1:{}", idle.listen());
        let config = idle.write();
        for arguments in [&["down"][..], &["stop", "--all"], &["status"], &["profile", "active"], &["health"]] {
            let ran = sandbox.run(&config, arguments).await.expect(5);
            assert!(ran.stderr.contains(&socket) && ran.stderr.contains(&listen), "{arguments:?}: {}", ran.stderr);
        }
        // Without a `listen` of its own, the socket alone; a file that cannot be read is no reason to look elsewhere.
        let silent = sandbox.file("silent.toml");
        std::fs::write(&silent, format!("[daemon]\nstate-dir = \"{}\"\n", idle.state_dir().display())).unwrap();
        let ran = sandbox.run(&silent, ["down"]).await.expect(5);
        assert!(ran.stderr.contains(&socket) && !ran.stderr.contains("http://127"), "{}", ran.stderr);
        let ran = sandbox.run(&sandbox.file("missing.toml"), ["down"]).await.expect(2);
        assert!(ran.stderr.contains("missing.toml"), "{}", ran.stderr);
        // Two configurations may write one address, such as that of a template.
        let copy = sandbox.file("copy.toml");
        let (state, port) = (idle.state_dir(), fleet.listen());
        let text = format!("[daemon]\nstate-dir = \"{}\"\nlisten = \"127.0.0.1:{port}\"\n", state.display());
        std::fs::write(&copy, text).unwrap();
        let ran = sandbox.run(&copy, ["down"]).await.expect(5);
        assert!(ran.stderr.contains(&*daemon.config().to_string_lossy()), "{}", ran.stderr);
        std::fs::write(&silent, "[daemon]\nstate-dir = 1\n").unwrap();
        sandbox.run(&silent, ["down"]).await.expect(2);
        assert!(daemon.report("a").await.is_ready);
    });
}

/// The default state directory belongs to whichever project's daemon runs.
#[test]
fn two_projects_in_the_default_state_directory_do_not_command_each_other() {
    sandbox(async |sandbox| {
        let states = sandbox.file("states").display().to_string();
        let run = async |config: &Path, arguments: &[&str]| {
            let mut command = sandbox.program(daemon_program());
            command.env("XDG_STATE_HOME", &states).arg("--config").arg(config).args(arguments);
            ProgramRun::to_end(command).await
        };
        let (one, other) = (sandbox.file("one.toml"), sandbox.file("other.toml"));
        std::fs::write(&one, format!("[daemon]\nlisten = \"127.0.0.1:{}\"\n", sandbox.fleet().listen())).unwrap();
        std::fs::write(&other, "[flags]\nctx-size = 512\n").unwrap();
        run(&one, &["up", "--detach"]).await.expect(0);
        for arguments in [&["down"][..], &["stop", "--all"], &["reload"], &["status"]] {
            let ran = run(&other, arguments).await.expect(5);
            let advice = format!("--config {}", one.display());
            assert!(ran.stderr.contains(&advice), "{arguments:?}: {}", ran.stderr);
        }
        run(&one, &["status"]).await.expect(0);
        run(&one, &["down"]).await.expect(0);
    });
}

/// Answers one request with `{}` and returns it.
async fn one_request(listener: &TcpListener) -> String {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        if length > 0 {
            stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
            return String::from_utf8_lossy(&request[..length]).into_owned();
        }
    }
}

/// Fault S30.
#[test]
fn a_token_goes_only_to_the_address_that_it_belongs_to() {
    sandbox(async |sandbox| {
        let own = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stranger = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let token = sandbox.file("token");
        std::fs::write(&token, "\u{feff}s3cret\r\nold\n").unwrap();
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
        let config = sandbox.file("own.toml");
        let text = format!(
            "[daemon]\nlisten = \"{}\"\nstate-dir = \"state\"\ntoken-file = \"token\"\n",
            own.local_addr().unwrap()
        );
        std::fs::write(&config, text).unwrap();
        let both = async { (one_request(&own).await, one_request(&own).await) };
        let (ran, (_, request)) = tokio::join!(sandbox.run(&config, ["status"]), both);
        assert!(request.to_lowercase().contains("authorization: bearer s3cret\r\n"), "{request}");
        assert!(ran.stderr.contains("open to every user") && !ran.stderr.contains("s3cret"), "{}", ran.stderr);
        let (own_url, stranger_url) = (url(&own), url(&stranger));
        let itself = ["--address", &own_url, "status"];
        let (_, request) = tokio::join!(sandbox.run(&config, itself), one_request(&own));
        assert!(request.contains("s3cret"), "{request}");
        let elsewhere = ["--address", &stranger_url, "status"];
        let (_, request) = tokio::join!(sandbox.run(&config, elsewhere), one_request(&stranger));
        assert!(!request.contains("s3cret"), "{request}");
        let named = ["--address", &stranger_url, "--token-file", "token", "status"];
        let (_, request) = tokio::join!(sandbox.run(&config, named), one_request(&stranger));
        assert!(request.contains("s3cret"), "{request}");
    });
}

/// The kernel accepts connections for a listener whose process does nothing, as for one that is stopped.
#[test]
fn a_timeout_bounds_the_whole_command_though_nobody_answers() {
    sandbox(async |sandbox| {
        let frozen = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", frozen.local_addr().unwrap());
        let config = sandbox.fleet().write();
        let commands: [&[&str]; 6] = [
            &["wait", "a", "--timeout", "1s"],
            &["stop", "a", "--wait", "--timeout", "1s"],
            &["down", "--timeout", "1s"],
            &["reload", "--wait", "--timeout", "1s"],
            &["profile", "switch", "p", "--wait", "--timeout", "1s"],
            &["health", "--timeout", "1s"],
        ];
        for arguments in commands {
            let ran = sandbox.run(&config, [&["--address", &*url], arguments].concat()).await.expect(5);
            let said = "timed out after 1s: the daemon accepts connections and does not answer";
            assert!(ran.stderr.contains(said), "{arguments:?}: {}", ran.stderr);
        }
        let ran = sandbox.run(&config, ["--address", &*url, "health"]).await.expect(5);
        assert!(ran.stderr.contains("timed out after 2.5s"), "{}", ran.stderr);
    });
}

#[test]
fn an_address_is_asked_as_it_is_written_and_named_where_nobody_listens() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        let listen = format!("127.0.0.1:{}", fleet.listen());
        bare(sandbox, &["--address", &listen, "wait", "a"]).await.expect(0);
        let free = Port::lease();
        for address in [format!("127.0.0.1:{}", free.number()), format!("http://127.0.0.1:{}", free.number())] {
            let ran = bare(sandbox, &["--address", &address, "status"]).await.expect(5);
            let next = format!("next: start a daemon that listens on {address}");
            assert!(ran.stderr.contains(&next) && !ran.stderr.contains("9888"), "{}", ran.stderr);
        }
        drop(daemon);
    });
}

/// A token that is rotated is in force without a restart.
#[test]
fn a_rotated_token_opens_and_the_former_one_does_not() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let token = sandbox.file("token");
        std::fs::write(&token, "one\n").unwrap();
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
        fleet.daemon(&format!("token-file = \"{}\"", token.display())).server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let url = format!("http://127.0.0.1:{}", fleet.listen());
        std::fs::write(sandbox.file("former"), "one\n").unwrap();
        let with = async |file: &Path| {
            let file = file.display().to_string();
            sandbox.run(daemon.config(), ["--address", &url, "--token-file", &file, "status"]).await.code()
        };
        assert_eq!(with(&token).await, 0);
        std::fs::write(&token, "two\n").unwrap();
        eventually("the new token opens", WAIT_LIMIT, async || with(&token).await == 0).await;
        assert_eq!(with(&sandbox.file("former")).await, 1);
    });
}

/// The exit code is 2 wherever a name is wrong, and the nearest name is told.
#[test]
fn an_unknown_name_is_a_usage_error_that_names_the_nearest_one() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("coder", Script::default()).section("[profiles.night]\nservers = [\"coder\"]");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("coder").await;
        let servers: [&[&str]; 7] = [
            &["status", "codr"],
            &["stop", "codr"],
            &["start", "codr", "--wait"],
            &["logs", "codr"],
            &["wait", "codr"],
            &["argv", "codr"],
            &["up", "--server", "codr"],
        ];
        let others: [(&[&str], &str); 4] = [
            (&["profile", "show", "nigt"], "night"),
            (&["profile", "switch", "nigt"], "night"),
            (&["detector", "show", "generik"], "generic"),
            (&["statsu"], "status"),
        ];
        let cases = servers.into_iter().map(|arguments| (arguments, "coder")).chain(others);
        for (arguments, nearest) in cases {
            let ran = sandbox.run(daemon.config(), arguments).await.expect(2);
            assert!(ran.stderr.contains(nearest) && !ran.stderr.contains("/api/"), "{arguments:?}: {}", ran.stderr);
        }
    });
}

#[test]
fn several_servers_are_named_by_a_glob() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        for id in ["coder", "coop", "embed"] {
            fleet.server(id, Script::default());
        }
        let daemon = sandbox.up(&fleet).await;
        let run = async |arguments: &[&str]| sandbox.run(daemon.config(), arguments).await;
        run(&["wait", "--all", "--timeout", "60s"]).await.expect(0);
        for alias in ["status", "ps", "ls"] {
            let shown = run(&[alias, "co*"]).await.expect(0).stdout;
            assert!(shown.contains("coder") && shown.contains("coop") && !shown.contains("embed"), "{shown}");
            assert!(shown.contains("2 of 2 ready, 2 running"), "the totals are those of the named servers: {shown}");
        }
        let logs = run(&["logs", "--tail", "3"]).await.expect(0).stdout;
        assert!(["coder | ", "coop  | ", "embed | "].iter().all(|prefix| logs.contains(prefix)), "{logs}");
        let stopped = run(&["stop", "co*", "--wait", "--json"]).await.expect(0).json();
        let ids: Vec<_> = stopped.as_array().unwrap().iter().map(|server| server["model_id"].as_str()).collect();
        assert_eq!(ids, [Some("coder"), Some("coop")]);
        assert_eq!(run(&["start", "coder", "--wait", "--json"]).await.expect(0).json()["model_id"], "coder");
        assert!(daemon.report("embed").await.is_ready);
        let problem = run(&["stop", "nobody", "--json"]).await.expect(2);
        assert_eq!((&*problem.json()["reason"].to_string(), &*problem.stderr), ("\"usage\"", ""));
        assert_eq!(run(&["--json", "nonsense"]).await.expect(2).json()["status"], 400);
        assert_eq!(run(&["health", "--ready", "--json"]).await.expect(1).json()["not_ready"][0], "coop");
        let whole = run(&["down", "--json"]).await.expect(0);
        assert_eq!(whole.json()["ended"], true);
        assert_eq!(daemon.exit_code().await, 0);
    });
}

/// The line of the launch, of another profile, and of a server that never ran, also where no configuration is found.
#[test]
fn the_command_line_of_a_server_comes_from_its_daemon() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default()).server_with("idle", Script::default(), "enabled = false");
        fleet.section("[profiles.wide]\nservers = [\"a\"]\nflags = { ctx-size = 777 }");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let address = format!("unix:{}", daemon.state_dir().join("control.sock").display());
        let argv = async |more: &[&str]| bare(sandbox, &[&["--address", &*address, "argv"], more].concat()).await;
        let shown = argv(&["a", "--json"]).await.expect(0).json();
        assert_eq!((&shown["launch"], shown["argv"][0].is_string()), (&1.into(), true), "{shown}");
        assert!(argv(&["idle"]).await.expect(0).stdout.contains("idle.gguf"));
        assert!(argv(&["a", "--profile", "wide"]).await.expect(0).stdout.contains("--ctx-size 777"));
        sandbox.run(daemon.config(), ["profile", "switch", "wide", "--wait"]).await.expect(0);
        assert!(argv(&["a"]).await.expect(0).stdout.contains("--ctx-size 777"));
    });
}

#[test]
fn a_wait_that_times_out_says_so_with_the_state() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script { load_ms: 60_000, ..Script::default() });
        let daemon = sandbox.up(&fleet).await;
        let ran = sandbox.run(daemon.config(), ["wait", "a", "--timeout", "2s"]).await.expect(3);
        assert!(ran.stderr.contains("a: timed out after 2s: "), "{}", ran.stderr);
        assert!(ran.stdout.contains("a: "), "progress: {}", ran.stdout);
    });
}

#[test]
fn a_wait_that_ends_for_one_server_does_not_say_that_others_timed_out() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("slow", Script { load_ms: 60_000, ..Script::default() });
        fleet.server_with("wrong", Script::default(), "args = [\"--port\", \"1\"]");
        let daemon = sandbox.up(&fleet).await;
        let ran = sandbox.run(daemon.config(), ["wait", "--all", "--timeout", "60s"]).await.expect(3);
        assert!(ran.stderr.contains("wrong: failed (bad-argument"), "{}", ran.stderr);
        assert!(ran.stderr.contains("slow: ") && ran.stderr.contains("; no longer waited for"), "{}", ran.stderr);
        assert!(!ran.stderr.contains("timed out"), "{}", ran.stderr);
    });
}

/// A `ready` of before the restart would be read as its outcome.
#[test]
fn the_lines_of_a_restart_begin_with_what_changes() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        // Long enough for somebody who looks to see it load and stop.
        fleet.server("a", Script { load_ms: 500, term: TermScript::Slow(500), ..Script::default() });
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let ran = sandbox.run(daemon.config(), ["restart", "a", "--wait"]).await.expect(0);
        let first = ran.stdout.lines().next().unwrap_or_default();
        assert!(!first.contains("ready"), "{}", ran.stdout);
        assert!(ran.stdout.lines().last().is_some_and(|line| line.starts_with("a: ready after")), "{}", ran.stdout);
        let down = sandbox.run(daemon.config(), ["down"]).await.expect(0);
        assert!(down.stdout.contains("a: stopping"), "{}", down.stdout);
        assert_eq!(daemon.exit_code().await, 0);
    });
}

#[test]
fn a_daemon_in_the_background_answers_when_its_starter_returns() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let config = fleet.write();
        let up = sandbox.run(&config, ["up", "--detach", "--json"]).await.expect(0).json();
        let log = up["log"].as_str().unwrap().to_owned();
        assert_eq!(
            std::fs::read_to_string(fleet.state_dir().join("daemon.lock")).unwrap().trim(),
            up["pid"].to_string()
        );
        // The log is written beside the answers.
        let is_told = async || std::fs::read_to_string(&log).unwrap().contains("llama-warden is up");
        eventually("the log says that it is up", WAIT_LIMIT, is_told).await;
        sandbox.run(&config, ["wait", "a", "--timeout", "60s"]).await.expect(0);
        // The one that runs is not disturbed by a second, which says why it ends and leaves its log alone.
        let before = std::fs::read_to_string(&log).unwrap();
        let second = sandbox.run(&config, ["up", "--detach"]).await.expect(4);
        assert!(second.stderr.contains("is held by process"), "{}", second.stderr);
        assert_eq!(std::fs::read_to_string(&log).unwrap(), before);
        sandbox.run(&config, ["down"]).await.expect(0);
        let told = sandbox.run(&config, ["up", "--detach"]).await.expect(0).stdout;
        assert!(told.contains(&format!("llama-warden down --config {}", config.display())), "{told}");
        sandbox.run(&config, ["down"]).await.expect(0);
    });
}

#[test]
fn a_next_step_leads_to_the_same_daemon() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        sandbox.run(daemon.config(), ["stop", "a", "--wait"]).await.expect(0);
        let file = daemon.config().display().to_string();
        let with_file = sandbox.run(daemon.config(), ["health", "--ready"]).await.expect(1).stderr;
        assert!(with_file.contains(&format!("`llama-warden status --config {file}`")), "{with_file}");
        let address = format!("http://127.0.0.1:{}", fleet.listen());
        let with_address = bare(sandbox, &["--address", &address, "health", "--ready"]).await.expect(1).stderr;
        assert!(with_address.contains(&format!("`llama-warden status --address {address}`")), "{with_address}");
        sandbox.run(daemon.config(), ["down"]).await.expect(0);
        assert_eq!(daemon.exit_code().await, 0);
        let with_json = sandbox.run(daemon.config(), ["status", "--json"]).await.expect(5).json();
        let next_step = with_json["next_step"].as_str().unwrap_or_default();
        assert!(next_step.contains(&format!("`llama-warden up --config {file}`")), "{with_json}");
    });
}

#[test]
fn where_nothing_is_configured_the_next_step_says_how_to_begin() {
    sandbox(async |sandbox| {
        let config = sandbox.fleet().write();
        for (arguments, next) in
            [(["up", "--server=a"].as_slice(), "[[servers]]"), (&["profile", "show", "a"], "[profiles.NAME]")]
        {
            let told = sandbox.run(&config, arguments).await.expect(2).stderr;
            assert!(told.contains("`a`, nor any other") && told.contains(next), "{told}");
        }
    });
}

#[test]
fn who_finds_no_configuration_says_where_it_looked() {
    sandbox(async |sandbox| {
        let checked = bare(sandbox, &["check"]).await.expect(0).stdout;
        let here = sandbox.file("llama-warden.toml").display().to_string();
        assert!(checked.contains(&here) && checked.contains("/etc/llama-warden/config.toml"), "{checked}");
        let port = Port::lease().number();
        let mut argv = sandbox.program(daemon_program());
        argv.args(["argv", "qwen3"]).env("LLAMA_WARDEN_DAEMON__LISTEN", format!("127.0.0.1:{port}"));
        let unknown = ProgramRun::to_end(argv).await.expect(2).stderr;
        assert!(unknown.contains(&here) && unknown.contains("next: name the configuration"), "{unknown}");
        let template = bare(sandbox, &["config", "init"]).await.expect(0).stdout;
        std::fs::write(&here, template).unwrap();
        bare(sandbox, &["check", &here]).await.expect(0);
        let port = Port::lease().number();
        let mut show = sandbox.program(daemon_program());
        show.args(["config", "show"]).env("LLAMA_WARDEN_DAEMON__LISTEN", format!("127.0.0.1:{port}"));
        let shown = ProgramRun::to_end(show).await.expect(0).stdout;
        let listen = shown.lines().find(|line| line.contains("daemon.listen")).unwrap_or_default();
        assert!(listen.contains(&port.to_string()) && listen.contains("LLAMA_WARDEN_DAEMON__LISTEN"), "{shown}");
    });
}

#[test]
fn a_variable_without_a_value_is_as_one_that_is_not_set() {
    sandbox(async |sandbox| {
        let config = sandbox.fleet().write();
        let mut command = sandbox.program(daemon_program());
        command.env("LLAMA_WARDEN_CONFIG", "").env("LLAMA_WARDEN_ADDRESS", "").arg("-c").arg(&config).arg("status");
        let ran = ProgramRun::to_end(command).await.expect(5);
        assert!(ran.stderr.contains(&config.display().to_string()), "{}", ran.stderr);
    });
}

#[test]
fn a_file_is_checked_whatever_configuration_the_environment_names() {
    sandbox(async |sandbox| {
        let file = sandbox.file("new.toml");
        std::fs::write(&file, "[daemon]\nlissen = \"\"\n").unwrap();
        let mut command = sandbox.program(daemon_program());
        command.env("LLAMA_WARDEN_CONFIG", sandbox.fleet().write()).arg("check").arg(&file);
        let ran = ProgramRun::to_end(command).await.expect(2);
        assert!(ran.stderr.contains("new.toml:2:1"), "{}", ran.stderr);
    });
}
