//! Flag dialects: added while the daemon runs, refused, and shown on the command line.

use std::fs;
use std::path::{Path, PathBuf};

use llama_warden_events::{Event, FailureReason, FileRefusal, Incarnation, Warning};
use llama_warden_stand_in::{Renames, Script};
use llama_warden_tests::{Sandbox, TestDaemon, TestFleet, sandbox};

const RENAMED: &str = r#"name = "renamed"
help-lists = ["--context-length"]
synonyms = [["ctx-size", "context-length"]]

[[option]]
name = "parallel"
rule = [{ when-lists = ["lanes"], spell = ["--lanes", "{value}"], because = "lanes since this build" }]

[[example]]
help = ["-cl, --context-length N", "--lanes N"]
flags = { ctx-size = 512, parallel = 2 }
spell = ["--context-length", "512", "--lanes", "2"]
"#;

/// A fleet whose build renames three options, and the folder of dialects.
fn renamed_fleet(sandbox: &Sandbox) -> (TestFleet, PathBuf) {
    let mut fleet = sandbox.fleet();
    let dialects = sandbox.file("dialects");
    fleet.binary(&sandbox.build("renamed", &renamed()));
    fleet.llama_server(&format!("dialects-dir = {:?}", dialects.display().to_string()));
    fleet.section("[flags]\nctx-size = 512\nparallel = 2");
    (fleet, dialects)
}

fn renamed() -> Script {
    let renames = [("--ctx-size", "--context-length"), ("--parallel", "--lanes"), ("--api-key", "--pass-phrase")];
    Script { renames: Renames::from(renames), ..Script::default() }
}

fn install_dialect(folder: &Path, text: &str) {
    // Written beside and renamed, as editors save files.
    fs::create_dir_all(folder).expect("the sandbox can be written");
    fs::write(folder.join(".new"), text).expect("the sandbox can be written");
    fs::rename(folder.join(".new"), folder.join("renamed.toml")).expect("the sandbox can be written");
}

/// Restarts the server and returns the command line of its new process.
async fn restarted(daemon: &TestDaemon) -> String {
    daemon.command("a", "restart?wait=30s").await.expect(200);
    daemon.server("a").await.argv.join(" ")
}

/// Every reload of the folder so far: the dialects that were accepted, and the files that were refused.
async fn reloads(daemon: &TestDaemon) -> Vec<(Vec<String>, Vec<FileRefusal>)> {
    let seq = daemon.status().await.seq;
    daemon.event_stream().replay(seq).await;
    let events = daemon.event_stream().events().into_iter();
    let reloads = events.filter_map(|event| match event.event {
        Event::DialectsReloaded { dialects, refused, .. } => Some((dialects.into(), refused.into())),
        _ => None,
    });
    reloads.collect()
}

#[test]
fn a_renamed_option_is_passed_after_one_file_is_dropped_in_and_a_broken_one_changes_nothing() {
    sandbox(async |sandbox| {
        let (mut fleet, dialects) = renamed_fleet(sandbox);
        fleet.server("a", renamed()).server("b", renamed());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        daemon.ready("b").await;
        let before = daemon.server("a").await;
        assert!(!before.argv.join(" ").contains("context"), "{:?}", before.argv);
        let lost: Vec<_> = before.warnings.iter().map(|warned| (warned.warning, warned.detail.as_str())).collect();
        assert_eq!(before.dialect.as_deref(), Some("llama-server"));
        assert!(
            lost.contains(&(Warning::OptionDropped, "option `ctx-size` is not passed: this build does not list it")),
            "{lost:?}"
        );

        install_dialect(&dialects, RENAMED);
        let line = restarted(&daemon).await;
        assert!(line.contains("--context-length 512") && line.contains("--lanes 2"), "{line}");
        let after = daemon.server("a").await;
        assert_eq!((after.dialect.as_deref(), after.warnings.len()), (Some("renamed"), 0));
        assert_eq!(reloads(&daemon).await, [(vec!["renamed".to_owned()], vec![])]);
        assert_eq!(daemon.report("b").await.incarnation, Incarnation::new(1), "nothing else is disturbed");

        install_dialect(&dialects, &RENAMED.replace("\"--lanes\", \"{value}\"", "\"lanes\", \"{value}\""));
        assert_eq!(restarted(&daemon).await, line, "the old file stays in force");
        restarted(&daemon).await;
        let reloads = reloads(&daemon).await;
        assert_eq!(reloads.len(), 2, "reported when it is seen, and not at every launch: {reloads:?}");
        let (taken, refused) = &reloads[1];
        assert_eq!((taken.len(), refused[0].line, refused[0].column), (0, Some(7), Some(43)), "{refused:?}");
        assert!(refused[0].message.contains("`lanes` would not read as an option"), "{refused:?}");
        assert!(refused[0].file == dialects.join("renamed.toml") && !refused[0].advice.is_empty(), "{refused:?}");
    });
}

