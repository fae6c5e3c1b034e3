//! Options that are mistaken, that come by a second road, or for a build that does not say what it takes.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use llama_warden_events::{FailureReason, Warning};
use llama_warden_stand_in::{Era, Script};
use llama_warden_tests::{ProgramRun, Sandbox, executable, is_root, sandbox};

/// A wrapper that answers nothing on `--help`, and runs a server of `era` otherwise.
fn mute_wrapper(sandbox: &Sandbox, era: Era) -> PathBuf {
    let build = sandbox.build_of(era);
    executable(
        &sandbox.file("mute/llama-server"),
        &format!("#!/bin/sh\n[ $# -gt 1 ] || exit 1\nexec '{}' \"$@\"\n", build.display()),
    )
}

#[test]
fn a_key_file_without_a_key_is_a_bad_argument_and_disturbs_nobody() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        std::fs::write(sandbox.file("keys"), "# team keys\n\n").expect("the sandbox can be written");
        fleet.server_with("open", Script::default(), &format!("api-key-file = {:?}", sandbox.file("keys")));
        fleet.server("b", Script::default());
        let checked = sandbox.run(&fleet.write(), ["check"]).await.expect(2);
        assert!(checked.stderr.contains("has no key") && checked.stderr.contains(".toml:"), "{}", checked.stderr);
        let daemon = sandbox.up(&fleet).await;
        let (reason, detail, _) = daemon.failure("open").await;
        assert_eq!(reason, FailureReason::BadArgument);
        assert!(detail.contains("has no key, and the server would answer everybody"), "{detail}");
        daemon.ready("b").await;
    });
}

#[test]
fn check_says_at_once_whatever_a_launch_would_refuse_about_a_command_line() {
    sandbox(async |sandbox| {
        let config = sandbox.file("options.toml");
        let build = sandbox.build_of(Era::B11669);
        let text = format!(
            "[llama-server]\nbinary = {build:?}\n\
             [flags]\nn-gpu-layer = 9\nngl = 9\nctx-size = \"8k\"\n\
             [[servers]]\nid = \"a\"\nmodel = \"a.gguf\"\n\
             args = [\"--verbose\", \"--port\", \"8099\", \"--parallell\", \"2\", \"--ssl-key-file\", \"/no/k.pem\"]\n\
             [servers.flags]\nmetrics = \"true\"\napi-key = \"\"\n\
             [[servers]]\nid = \"b\"\nmodel = \"b.gguf\"\n\
             [profiles.p]\nservers = [\"b\"]\nflags = {{ ctx-size = false }}\n"
        );
        std::fs::write(&config, text).expect("the sandbox can be written");
        let checked = sandbox.run(&config, ["check"]).await.expect(2);
        let problems = [
            (":4:", "did you mean `n-gpu-layers`?"),
            (":5:", "write `n-gpu-layers`"),
            (":6:", "its value is no number"),
            (":10:", "set the key `port`"),
            (":10:", "did you mean `--parallel`?"),
            (":12:", "write `metrics = true`"),
            (":13:", "would answer everybody"),
            (":19:", "it takes a number"),
        ];
        for (place, words) in problems {
            let is_it = |line: &str| line.contains(words);
            assert!(checked.stderr.lines().any(is_it), "{words} is missing in\n{}", checked.stderr);
            assert!(checked.stderr.contains(place), "{place} is missing in\n{}", checked.stderr);
        }
        assert!(checked.stderr.contains("/no/k.pem of `--ssl-key-file` does not exist"), "{}", checked.stderr);
        let count =
            sandbox.run(&config, ["check", "--json"]).await.expect(2).json()["problems"].as_array().map(Vec::len);
        assert_eq!(count, Some(problems.len()), "what servers share is told once");

        let without =
            std::fs::read_to_string(&config).expect("written").replace(&*build.to_string_lossy(), "/no/such/build");
        std::fs::write(&config, without).expect("the sandbox can be written");
        let guessed = sandbox.run(&config, ["check"]).await.expect(2);
        assert!(
            guessed.stderr.contains("did you mean `n-gpu-layers`?"),
            "a warning without a build: {}",
            guessed.stderr
        );
    });
}

