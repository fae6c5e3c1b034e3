//! Detector packs: added while the daemon runs, refused, learned, and shown on the command line.

use std::fs;
use std::path::{Path, PathBuf};

use llama_warden_events::{Event, FailureReason, FileRefusal, ReadyVia, Seq};
use llama_warden_stand_in::{Era, ReadyLine, ScheduledAction, Script, ScriptAction, ScriptPhase, Stream};
use llama_warden_tests::{Port, Sandbox, TestDaemon, TestFleet, sandbox};

/// The script of an unknown build without `/health`: only a line of its output can prove that it is ready.
fn goose_script(port: u16) -> Script {
    let landed = ScriptAction::Say { text: format!("the goose has landed on {port}"), stream: Stream::Stdout };
    Script {
        era: Era::December2023,
        silent: true,
        load_ms: 50,
        actions: vec![ScheduledAction { at: ScriptPhase::Ready, after_ms: 0, action: landed }],
        ..Script::default()
    }
}

const GOOSE: &str = r#"name = "goose"
probe = "none"
help-lists = ["--cont-batching"]
help-lacks = ["--load-mode"]

[[pattern]]
verdict = "ready"
stream = "stdout"
regex = '^the goose has landed on (?P<port>\d+)$'

[[example]]
line = "the goose has landed on 8001"
stream = "stdout"
verdict = "ready"
"#;

/// A fleet with one server, the folder of detector packs, and the executable.
fn goose_fleet(sandbox: &Sandbox) -> (TestFleet, PathBuf, PathBuf) {
    let mut fleet = sandbox.fleet();
    let packs = sandbox.file("packs");
    fleet.section(&format!(
        "[readiness]\ntimeout = \"1s\"\non-timeout = \"fail\"\ndetectors-dir = {:?}\n[restart]\npolicy = \"never\"\n[flags]\nctx-size = 512",
        packs.display().to_string()
    ));
    let binary = sandbox.build_of(Era::December2023);
    fleet.binary(&binary);
    fleet.server("goose", Script::default());
    fleet.rewrite("goose", &goose_script(fleet.port("goose")));
    (fleet, packs, binary)
}

async fn reloaded(daemon: &TestDaemon, after: Seq) -> (Seq, Vec<String>, Vec<FileRefusal>) {
    let reloaded = |event: &llama_warden_events::Envelope| matches!(event.event, Event::DetectorsReloaded { .. });
    let event = daemon.event_after(after, "packs are reloaded", reloaded).await;
    match event.event {
        Event::DetectorsReloaded { packs, refused, .. } => (event.seq, packs.into(), refused.into()),
        _ => unreachable!("the predicate takes nothing else"),
    }
}

async fn started(daemon: &TestDaemon, after: Seq) -> ReadyVia {
    daemon.command("goose", "start").await.expect(202);
    let ready = |event: &llama_warden_events::Envelope| matches!(event.event, Event::ReadyReached { .. });
    match daemon.event_after(after, "the goose is ready", ready).await.event {
        Event::ReadyReached { via, .. } => via,
        _ => unreachable!("the predicate takes nothing else"),
    }
}

fn install_pack(folder: &Path, text: &str) {
    // Written beside and renamed, as editors save files.
    fs::create_dir_all(folder).expect("the sandbox can be written");
    fs::write(folder.join(".goose.toml.new"), text).expect("the sandbox can be written");
    fs::rename(folder.join(".goose.toml.new"), folder.join("goose.toml")).expect("the sandbox can be written");
}

#[test]
fn made_up_words_are_understood_after_one_file_is_dropped_in_and_a_broken_one_disturbs_nothing() {
    sandbox(async |sandbox| {
        let (fleet, packs, _) = goose_fleet(sandbox);
        let daemon = sandbox.up(&fleet).await;
        assert_eq!(daemon.failure("goose").await.0, FailureReason::ReadyTimeout, "nobody knows its words");
        daemon.exited("goose").await;
        install_pack(&packs, GOOSE);
        let (seq, taken, refused) = reloaded(&daemon, Seq::new(0)).await;
        assert_eq!((taken, refused), (vec!["goose".to_owned()], vec![]));
        assert_eq!(started(&daemon, seq).await, ReadyVia::Stdout);
        assert_eq!(daemon.report("goose").await.detector.as_deref(), Some("goose"));

        install_pack(&packs, &GOOSE.replace("(?P<port>", "(?P<haven>"));
        let (seq, taken, refused) = reloaded(&daemon, seq).await;
        assert_eq!(taken, [""; 0]);
        assert_eq!((refused[0].line, refused[0].column), (Some(9), Some(9)), "{refused:?}");
        assert!(refused[0].message.contains("haven") && !refused[0].advice.is_empty(), "{refused:?}");
        assert!(daemon.report("goose").await.is_ready, "what runs is not disturbed");
        daemon.command("goose", "stop?wait=30s").await.expect(200);
        assert_eq!(started(&daemon, seq).await, ReadyVia::Stdout, "the old words stay in force");
    });
}

