//! Commands of the command line that need no daemon, and what the others do without one.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use std::os::unix::fs::symlink;
use std::time::Duration;

use llama_warden_stand_in::{Era, Script};
use llama_warden_tests::{
    Endpoint, Port, ProgramRun, Sandbox, TestRequest, WAIT_LIMIT, eventually, processes_with, sandbox,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};

async fn check(sandbox: &Sandbox, toml: &str) -> ProgramRun {
    let path = sandbox.file("bad.toml");
    std::fs::write(&path, toml).unwrap();
    sandbox.run(&path, ["check"]).await
}

/// The exit code is 5.
#[test]
fn without_a_daemon_the_commands_that_need_one_say_so() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let config = fleet.write();
        let commands: [&[&str]; 9] = [
            &["status"],
            &["status", "--json"],
            &["start", "a"],
            &["stop", "a"],
            &["restart", "a"],
            &["logs", "a"],
            &["events"],
            &["wait", "a"],
            &["down"],
        ];
        for arguments in commands {
            let ran = sandbox.run(&config, arguments).await.expect(5);
            let said = format!("{}{}", ran.stdout, ran.stderr);
            assert!(said.contains("llama-warden up"), "{arguments:?} names the next step: {said}");
        }
    });
}

/// The exit code is 2.
#[test]
fn every_problem_of_a_configuration_is_reported_with_its_place() {
    sandbox(async |sandbox| {
        let bad = "[daemon]\nlisten = \"nonsense\"\n\n[stop]\ngrase = \"5s\"\n\n[[servers]]\nid = \"--host\"\nmodel = \"a.gguf\"\n";
        let ran = check(sandbox, bad).await.expect(2);
        for (place, word) in [(":2:", "listen"), (":5:", "grace"), (":8:", "--host")] {
            assert!(ran.stderr.contains(place) && ran.stderr.contains(word), "no {place} {word} in\n{}", ran.stderr);
        }
        let broken = check(sandbox, "[daemon\n").await.expect(2);
        assert!(broken.stderr.contains("bad.toml:1:"), "{}", broken.stderr);
        let missing = sandbox.run(&sandbox.file("missing.toml"), ["check"]).await.expect(2);
        assert!(missing.stderr.contains("missing.toml"), "{}", missing.stderr);
    });
}

#[test]
fn a_good_configuration_passes_the_check() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        sandbox.run(&fleet.write(), ["check"]).await.expect(0);
    });
}

/// Faults S23 and S2.
#[test]
fn values_that_would_become_other_arguments_are_refused() {
    sandbox(async |sandbox| {
        let server = |keys: &str| format!("[[servers]]\nid = \"a\"\nmodel = \"a.gguf\"\n{keys}\n");
        let cases = [
            server("id2 = 1"),
            server("flags = { \"ctx-size\" = \"1\\n--host\" }"),
            server("flags = { \"--host\" = \"0.0.0.0\" }"),
            server("flags = { host = \"0.0.0.0\" }"),
            server("flags = { port = 1 }"),
            server("host = \"127.0.0.1\\n\""),
            server("port = 0"),
            server("args = [\"a\\u0000b\"]"),
            "[[servers]]\nid = \"../x\"\nmodel = \"a.gguf\"\n".to_owned(),
            "[[servers]]\nid = \"a\"\nmodel = \"a\\nb.gguf\"\n".to_owned(),
            "[[servers]]\nid = \"a\"\nmodel = \"a\\u0000b.gguf\"\n".to_owned(),
            "[daemon]\non-daemon-death = \"keep\"\n".to_owned(),
        ];
        for toml in cases {
            let ran = check(sandbox, &toml).await;
            assert_eq!(ran.code(), 2, "taken:\n{toml}\n{}", ran.stderr);
        }
    });
}

/// Fault S23.
/// The path is made absolute, so that it cannot be read as an option.
#[test]
fn a_model_called_like_an_option_is_passed_as_a_path() {
    sandbox(async |sandbox| {
        let path = sandbox.file("argv.toml");
        let build = sandbox.build_of(Era::B11669);
        std::fs::write(
            &path,
            format!("[llama-server]\nbinary = \"{}\"\n[[servers]]\nid = \"a\"\nmodel = \"--host\"\n", build.display()),
        )
        .unwrap();
        let argv = sandbox.run(&path, ["argv", "a"]).await.expect(0);
        assert!(argv.stdout.contains(&*sandbox.file("--host").to_string_lossy()), "{}", argv.stdout);
    });
}