#[test]
fn check_says_which_address_pack_and_environment_a_launch_would_not_get() {
    sandbox(async |sandbox| {
        let config = sandbox.file("machine.toml");
        let (build, other) = (sandbox.build_of(Era::B11669), sandbox.build_of(Era::August2025));
        // Of a block that is kept for documentation.
        let text = format!(
            "[llama-server]\nbinary = {build:?}\n[readiness]\ndetector = \"no-pack\"\n\
             [[servers]]\nid = \"a\"\nmodel = \"a.gguf\"\nhost = \"192.0.2.77\"\n\
             [[servers]]\nid = \"b\"\nmodel = \"b.gguf\"\nhost = \"no/folder/b.sock\"\n\
             [[servers]]\nid = \"c\"\nmodel = \"c.gguf\"\nbinary = {other:?}\nenv = {{ LONG = \"{}\" }}\n\
             [[servers]]\nid = \"d\"\nmodel = \"turns\"\n",
            "x".repeat(200_000)
        );
        std::fs::write(&config, text).expect("the sandbox can be written");
        std::os::unix::fs::symlink("turns", sandbox.file("turns")).expect("the sandbox can be written");
        let checked = sandbox.run(&config, ["check", "--json"]).await.expect(0).json();
        let warned = |place: &str, words: &str| {
            let mut texts = checked["warnings"].as_array().expect("an array").iter().map(ToString::to_string);
            assert!(texts.any(|text| text.contains(place) && text.contains(words)), "{place} {words}: {checked}");
        };
        warned("\"line\":8", "cannot listen on `192.0.2.77`");
        warned("\"line\":12", "no/folder/b.sock cannot be used: No such file");
        warned("\"line\":20", "turns cannot be looked at: Too many levels of symbolic links");
        warned("\"line\":4", "there is no detector pack `no-pack`");
        warned("\"line\":16", "`env` or `args` are longer than the kernel takes");
        let shared = checked["warnings"].to_string().matches("no-pack").count();
        assert_eq!(shared, 1, "what servers share is told once: {checked}");
    });
}

#[test]
fn check_says_which_names_do_not_resolve_and_where() {
    sandbox(async |sandbox| {
        let config = sandbox.file("names.toml");
        let text = format!(
            "[daemon]\nlisten = \"api.invalid:9888\"\n[router]\nlisten = \"router.invalid:8080\"\nopen = true\n\
             [llama-server]\nbinary = {:?}\nhost = \"servers.invalid\"\n\
             [[servers]]\nid = \"a\"\nmodel = \"a.gguf\"\n\
             [[servers]]\nid = \"b\"\nmodel = \"b.gguf\"\nhost = \"localhost\"\n",
            sandbox.build_of(Era::B11669)
        );
        std::fs::write(&config, text).expect("the sandbox can be written");
        let checked = sandbox.run(&config, ["check", "--json"]).await.expect(0).json();
        let warnings: Vec<_> = checked["warnings"].as_array().expect("an array").iter().collect();
        let of_names = warnings.iter().filter(|text| text.to_string().contains("cannot be resolved")).count();
        assert_eq!(of_names, 3, "what servers share is told once, and `localhost` resolves: {checked}");
        for (line, name, help) in [
            (2, "api.invalid", "the daemon does not start without it"),
            (4, "router.invalid", "the daemon does not start without it"),
            (8, "servers.invalid", "a launch waits until it can"),
        ] {
            let told = warnings
                .iter()
                .map(ToString::to_string)
                .find(|text| text.contains(&format!("`{name}` cannot be resolved")));
            let told = told.unwrap_or_else(|| panic!("{name}: {checked}"));
            assert!(told.contains(&format!("\"line\":{line}")) && told.contains(help), "{told}");
        }
    });
}

#[test]
fn what_the_user_may_not_read_is_told_by_check() {
    if !is_root() {
        return;
    }
    sandbox(async |sandbox| {
        let (model, key, config) = (sandbox.file("a.gguf"), sandbox.file("a.key"), sandbox.file("closed.toml"));
        let adapter = sandbox.file("a.lora");
        for (path, text) in [(&model, ""), (&key, "sk-key\n"), (&adapter, ""), (&config, CLOSED_FILES)] {
            std::fs::write(path, text).expect("the sandbox can be written");
            std::fs::set_permissions(path, Permissions::from_mode(0o600)).expect("it is ours");
        }
        std::fs::set_permissions(&config, Permissions::from_mode(0o644)).expect("it is ours");
        std::fs::set_permissions(sandbox.path(), Permissions::from_mode(0o755)).expect("it is ours");
        let mut command = sandbox.program(sandbox.copy_of_daemon());
        command.arg("--config").arg(&config).arg("check").uid(65_534).gid(65_534);
        let checked = ProgramRun::to_end(command).await.expect(0).stderr;
        for (what, path) in [("the model", &model), ("the api key file", &key)] {
            let told = format!("{what} {} cannot be read: Permission denied", path.display());
            assert!(checked.contains(&told), "{told}: {checked}");
        }
        let told = format!("cannot look at {} of `--lora`: Permission denied", adapter.display());
        assert!(checked.contains(&told), "{told}: {checked}");
        assert!(checked.contains("change its mode or its owner"), "{checked}");
    });
}

const CLOSED_FILES: &str = "[[servers]]\nid = \"a\"\nmodel = \"a.gguf\"\napi-key-file = \"a.key\"\n\
    flags = { lora = \"a.lora\" }\n";