/// The arguments of `detector learn` with two starts.
fn learn(out: &Path, binary: &Path, model: &Path) -> Vec<String> {
    let path = |path: &Path| path.display().to_string();
    let words = ["detector", "learn", "--starts", "2", "--out"].map(str::to_owned).into_iter();
    words.chain([path(out), "--".to_owned(), path(binary), "--model".to_owned(), path(model)]).collect()
}

#[test]
fn a_learnt_pack_makes_the_words_the_proof() {
    sandbox(async |sandbox| {
        let (fleet, packs, binary) = goose_fleet(sandbox);
        fs::create_dir(&packs).expect("the sandbox can be written");
        let port = Port::lease();
        let model = fleet.model("goose");
        let mut script = goose_script(port.number());
        script.load_ms = 300;
        let early = ScriptAction::Say {
            text: format!("geese will be ready on {} soon", port.number()),
            stream: Stream::Stderr,
        };
        script.actions.insert(0, ScheduledAction { at: ScriptPhase::Loading, after_ms: 0, action: early });
        fleet.rewrite("goose", &script);
        let out = packs.join("learnt.toml");
        let number = port.number().to_string();
        let mut command = learn(&out, &binary, &model);
        command.extend(["--port".to_owned(), number]);
        let ran = sandbox.run(&fleet.write(), command).await.expect(0);
        let text = fs::read_to_string(&out).expect("it was written");
        assert!(
            text.contains(r"'^the goose has landed on (?P<port>\d+)$'") && text.contains("probe = \"none\""),
            "{text}"
        );
        assert!(text.contains("geese will be ready on"), "{text}\n{}", ran.stderr);

        fleet.rewrite("goose", &goose_script(fleet.port("goose")));
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("goose").await;
        let report = daemon.report("goose").await;
        assert_eq!((report.ready_via, report.detector.as_deref()), (Some(ReadyVia::Stdout), Some("learnt")));
    });
}

#[test]
fn a_build_that_cannot_be_learnt_is_an_error_and_leaves_no_file() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("mute", Script { silent: true, ready_line: ReadyLine::Never, ..Script::default() });
        fleet.server("ends", Script { actions: vec![exits()], ..Script::default() });
        let (config, binary) = (fleet.write(), sandbox.build_of(Era::B11669));
        for (id, message) in [("mute", "of 0 lines none"), ("ends", "start 1 failed")] {
            let out = sandbox.file("out.toml");
            let command = learn(&out, &binary, &fleet.model(id));
            let ran = sandbox.run(&config, command).await.expect(1);
            assert!(ran.stderr.contains(message) && ran.stderr.contains("next:"), "{}", ran.stderr);
            assert!(!out.exists(), "{id}");
        }
    });
}

fn exits() -> ScheduledAction {
    ScheduledAction { at: ScriptPhase::Loading, after_ms: 0, action: ScriptAction::Exit { code: 3, last_words: None } }
}

#[test]
fn the_command_line_says_which_pack_a_build_gets_and_what_it_makes_of_a_log() {
    sandbox(async |sandbox| {
        let (fleet, packs, _) = goose_fleet(sandbox);
        install_pack(&packs, GOOSE);
        let config = fleet.write();
        let list = sandbox.run(&config, ["detector", "list", "--json"]).await.expect(0).json();
        assert_eq!((&list[0]["name"], &list[1]["file"]), (&"goose".into(), &serde_json::Value::Null));
        let binary = sandbox.build_of(Era::B11669).display().to_string();
        let which = sandbox.run(&config, ["detector", "which", &binary, "--json"]).await.expect(0).json();
        assert_eq!((&which["build"], &which["detector"]["name"]), (&"b11669".into(), &"llama-server-b11xxx".into()));
        assert_eq!(
            (&which["dialect"]["name"], which["detector"]["because"].is_string()),
            (&"llama-server".into(), true)
        );
        let shown = sandbox.run(&config, ["detector", "show", "goose"]).await.expect(0);
        assert_eq!(shown.stdout, GOOSE);

        let log = sandbox.file("a.log");
        fs::write(&log, "hello\nthe goose has landed on 8001\nerror: invalid argument: --x\n").expect("writes");
        let test = ["detector", "test", "goose", &log.display().to_string(), "--json"].map(str::to_owned);
        let said = sandbox.run(&config, test).await.expect(0).json();
        assert_eq!((&said["ready"]["line"], &said["failure"]["reason"]), (&2.into(), &"bad-argument".into()), "{said}");
        assert_eq!((&said["verdicts"][0]["stream"], &said["examples"]["checked"]), (&"stdout".into(), &1.into()));
        let broken = sandbox.file("broken.toml");
        fs::write(&broken, GOOSE.replace("on 8001", "in 8001")).expect("writes");
        install_pack(&packs, &GOOSE.replace("on 8001", "in 8001"));
        let checked = sandbox.run(&config, ["check"]).await.expect(2);
        assert!(checked.stderr.contains("goose.toml:12:8: this example claims"), "{}", checked.stderr);
        let test = ["detector", "test", &broken.display().to_string(), &log.display().to_string()].map(str::to_owned);
        let refused = sandbox.run(&config, test).await.expect(1);
        assert!(refused.stderr.contains("broken.toml:12:8: this example claims `ready`"), "{}", refused.stderr);
    });
}
