//! Text of clients in the log of a server: names in a request, a prompt that is printed, output of the model.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use std::collections::BTreeSet;

use llama_warden_events::FailureReason;
use llama_warden_stand_in::{Script, ScriptAction, ScriptPhase, Stream};
use llama_warden_state::PhaseName;
use llama_warden_tests::{WAIT_LIMIT, action_at, after_ready, eventually, sandbox};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What a client gets into the log, as lines of their own: a line feed in a path or a grammar, raw output of a model.
fn spoofed(port: u16) -> Vec<String> {
    let lines = [
        "0.00.022.002 I srv  llama_server: listening on http://127.0.0.1:{port}",
        "main: server is listening on http://127.0.0.1:{port} - starting the main loop",
        "slot launch_slot_: id  0 | task 99999 | processing task",
        "prompt eval time =       1.00 ms / 99999999 tokens (    0.00 ms per token, 99999999.00 tokens per second)",
        "llama_warden_server_ready{server=\"spoofed\"} 1",
        "loading model tensors 99 %",
        "couldn't bind HTTP server socket, hostname: 127.0.0.1, port: {port}",
        "CUDA error: out of memory",
        "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 9000.00 MiB on device 0: cudaMalloc failed: out of memory",
        "llama_model_load: error loading model: tensor 'x' data is not within the file bounds",
        "error: unknown argument: --spoofed",
        "Illegal instruction (core dumped)",
    ];
    lines.map(|line| line.replace("{port}", &port.to_string())).to_vec()
}

/// The names and labels of every series.
fn series(metrics: &str) -> BTreeSet<String> {
    let lines = metrics.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.rsplit_once(' ').map(|(series, _)| series.to_owned())).collect()
}

/// Fault C55: the process is then ended from outside, and none of the lines is taken for the reason.
#[test]
fn what_a_client_gets_into_the_log_of_a_ready_server_changes_nothing() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let lines = spoofed(fleet.port("a"));
        let says = |line: &String| ScriptAction::Say { text: line.clone(), stream: Stream::Stderr };
        let mut actions: Vec<_> = lines.iter().map(|line| action_at(ScriptPhase::Ready, says(line))).collect();
        actions[0] = after_ready(says(&lines[0]));
        actions.push(action_at(ScriptPhase::Ready, says(&"that was all".to_owned())));
        fleet.rewrite("a", &Script { actions: actions.clone(), ..Script::default() });
        let die = ScriptAction::Die { signal: "SIGABRT".to_owned(), core: false, last_words: None };
        let mut dying = actions;
        dying.push(action_at(ScriptPhase::Ready, die));
        fleet.server("aborts", Script { actions: dying, ..Script::default() });
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        // A server that became ready has more series.
        daemon.ready("aborts").await;
        // What happens to the other one is counted in series of its own.
        daemon.failure("aborts").await;
        let before = series(&daemon.metrics().await);
        let pid = daemon.report("a").await.pid.expect("it runs");
        eventually("all is said", WAIT_LIMIT, async || daemon.output("a").await.contains("that was all")).await;
        let report = daemon.report("a").await;
        assert_eq!(
            (report.pid, report.phase, report.is_ready, report.restarts),
            (Some(pid), PhaseName::Ready, true, 0)
        );
        for (kind, count) in [("ReadyReached", 1), ("ServerFailed", 0), ("ServerWarned", 0), ("ReadyLost", 0)] {
            assert_eq!(daemon.count("a", kind).await, count, "{kind}");
        }
        let after = series(&daemon.metrics().await);
        let added: Vec<_> = after.difference(&before).collect();
        assert!(added.is_empty(), "{added:?}");
        kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
        let (reason, detail, _) = daemon.failure("a").await;
        assert_eq!((reason, &*detail), (FailureReason::Crashed, "another process ended it with signal KILL"));
        let (reason, detail, _) = daemon.failure("aborts").await;
        assert_eq!(reason, FailureReason::Crashed, "{detail}");
    });
}

/// Fault C55: the same lines while a server loads, which then loads well.
#[test]
fn lines_that_look_like_a_failure_end_no_load() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let says = |text: String| action_at(ScriptPhase::Loading, ScriptAction::Say { text, stream: Stream::Stderr });
        let actions = spoofed(fleet.port("a")).into_iter().map(says).collect();
        fleet.rewrite("a", &Script { load_ms: 1500, actions, ..Script::default() });
        let daemon = sandbox.up(&fleet).await;
        let ready = daemon.ready("a").await;
        let spawned = daemon.event("it is spawned", |event| event.event.kind() == "ServerSpawned").await;
        // It answers 503 until the load is over, whatever its lines say.
        assert!(ready.elapsed.since(spawned.elapsed).as_millis() >= 1400, "{ready:?}");
        assert_eq!(daemon.count("a", "ServerFailed").await, 0);
        assert_eq!(daemon.report("a").await.restarts, 0);
    });
}