#[test]
fn a_file_of_an_option_that_is_missing_is_named_and_waited_for() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section("[restart]\ninitial-delay = \"100ms\"\nmax-delay = \"1s\"\n");
        let pages = sandbox.file("pages");
        fleet.server_with("a", Script::default(), &format!("args = [\"--verbose\", \"--path\", {pages:?}]"));
        let daemon = sandbox.up(&fleet).await;
        let (reason, detail, _) = daemon.failure("a").await;
        assert_eq!(reason, FailureReason::FileNotFound);
        assert!(detail.contains(&format!("cannot find {} of `--path`", pages.display())), "{detail}");
        std::fs::create_dir(&pages).expect("the sandbox can be written");
        daemon.ready("a").await;
    });
}

#[test]
fn executables_that_do_not_answer_are_asked_side_by_side() {
    sandbox(async |sandbox| {
        let config = sandbox.file("mute.toml");
        let mute = |index: usize| {
            let script = executable(&sandbox.file(&format!("mute{index}")), "#!/bin/sh\nexec sleep 60\n");
            format!("[[servers]]\nid = \"s{index}\"\nmodel = \"a.gguf\"\nbinary = {script:?}\n")
        };
        std::fs::write(&config, (0..8).map(mute).collect::<String>()).expect("the sandbox can be written");
        // One after another, they would take 80 s, which is longer than the harness waits.
        let checked = sandbox.run(&config, ["check"]).await.expect(0);
        assert_eq!(checked.stderr.matches("did not end within").count(), 8, "{}", checked.stderr);
    });
}

#[test]
fn what_comes_by_a_second_road_is_refused_before_the_spawn() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server_with("port", Script::default(), "args = [\"--port\", \"1\"]");
        fleet.server_with("host", Script::default(), "env = { LLAMA_ARG_HOST = \"0.0.0.0\" }");
        fleet.server_with("alias", Script::default(), "args = [\"-a\", \"x,y\"]");
        let daemon = sandbox.up(&fleet).await;
        for id in ["port", "host"] {
            let (reason, detail, _) = daemon.failure(id).await;
            assert_eq!(reason, FailureReason::BadArgument);
            assert!(detail.contains(&format!("set the key `{id}` of the server")), "{detail}");
        }
        daemon.ready("alias").await;
        let argv = daemon.server("alias").await.argv.join(" ");
        assert!(argv.contains("-a x,y --model") && argv.contains("--port"), "{argv}");
    });
}

#[test]
fn a_build_whose_help_cannot_be_read_gets_what_is_written_and_no_defaults() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.binary(&mute_wrapper(sandbox, Era::B11669));
        fleet.server_with("a", Script::default(), "flags = { ctx-size = 512 }");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let server = daemon.server("a").await;
        let argv = server.argv.join(" ");
        assert!(argv.contains("--ctx-size 512") && !argv.contains("log-disable") && !argv.contains("mmap"), "{argv}");
        let warned = server.warnings.iter().find(|warned| warned.warning == Warning::BinaryUnreadable);
        assert!(warned.is_some_and(|warned| warned.detail.contains("`dialect`")), "{:?}", server.warnings);
    });
}

#[test]
fn an_option_can_be_left_to_the_build_and_paths_and_lists_are_passed_as_the_build_takes_them() {
    sandbox(async |sandbox| {
        let config = sandbox.file("options.toml");
        let text = format!(
            "[llama-server]\nbinary = {:?}\n[flags]\nctx-size = \"default\"\n\
             [[servers]]\nid = \"a\"\nmodel = \"a.gguf\"\nflags = {{ lora = [\"x.gguf\", \"/y.gguf\"] }}\n",
            sandbox.build_of(Era::B11669)
        );
        std::fs::write(&config, text).expect("the sandbox can be written");
        let argv = sandbox.run(&config, ["argv", "a", "--json"]).await.expect(0).json()["argv"].to_string();
        assert!(!argv.contains("--ctx-size"), "{argv}");
        let absolute = sandbox.file("x.gguf");
        assert!(argv.contains(&format!("\"--lora\",{absolute:?},\"--lora\",\"/y.gguf\"")), "{argv}");
    });
}

#[test]
fn a_server_that_listens_elsewhere_is_told_with_its_address() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let port = fleet.listen() + 1;
        let build = sandbox.build_of(Era::B11669);
        let wrapper = executable(
            &sandbox.file("moved/llama-server"),
            &format!("#!/bin/sh\n[ $# -gt 1 ] && set -- \"$@\" --port {port}\nexec '{}' \"$@\"\n", build.display()),
        );
        fleet.binary(&wrapper);
        fleet.section("[readiness]\ntimeout = \"2s\"");
        fleet.server_with("a", Script::default(), "restart = { policy = \"never\" }");
        let daemon = sandbox.up(&fleet).await;
        let (reason, detail, _) = daemon.failure("a").await;
        assert_eq!(reason, FailureReason::ReadyTimeout);
        assert!(detail.contains(&format!("it listens on 127.0.0.1:{port}")), "{detail}");
    });
}
