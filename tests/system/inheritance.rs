//! Environment, file descriptors, signals and arguments that a server gets from the daemon.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use std::collections::BTreeMap;

use llama_warden_stand_in::{Script, ScriptAction, ScriptPhase};
use llama_warden_tests::{DaemonOptions, action_at, sandbox};
use serde_json::Value;

/// Variables that a server must not see. Some change its behaviour; `LLAMA_SERVER_ROUTER_PORT` keeps TERM from ending it.
const POISON: [&str; 14] = [
    "LLAMA_SERVER_ROUTER_PORT",
    "LLAMA_ARG_PORT",
    "LLAMA_ARG_MODEL",
    "LLAMA_ARG_CTX_SIZE",
    "LLAMA_API_KEY",
    "HF_TOKEN",
    "AIP_MODE",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LLAMA_WARDEN_LAUNCH",
    "AWS_SECRET_ACCESS_KEY",
    "MY_SECRET",
];

fn dumps(path: &std::path::Path) -> Script {
    Script {
        actions: vec![action_at(ScriptPhase::Start, ScriptAction::Dump { path: path.to_owned() })],
        ..Script::default()
    }
}

fn read(path: &std::path::Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("the server has dumped")).expect("JSON")
}

/// Faults C42 and C46.
#[test]
fn a_server_inherits_what_is_allowed_and_nothing_else() {
    sandbox(async |sandbox| {
        let path = sandbox.file("dump.json");
        let mut fleet = sandbox.fleet();
        fleet.llama_server("env-pass = [\"MY_PASSED\", \"LLAMA_ARG_*\"]\nenv = { SET_HERE = \"1\" }");
        fleet.server_with("a", dumps(&path), "env = { SET_THERE = \"2\" }");
        let mut environment: Vec<(String, String)> = POISON.map(|name| (name.to_owned(), "poison".to_owned())).to_vec();
        for name in ["LC_ALL", "CUDA_VISIBLE_DEVICES", "HTTPS_PROXY", "no_proxy", "MY_PASSED", "XDG_CACHE_HOME"] {
            environment.push((name.to_owned(), "passed".to_owned()));
        }
        let daemon = sandbox.up_with(&fleet, &DaemonOptions { environment, ..DaemonOptions::default() }).await;
        daemon.ready("a").await;
        let dump = read(&path);
        let environment: BTreeMap<String, String> = serde_json::from_value(dump["env"].clone()).unwrap();
        let names: Vec<&str> = environment.keys().map(String::as_str).collect();
        let expected = [
            "CUDA_VISIBLE_DEVICES",
            "GGML_NO_BACKTRACE",
            "HOME",
            "HTTPS_PROXY",
            "LC_ALL",
            "LLAMA_WARDEN_LAUNCH",
            "MY_PASSED",
            "PATH",
            "SET_HERE",
            "SET_THERE",
            "XDG_CACHE_HOME",
            "no_proxy",
        ];
        assert_eq!(names, expected);
        assert!(!environment.values().any(|value| value == "poison"), "{environment:?}");
        let boot = daemon.event_stream().boot().expect("there are events");
        assert_eq!(environment["LLAMA_WARDEN_LAUNCH"], format!("{boot}/a/1"));

        let lock = daemon.state_dir().join("locks/a").display().to_string();
        let (locks, open): (Vec<_>, Vec<_>) =
            dump["fds"].as_object().unwrap().iter().partition(|(_, file)| **file == lock);
        assert_eq!(open.iter().map(|(fd, _)| fd.as_str()).collect::<Vec<_>>(), ["0", "1", "2"], "{}", dump["fds"]);
        assert_eq!(locks.len(), 1, "the instance lock: {}", dump["fds"]);
        assert_eq!(dump["fds"]["0"], "/dev/null");
        assert_eq!(dump["signals_blocked"], serde_json::json!([]));
        assert_eq!(dump["controlling_tty"], false);
        let pid = &dump["pid"];
        assert_eq!((&dump["group"], &dump["session"]), (pid, pid), "it leads a group and a session of its own");
        assert_eq!(daemon.report("a").await.pid, pid.as_u64().and_then(|pid| u32::try_from(pid).ok()));
    });
}

/// Flags are translated for each build, and the status shows the arguments that were passed.
#[test]
fn the_seed_flags_reach_each_build_in_its_own_words() {
    use llama_warden_stand_in::Era;
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section("[flags]\nctx-size = 32768\nn-gpu-layers = 99\nthreads = 8\nbatch-size = 512\nubatch-size = 256\nflash-attn = true\nmmap = false");
        let cases = [
            ("e2023", Era::December2023, ["--no-mmap", "--no-mmap"], ["--flash-attn", "--load-mode"]),
            ("e2025", Era::August2025, ["--flash-attn", "--no-mmap"], ["--load-mode", "--sse-ping-interval"]),
            ("today", Era::B11669, ["--flash-attn on", "--load-mode none"], ["--no-mmap", "--mmap"]),
        ];
        for (id, era, ..) in cases {
            let binary = format!("binary = \"{}\"", sandbox.build_of(era).display());
            fleet.server_with(id, Script { era, ..dumps(&sandbox.file(id)) }, &binary);
        }
        let daemon = sandbox.up(&fleet).await;
        for (id, _, present, absent) in cases {
            daemon.ready(id).await;
            let argv: Vec<String> = serde_json::from_value(read(&sandbox.file(id))["argv"].clone()).unwrap();
            let line = format!("{} ", argv.join(" "));
            for words in present {
                assert!(line.contains(&format!("{words} ")), "{id} is not given {words}: {line}");
            }
            for word in absent {
                assert!(!line.contains(&format!("{word} ")), "{id} is given {word}: {line}");
            }
            assert_eq!(daemon.server(id).await.argv[1..], argv[1..], "{id}: what is told is what was passed");
        }
    });
}