#[test]
fn an_option_that_protects_is_never_dropped_and_stays_a_secret_under_another_name() {
    sandbox(async |sandbox| {
        let (mut fleet, dialects) = renamed_fleet(sandbox);
        fleet.server_with("a", renamed(), "flags = { api-key = \"sk-of-nobody\" }");
        install_dialect(&dialects, RENAMED);
        let daemon = sandbox.up(&fleet).await;
        let (reason, detail, _) = daemon.failure("a").await;
        assert_eq!(reason, FailureReason::BadArgument);
        assert!(detail.contains("`api-key`") && detail.contains("never dropped"), "{detail}");

        let drops = "[[option]]\nname = \"api-key\"\nrule = [{ spell = [], because = \"open\" }]\n";
        install_dialect(&dialects, &format!("{RENAMED}\n{drops}"));
        let checked = sandbox.run(&fleet.path(), ["check"]).await.expect(2);
        assert!(checked.stderr.contains("renamed.toml:16:19: `api-key` protects a server"), "{}", checked.stderr);

        install_dialect(&dialects, &RENAMED.replace("synonyms = [", "synonyms = [[\"api-key\", \"pass-phrase\"], "));
        daemon.command("a", "start?wait=30s").await.expect(200);
        let server = daemon.server("a").await;
        assert!(server.argv.join(" ").contains("--pass-phrase [redacted]"), "{:?}", server.argv);
        let events = serde_json::to_string(&daemon.event_stream().events()).expect("events are JSON");
        assert!(!events.contains("sk-of-nobody") && !daemon.log().contains("sk-of-nobody"));
    });
}

#[test]
fn the_command_line_says_which_dialect_a_build_gets_and_which_rule_it_is() {
    sandbox(async |sandbox| {
        let (mut fleet, dialects) = renamed_fleet(sandbox);
        fleet.server("a", renamed());
        let config = fleet.write();
        install_dialect(&dialects, RENAMED);
        let file = dialects.join("renamed.toml").display().to_string();
        sandbox.run(&config, ["check"]).await.expect(0);
        let list = sandbox.run(&config, ["dialect", "list", "--json"]).await.expect(0).json();
        assert_eq!((&list[0]["name"], &list[0]["file"]), (&"renamed".into(), &file.as_str().into()));
        assert_eq!((&list[1]["name"], &list[1]["file"]), (&"llama-server".into(), &serde_json::Value::Null));
        let shown = sandbox.run(&config, ["dialect", "show", "renamed"]).await.expect(0);
        assert_eq!(shown.stdout, RENAMED);

        let binary = sandbox.file("renamed/llama-server").display().to_string();
        let which = sandbox.run(&config, ["detector", "which", &binary, "--json"]).await.expect(0).json();
        let dialect = &which["dialect"];
        assert_eq!((&dialect["name"], &dialect["file"]), (&"renamed".into(), &file.as_str().into()));
        assert_eq!(dialect["because"], "its help lists --context-length");
        assert_eq!(which["detector"]["name"], "llama-server-b11xxx");
        let argv = sandbox.run(&config, ["argv", "a"]).await.expect(0).stdout;
        for line in [
            format!("by the dialect renamed ({file}: its help lists --context-length):"),
            format!("  ctx-size -> --context-length 512: this build calls it context-length [renamed, {file}]"),
            format!("  parallel -> --lanes 2: lanes since this build [renamed, {file}]"),
            "  mmap -> --load-mode none: load-mode replaced no-mmap [llama-server, built in]".to_owned(),
        ] {
            assert!(argv.contains(&line), "{argv}\nwithout {line}");
        }

        let new = sandbox.file("new.toml");
        fs::write(&new, RENAMED).expect("the sandbox can be written");
        let check = ["dialect", "check", &new.display().to_string()].map(str::to_owned);
        let valid = sandbox.run(&config, check.clone()).await.expect(0).stdout;
        assert_eq!(valid, "renamed: valid, for +context-length; 1 rules, and 1 examples hold\n");
        fs::write(&new, RENAMED.replace("\"512\"", "\"513\"")).expect("the sandbox can be written");
        let refused = sandbox.run(&config, check).await.expect(1).stderr;
        assert!(refused.contains("new.toml:12:9: this example claims") && refused.contains("next:"), "{refused}");
    });
}

#[test]
fn a_daemon_does_not_start_with_a_broken_dialect() {
    sandbox(async |sandbox| {
        let (mut fleet, dialects) = renamed_fleet(sandbox);
        fleet.server("a", renamed());
        install_dialect(&dialects, "name = \"renamed\"\nsynonym = []\n");
        let ran = sandbox.run(&fleet.write(), ["up"]).await.expect(2);
        assert!(ran.stderr.contains("renamed.toml:2:1: unknown field `synonym`"), "{}", ran.stderr);
        assert!(ran.stderr.contains("take it out of llama-server.dialects-dir"), "{}", ran.stderr);
    });
}