#[test]
fn argv_shows_what_was_translated_and_why() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let config = fleet.write();
        let today = sandbox.run(&config, ["argv", "a"]).await.expect(0);
        assert!(today.stdout.contains("--load-mode"), "{}", today.stdout);
        let old = sandbox.build_of(Era::August2025);
        let old = sandbox.run(&config, ["argv", "a", "--binary", &old.to_string_lossy()]).await.expect(0);
        assert!(old.stdout.contains("--no-mmap") && !old.stdout.contains("--load-mode none"), "{}", old.stdout);
        sandbox.run(&config, ["argv", "nobody"]).await.expect(2);
    });
}

#[test]
fn the_program_says_of_itself_what_was_generated() {
    sandbox(async |sandbox| {
        let fleet = sandbox.fleet();
        let config = fleet.write();
        let openapi = include_str!("../../docs/schema/openapi.json");
        for (name, kept) in [
            ("config", include_str!("../../docs/schema/config.json")),
            ("detector", include_str!("../../docs/schema/detector.json")),
            ("dialect", include_str!("../../docs/schema/dialect.json")),
            ("openapi", openapi),
            ("events", include_str!("../../docs/events.md")),
            ("metrics", include_str!("../../docs/metrics.md")),
        ] {
            let printed = sandbox.run(&config, ["schema", name]).await.expect(0).stdout;
            assert!(printed == kept, "schema {name}: {printed}");
        }
        let daemon = sandbox.up(&fleet).await;
        let served = daemon.get("/openapi.json").await.expect(200);
        assert_eq!(served.headers["content-type"], "application/json");
        assert!(served.text() == openapi, "{}", served.text());
    });
}

#[test]
fn usage_errors_end_with_two() {
    sandbox(async |sandbox| {
        let config = sandbox.fleet().write();
        for arguments in
            [["nonsense"].as_slice(), &["start"], &["wait", "a", "--timeout", "soon"], &["up", "--server", "-x"]]
        {
            sandbox.run(&config, arguments).await.expect(2);
        }
        sandbox.run(&config, ["up", "--server", "nobody"]).await.expect(2);
        sandbox.run(&config, ["up", "--profile", "nobody"]).await.expect(2);
    });
}

/// The demo with the built-in stand-in, as on a machine without a llama-server. It runs a copy of llama-warden, since
/// `cargo xtask` installs a real llama-server beside the original.
#[test]
fn the_demo_needs_nothing_and_leaves_nothing() {
    sandbox(async |sandbox| {
        // The default, 127.0.0.1:9888, may be in use by another demo.
        let port = Port::lease();
        let mut command = sandbox.program(sandbox.copy_of_daemon());
        let temporary = sandbox.file("tmp");
        std::fs::create_dir(&temporary).unwrap();
        let path = sandbox.file("path");
        std::fs::create_dir(&path).unwrap();
        symlink("/bin/true", path.join("true")).unwrap();
        command
            .arg("demo")
            .env("PATH", &path)
            .env("TMPDIR", &temporary)
            .env("LLAMA_WARDEN_DAEMON__LISTEN", format!("127.0.0.1:{}", port.number()))
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null());
        let mut demo = command.spawn().unwrap();
        let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
        let first = tokio::time::timeout(WAIT_LIMIT, lines.next_line()).await.unwrap().unwrap().expect("a first line");
        assert!(first.contains("stand-in"), "the first line names what runs: {first}");
        let http = Endpoint::Tcp(port.number());
        eventually("three servers are ready", WAIT_LIMIT, async || http.answers("/readyz").await).await;
        let status = TestRequest::get("/api/v1/status").send(&http).await.unwrap().expect(200).json();
        assert_eq!((&status["total_servers"], &status["ready_servers"]), (&3.into(), &3.into()));
        let pid = demo.id().expect("it runs");
        kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGINT).unwrap();
        let status = tokio::time::timeout(WAIT_LIMIT, demo.wait()).await.expect("it ends").unwrap();
        assert_eq!(status.code(), Some(0));
        let home = sandbox.path().to_string_lossy().into_owned();
        eventually("nothing runs", Duration::from_secs(5), async || processes_with(&home).is_empty()).await;
        let left: Vec<_> = std::fs::read_dir(&temporary).unwrap().flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "{left:?}");
    });
}
