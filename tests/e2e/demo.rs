//! The demo with a real llama-server.

use std::process::Stdio;
use std::time::Duration;

use llama_warden_tests::{
    Endpoint, ExternalProgram, Port, TestRequest, WAIT_LIMIT, daemon_program, eventually, external_program,
    processes_with, sandbox,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::fleet::complete;

#[test]
fn the_demo_runs_three_real_servers_and_leaves_nothing() {
    let Some(llama_server) = external_program(ExternalProgram::LlamaServer) else { return };
    sandbox(async |sandbox| {
        let path = sandbox.file("path");
        std::fs::create_dir(&path).unwrap();
        // A script and not a link or a copy: llama-server finds its libraries beside its executable.
        let wrapper = path.join("llama-server");
        std::fs::write(&wrapper, format!("#!/bin/sh\nexec '{}' \"$@\"\n", llama_server.display())).unwrap();
        std::fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let port = Port::lease();
        let mut demo = sandbox
            .program(daemon_program())
            .arg("demo")
            .env("PATH", format!("{}:/usr/bin:/bin", path.display()))
            .env("TMPDIR", sandbox.path())
            .env("LLAMA_WARDEN_DAEMON__LISTEN", format!("127.0.0.1:{}", port.number()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
        let first = tokio::time::timeout(WAIT_LIMIT, lines.next_line()).await.unwrap().unwrap().expect("a first line");
        assert!(first.contains(&*wrapper.to_string_lossy()), "the first line names what runs: {first}");
        let http = Endpoint::Tcp(port.number());
        eventually("three servers are ready", WAIT_LIMIT, async || http.answers("/readyz").await).await;
        let status = TestRequest::get("/api/v1/status").send(&http).await.unwrap().expect(200).json();
        let servers = status["servers"].as_array().unwrap();
        assert_eq!(servers.len(), 3);
        for server in servers {
            complete(u16::try_from(server["port"].as_u64().unwrap()).unwrap()).await;
        }
        kill(Pid::from_raw(demo.id().unwrap().try_into().unwrap()), Signal::SIGINT).unwrap();
        let status = tokio::time::timeout(WAIT_LIMIT, demo.wait()).await.expect("it ends").unwrap();
        assert_eq!(status.code(), Some(0));
        let home = sandbox.path().to_string_lossy().into_owned();
        eventually("nothing runs", Duration::from_secs(5), async || processes_with(&home).is_empty()).await;
    });
}
