//! Real servers whose daemon is killed or replaced.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use std::path::Path;
use std::time::Duration;

use http_body_util::BodyExt;
use llama_warden_events::ReadyVia;
use llama_warden_tests::{
    DaemonOptions, Endpoint, ExternalProgram, Sandbox, TestDaemon, TestFleet, TestRequest, WAIT_LIMIT, eventually,
    executable, external_program, is_root, measured, processes_with, sandbox,
};
use llama_warden_tiny_gguf::TinyModel;
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::fleet::{SMALL, THREE, add, real_fleet};

/// Tokens of a stream: it takes longer than the death of a daemon and the start of the next one.
const TOKENS: u64 = 4000;

fn wrapped(sandbox: &Sandbox, name: &str, line: &str) -> String {
    let program = executable(&sandbox.file(&format!("{name}/llama-server")), &format!("#!/bin/sh\n{line}\n"));
    format!("binary = {program:?}")
}

async fn killed(daemon: &TestDaemon) -> Instant {
    daemon.signal(Signal::SIGKILL);
    let killed = Instant::now();
    assert_eq!(daemon.exit_code().await, 128 + 9);
    killed
}

/// Faults S1 and S24.
#[test]
fn no_real_server_outlives_a_killed_daemon_plain_or_behind_a_wrapper_or_as_another_user() {
    let Some(llama_server) = external_program(ExternalProgram::LlamaServer) else { return };
    sandbox(async |sandbox| {
        let mut fleet = real_fleet(sandbox, &llama_server);
        fleet.section(SMALL);
        let program = llama_server.display();
        add(&mut fleet, "plain", "");
        add(&mut fleet, "wrapped", &wrapped(sandbox, "sh", &format!("{program} \"$@\"\nexit $?")));
        let mut ids = vec!["plain", "wrapped"];
        if is_root() {
            let user = "setpriv --reuid=65534 --inh-caps=+dac_override --ambient-caps=+dac_override --";
            add(&mut fleet, "user", &wrapped(sandbox, "user", &format!("{user} {program} \"$@\"\nexit $?")));
            ids.push("user");
        }
        let daemon = sandbox.up(&fleet).await;
        for id in ids {
            daemon.ready(id).await;
        }
        let killed = killed(&daemon).await;
        let home = sandbox.path().to_string_lossy().into_owned();
        eventually("none is left", Duration::from_secs(5), async || processes_with(&home).is_empty()).await;
        measured("S1", "real servers, plain, wrapped and of another user, gone after", killed.elapsed());
    });
}

/// Three servers that stream for a while.
fn streaming_fleet(sandbox: &Sandbox, llama_server: &Path, policy: &str) -> TestFleet {
    let mut fleet = real_fleet(sandbox, llama_server);
    fleet.section("[flags]\nctx-size = 8192\nthreads = 1\nparallel = 1").daemon(policy);
    for id in THREE {
        let model = fleet.model(id);
        TinyModel::new(id).context_length(8192).write(&model).expect("the sandbox can be written");
        fleet.server_of(id, &model, "");
    }
    fleet
}

/// A completion that was opened before a daemon went, and is read by a task.
struct Stream(JoinHandle<String>);

impl Stream {
    /// Opens a completion, and waits for its first tokens.
    async fn open(port: u16) -> Self {
        let mut body = completion("true").open(&Endpoint::Tcp(port)).await.expect("it answers").into_body();
        let mut text = Vec::new();
        while text.len() < 2000 {
            let frame = timeout(WAIT_LIMIT, body.frame()).await.expect("tokens come").expect("more").expect("no error");
            text.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
        }
        Self(tokio::spawn(async move {
            while let Some(frame) = body.frame().await {
                let frame = frame.expect("the stream does not break");
                text.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
            }
            String::from_utf8(text).expect("the stream is text")
        }))
    }

    fn runs(&self) -> bool {
        !self.0.is_finished()
    }

    /// Reads to the end, and returns the text of all tokens.
    async fn content(self) -> String {
        let text = timeout(WAIT_LIMIT, self.0).await.expect("it ends").expect("it did not break");
        let events = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let events: Vec<Value> = events.map(|event| serde_json::from_str(event).expect("JSON")).collect();
        let last = events.last().expect("there are some");
        assert_eq!((&last["stop"], &last["tokens_predicted"]), (&Value::from(true), &Value::from(TOKENS)), "{last}");
        events.iter().filter_map(|event| event["content"].as_str()).collect()
    }
}

/// A request for the same text each time.
fn completion(stream: &str) -> TestRequest {
    let body = format!(
        r#"{{"prompt": "once", "n_predict": {TOKENS}, "stream": {stream}, "ignore_eos": true, "temperature": 0, "cache_prompt": false}}"#
    );
    TestRequest::post("/completion").header("content-type", "application/json").body(body)
}

/// Runs `replace` while three servers stream, and checks that none of them notices.
fn nobody_notices(policy: &str, replace: impl AsyncFn(&Sandbox, &TestFleet, &TestDaemon) -> TestDaemon) {
    let Some(llama_server) = external_program(ExternalProgram::LlamaServer) else { return };
    sandbox(async |sandbox| {
        let fleet = streaming_fleet(sandbox, &llama_server, policy);
        let first = sandbox.up(&fleet).await;
        let mut before = Vec::new();
        for id in THREE {
            first.ready(id).await;
            before.push((id, first.report(id).await.pid));
        }
        let mut streams = Vec::new();
        for id in THREE {
            streams.push(Stream::open(fleet.port(id)).await);
        }
        assert!(streams.iter().all(Stream::runs), "they stream when the daemon goes");
        let next = replace(sandbox, &fleet, &first).await;
        for (id, pid) in before {
            next.ready(id).await;
            let report = next.report(id).await;
            assert_eq!((report.pid, report.ready_via), (pid, Some(ReadyVia::Adopted)), "{id}");
        }
        for (id, stream) in THREE.into_iter().zip(streams) {
            let content = stream.content().await;
            let whole = completion("false").send(&Endpoint::Tcp(fleet.port(id))).await.expect("it answers").expect(200);
            assert!(whole.json()["content"] == content.as_str(), "{id}: no byte is lost");
        }
    });
}

/// Fault S2.
#[test]
fn three_streams_outlive_a_killed_daemon_under_adopt() {
    nobody_notices("on-daemon-death = \"adopt\"", async |sandbox, fleet, first| {
        killed(first).await;
        sandbox.up(fleet).await
    });
}

#[test]
fn a_take_over_amid_three_streams_loses_nothing() {
    nobody_notices("", async |sandbox, fleet, first| {
        let options = DaemonOptions { arguments: vec!["--take-over".to_owned()], ..DaemonOptions::default() };
        let next = sandbox.launch(fleet, &options);
        assert_eq!(first.exit_code().await, 0, "{}", first.log());
        next.answering().await;
        next
    });
}
