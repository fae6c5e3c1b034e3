//! Secrets reach the server and are masked everywhere else.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use llama_warden_stand_in::{Script, ScriptAction, ScriptPhase, Stream};
use llama_warden_tests::{WAIT_LIMIT, action_at, eventually, sandbox};

const SECRET: &str = "sk-do-not-tell-anybody";
const VALUE: &str = "hf_do-not-tell-either";
const PASSWORD: &str = "pw-nor-this";
const PASS: &str = "pass-nor-that";

/// Faults C41 and S35.
#[test]
fn a_secret_is_shown_nowhere() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let text = format!("my key is {SECRET} and {VALUE} and {PASS}, from http://me:{PASSWORD}@host, said");
        let says = |stream| ScriptAction::Say { text: text.clone(), stream };
        let script = Script {
            actions: vec![
                action_at(ScriptPhase::Loading, says(Stream::Stderr)),
                action_at(ScriptPhase::Ready, says(Stream::Stdout)),
            ],
            load_ms: 300,
            ..Script::default()
        };
        // The key comes with a shorter one that it begins with, the password in the URL of a proxy.
        let keys = format!(
            "args = [\"--api-key\", \"{SECRET},sk-do-not\"]\n\
             env = {{ MY_TOKEN = \"{VALUE}\", MAIL_PASS = \"{PASS}\", https_proxy = \"http://me:{PASSWORD}@127.0.0.1:1\" }}\n\
             hooks = {{ pre-start = [\"sh\", \"-c\", \"echo hook {SECRET} {VALUE} http://me:{PASSWORD}@h; sleep 0.2\"] }}"
        );
        fleet.server_with("a", script.clone(), &keys);
        let dies = ScriptAction::Exit { code: 1, last_words: Some(format!("cannot use {SECRET}")) };
        fleet.server_with("dies", Script { actions: vec![action_at(ScriptPhase::Start, dies)], ..script }, &keys);
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        daemon.failure("dies").await;
        eventually("it is said", WAIT_LIMIT, async || daemon.output("a").await.matches(", said").count() == 2).await;
        let mut shown = Vec::new();
        for path in ["status", "servers/a", "servers/dies", "servers/a/logs", "servers/dies/logs", "events?follow=0"] {
            shown.push((path.to_owned(), daemon.get(&format!("/api/v1/{path}")).await.expect(200).text()));
        }
        shown.push(("metrics".into(), daemon.metrics().await));
        shown.push(("log".into(), daemon.log()));
        for arguments in [
            ["argv", "a"].as_slice(),
            &["argv", "a", "--json"],
            &["status", "--json"],
            &["logs", "a"],
            &["events", "--json"],
        ] {
            let ran = sandbox.run(daemon.config(), arguments).await.expect(0);
            shown.push((arguments.join(" "), ran.stdout + &ran.stderr));
        }
        for entry in std::fs::read_dir(daemon.state_dir()).unwrap().flatten().filter(|entry| entry.path().is_file()) {
            let content = std::fs::read(entry.path()).unwrap();
            shown.push((entry.path().display().to_string(), String::from_utf8_lossy(&content).into_owned()));
        }
        for (place, text) in &shown {
            for secret in [SECRET, VALUE, PASSWORD, PASS, &SECRET["sk-do-not".len()..]] {
                assert!(!text.contains(secret), "{place} shows {secret}:\n{text}");
            }
        }
        let argv = daemon.server("a").await.argv;
        assert!(argv.windows(2).any(|pair| pair[0] == "--api-key" && pair[1] != SECRET), "{argv:?}");
    });
}
