//! `doctor`: each fault of a set-up is made, and found.

use std::fs::{self, File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use llama_warden_stand_in::Script;
use llama_warden_tests::{ProgramRun, Sandbox, TestFleet, daemon_program, executable, is_root, sandbox};
use serde_json::Value;

/// The findings of a run that ends with `code`.
async fn findings(ran: ProgramRun, code: i32) -> Vec<Value> {
    let report = ran.expect(code).json();
    let findings = report["findings"].as_array().expect("findings").clone();
    let faults = findings.iter().filter(|finding| finding["gravity"] == "fault").count();
    assert_eq!(report["faults"], faults);
    findings
}

/// Expects one finding in `area` with `gravity` that has all `words`, and something to do about it.
async fn expect(sandbox: &Sandbox, fleet: &TestFleet, (gravity, area): (&str, &str), words: &[&str]) {
    let code = i32::from(gravity == "fault");
    let findings = findings(sandbox.run(&fleet.write(), ["doctor", "--json"]).await, code).await;
    expect_in(&findings, (gravity, area), words);
}

fn expect_in(findings: &[Value], (gravity, area): (&str, &str), words: &[&str]) {
    let of_area = |finding: &&Value| finding["area"] == area && finding["gravity"] == gravity;
    let has_words = |finding: &&Value| {
        let message = finding["message"].as_str().unwrap_or_default();
        words.iter().all(|word| message.contains(word))
    };
    let found = findings.iter().filter(of_area).filter(has_words).collect::<Vec<_>>();
    assert!(found.len() == 1 && found[0]["next_step"].is_string(), "{gravity} {area} {words:?}: {findings:#?}");
}

fn fleet(sandbox: &Sandbox) -> TestFleet {
    let mut fleet = sandbox.fleet();
    fleet.server("a", Script::default());
    fleet
}

#[test]
fn a_set_up_without_faults_has_none_and_a_running_daemon_is_no_fault() {
    sandbox(async |sandbox| {
        let fleet = fleet(sandbox);
        let before = sandbox.run(&fleet.write(), ["doctor"]).await.expect(0);
        assert!(before.stdout.contains("none runs") && !before.stdout.contains("fault "), "{}", before.stdout);
        assert!(!fleet.state_dir().exists(), "it changes nothing");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let ran = sandbox.run(&fleet.path(), ["doctor"]).await.expect(0);
        assert!(ran.stdout.contains("it answers; 1 of 1 servers run, 1 ready"), "{}", ran.stdout);
    });
}

#[test]
fn faults_of_the_configuration_are_found() {
    sandbox(async |sandbox| {
        let mut command = sandbox.program(daemon_program());
        command.args(["doctor", "--json"]);
        let none = findings(ProgramRun::to_end(command).await, 1).await;
        expect_in(&none, ("fault", "configuration"), &["there is none"]);
        let mut wrong = fleet(sandbox);
        expect(
            sandbox,
            wrong.section("[stop]\ngrase = \"1s\""),
            ("fault", "configuration"),
            &["grase", "warden.toml:"],
        )
        .await;
        let mut open = fleet(sandbox);
        fs::write(sandbox.file("token"), "0123456789abcdef").unwrap();
        fs::set_permissions(sandbox.file("token"), Permissions::from_mode(0o644)).unwrap();
        expect(sandbox, open.daemon("token-file = \"token\""), ("warning", "configuration"), &["token"]).await;
    });
}

#[test]
fn faults_of_executables_and_of_their_options_are_found() {
    sandbox(async |sandbox| {
        let mut absent = fleet(sandbox);
        expect(sandbox, absent.binary(Path::new("no-such-llama-server")), ("fault", "executable"), &["no-such"]).await;
        let file = sandbox.file("plain");
        fs::write(&file, "text").unwrap();
        let mut plain = fleet(sandbox);
        expect(sandbox, plain.binary(&file), ("fault", "executable"), &["not executable"]).await;
        let text = "#!/bin/sh\necho 'error while loading shared libraries: libllama.so: cannot open' >&2\nexit 127\n";
        let broken = executable(&sandbox.file("broken"), text);
        let mut library = fleet(sandbox);
        expect(sandbox, library.binary(&broken), ("fault", "executable"), &["libllama.so"]).await;
        let mut option = sandbox.fleet();
        option.server_with("a", Script::default(), "flags = { no-such-option = 1 }");
        expect(sandbox, &option, ("fault", "options"), &["no-such-option"]).await;
    });
}

#[test]
fn faults_of_models_and_of_memory_are_found() {
    sandbox(async |sandbox| {
        let mut missing = sandbox.fleet();
        missing.server_of("a", &sandbox.file("none.gguf"), "");
        expect(sandbox, &missing, ("fault", "models"), &["none.gguf", "does not exist"]).await;
        let text = sandbox.file("text.gguf");
        fs::write(&text, "this is a page of a site, and no model").unwrap();
        let mut wrong = sandbox.fleet();
        wrong.server_of("a", &text, "");
        expect(sandbox, &wrong, ("fault", "models"), &["text.gguf", "GGUF"]).await;
        let mut large = sandbox.fleet();
        large.server_with("a", Script::default(), "flags = { ctx-size = 2000000000 }");
        expect(sandbox, &large, ("warning", "memory"), &["`a`"]).await;
    });
}

#[test]
fn ports_of_others_and_ports_for_clients_are_found() {
    sandbox(async |sandbox| {
        let own = format!("process {}", std::process::id());
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let mut server = sandbox.fleet();
        server.server_with("a", Script::default(), &format!("port = {port}"));
        expect(sandbox, &server, ("fault", "ports"), &["`a`", &own]).await;
        let mut api = fleet(sandbox);
        expect(sandbox, api.daemon(&format!("listen = \"127.0.0.1:{port}\"")), ("fault", "ports"), &["daemon", &own])
            .await;
        let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let last: u16 = range.split_ascii_whitespace().next_back().unwrap().parse().unwrap();
        let free = (last - 999..=last).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap();
        let mut client = sandbox.fleet();
        client.server_with("a", Script::default(), &format!("port = {free}"));
        expect(sandbox, &client, ("warning", "ports"), &["connections", "`a`"]).await;
    });
}

#[test]
fn faults_of_the_state_directory_are_found() {
    sandbox(async |sandbox| {
        let fleet = fleet(sandbox);
        fs::create_dir(fleet.state_dir()).unwrap();
        fs::set_permissions(fleet.state_dir(), Permissions::from_mode(0o777)).unwrap();
        expect(sandbox, &fleet, ("fault", "state-directory"), &["other users can write it"]).await;
        fs::set_permissions(fleet.state_dir(), Permissions::from_mode(0o700)).unwrap();
        let lock = File::create(fleet.state_dir().join("daemon.lock")).unwrap();
        for kept in ["ports.json", "down.json", "failures.json", "totals.json"] {
            let path = fleet.state_dir().join(kept);
            fs::write(&path, "{").unwrap();
            expect(sandbox, &fleet, ("warning", "state-directory"), &[kept, "cannot be read"]).await;
            fs::remove_file(&path).unwrap();
        }
        lock.lock().unwrap();
        fs::write(fleet.state_dir().join("daemon.lock"), std::process::id().to_string()).unwrap();
        let holder = format!("process {}", std::process::id());
        expect(sandbox, &fleet, ("fault", "state-directory"), &["is held by", &holder]).await;
        let mut long = self::fleet(sandbox);
        let path = sandbox.file(&"x".repeat(100));
        expect(sandbox, long.daemon(&format!("state-dir = {path:?}")), ("fault", "daemon"), &["107"]).await;
    });
}

#[test]
fn limits_and_variables_are_found() {
    sandbox(async |sandbox| {
        let mut locking = sandbox.fleet();
        locking.server_with("a", Script::default(), "flags = { mlock = true }");
        let config = locking.write();
        let program = daemon_program();
        let limited = "ulimit -n 60; ulimit -l 0; exec \"$@\"";
        // Without the capability the limit of locked memory counts.
        let mut command = sandbox.program("setpriv");
        command.args(["--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock", "sh", "-c", limited, "sh"]);
        command.arg(&program).arg("--config").arg(&config).args(["doctor", "--json"]);
        command.env("LLAMA_ARG_THREADS", "1").env("CUDA_VISIBLE_DEVICES", "");
        let findings = findings(ProgramRun::to_end(command).await, 1).await;
        expect_in(&findings, ("fault", "limits"), &["60 open files"]);
        expect_in(&findings, ("warning", "limits"), &["locks its model"]);
        expect_in(&findings, ("warning", "environment"), &["LLAMA_ARG_THREADS"]);
        expect_in(&findings, ("warning", "environment"), &["CUDA_VISIBLE_DEVICES"]);
    });
}

/// Run as another user on a `/dev` of its own, which only root may change.
#[test]
fn gpus_that_are_missing_or_that_the_user_may_not_open_are_found() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server_with("a", Script::default(), "flags = { n-gpu-layers = 99 }");
        let config = fleet.write();
        if !is_root() {
            return;
        }
        fs::set_permissions(sandbox.path(), Permissions::from_mode(0o755)).unwrap();
        let devices = "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3";
        let run = async |prepare: &str, user: &str| {
            let script = format!("{devices} && {prepare} && exec setpriv {user} \"$@\"");
            let mut command = sandbox.program("unshare");
            command.args(["--mount", "sh", "-c", &script, "sh"]).arg(daemon_program());
            ProgramRun::to_end({
                command.arg("--config").arg(&config).args(["doctor", "--json"]);
                command
            })
            .await
        };
        let findings = findings(run("true", "--no-new-privs").await, 0).await;
        expect_in(&findings, ("warning", "gpu"), &["`a`", "no GPU is seen"]);
        let closed = "touch /dev/kfd && chmod 600 /dev/kfd";
        let ran = run(closed, "--reuid=65534 --regid=65534 --clear-groups").await;
        expect_in(&self::findings(ran, 1).await, ("fault", "gpu"), &["/dev/kfd"]);
    });
}
