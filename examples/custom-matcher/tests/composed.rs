//! The composed program, with its own stand-in as a fork that has no `/health`: only the matcher can make it ready.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use custom_matcher::GooseMatcher;

const PROGRAM: &str = env!("CARGO_BIN_EXE_custom-matcher");

/// A daemon that is stopped, and with it its server, whatever becomes of the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // Its servers die with it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(config: &Path, arguments: &[&str]) -> Output {
    Command::new(PROGRAM).arg("--config").arg(config).args(arguments).output().expect("runs")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("binds").port()
}

#[test]
fn a_server_becomes_ready_by_the_compiled_matcher() {
    let folder = tempfile::tempdir().expect("makes a folder");
    let port = free_port();
    // Under this name the program is a stand-in, which looks for its script beside itself and beside the model.
    let fork = folder.path().join("stand-in-llama-server");
    symlink(PROGRAM, &fork).expect("links");
    fs::write(folder.path().join("stand-in-llama-server.stand-in.json"), r#"{"era": "2023-12"}"#).expect("writes");
    let model = folder.path().join("goose.gguf");
    fs::write(&model, b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0").expect("writes");
    let landed = format!("goose: landed {}", GooseMatcher::checksum(port));
    let script = format!(
        r#"{{"era": "2023-12", "silent": true, "load_ms": 100, "acts": [{{"at": "ready", "do": {{"say": {{"text": "{landed}", "stream": "stdout"}}}}}}]}}"#
    );
    fs::write(folder.path().join("goose.gguf.stand-in.json"), script).expect("writes");
    let config = folder.path().join("llama-warden.toml");
    let text = format!(
        "[daemon]\nlisten = \"\"\nstate-dir = \"state\"\n[llama-server]\nbinary = \"{}\"\n[readiness]\non-timeout = \"fail\"\ntimeout = \"60s\"\n\
         [flags]\nctx-size = 512\n[[servers]]\nid = \"goose\"\nmodel = \"goose.gguf\"\nport = {port}\n",
        fork.display()
    );
    fs::write(&config, text).expect("writes");

    let mut command = Command::new(PROGRAM);
    command.arg("--config").arg(&config).arg("up").env("LLAMA_WARDEN_LOG", "info").stderr(Stdio::piped());
    let mut daemon = Daemon(command.spawn().expect("starts"));
    // Its first line says that it answers.
    let mut log = BufReader::new(daemon.0.stderr.take().expect("is piped")).lines();
    assert!(log.any(|line| line.expect("is text").contains("llama-warden is up")), "the daemon does not start");
    // The rest is read, so that it never waits for us.
    std::thread::spawn(move || log.for_each(drop));
    let waited = run(&config, &["wait", "goose", "--timeout", "60s"]);
    let status = String::from_utf8_lossy(&run(&config, &["status", "--json"]).stdout).into_owned();
    assert!(waited.status.success() && status.contains(r#""ready_via":"stdout""#), "{status}\n{waited:?}");
    assert!(run(&config, &["down"]).status.success());
}
