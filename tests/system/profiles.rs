//! A profile switch starts and stops the difference between two profiles.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use llama_warden_events::{Event, SwitchPlan};
use llama_warden_stand_in::Script;
use llama_warden_state::PhaseName;
use llama_warden_tests::{Sandbox, TestDaemon, sandbox};

/// Starts a daemon with servers a, b, c, one that cannot start, and four profiles, of which `first` is active.
async fn start(sandbox: &Sandbox) -> TestDaemon {
    let mut fleet = sandbox.fleet();
    fleet.daemon("profile = \"first\"").section(
        "[profiles.first]\ndescription = \"by day\"\nservers = [\"a\", \"b\"]\n\
         [profiles.second]\nservers = [\"b\", \"c\"]\n\
         [profiles.changed]\nservers = [\"b\", \"c\"]\nflags = { ctx-size = 777 }\n\
         [profiles.broken]\nservers = [\"b\", \"broken\"]\n",
    );
    ["a", "b", "c"].iter().for_each(|id| {
        fleet.server(id, Script::default());
    });
    fleet.server_with("broken", Script::default(), "binary = \"/nonexistent\"\nenabled = false");
    let daemon = sandbox.up(&fleet).await;
    daemon.ready("a").await;
    daemon.ready("b").await;
    daemon
}

async fn pids(daemon: &TestDaemon) -> Vec<(String, u32)> {
    let servers = daemon.status().await.servers.into_iter();
    servers.filter_map(|server| Some((server.model_id.to_string(), server.pid?))).collect()
}

fn lists(plan: &serde_json::Value) -> [String; 4] {
    ["stop", "start", "restart", "keep"].map(|list| {
        let ids = plan[list].as_array().expect("a list").iter();
        ids.map(|id| id.as_str().expect("an id")).collect::<Vec<_>>().join(" ")
    })
}

#[test]
fn a_dry_run_shows_the_plan_and_changes_nothing() {
    sandbox(async |sandbox| {
        let daemon = start(sandbox).await;
        let before = (pids(&daemon).await, daemon.status().await.profile);
        let plan = daemon.post("/api/v1/profiles/second/activate?dry_run=1").await.expect(200).json();
        assert_eq!(lists(&plan), ["a", "c", "", "b"]);
        let shown = sandbox.run(daemon.config(), ["profile", "switch", "second", "--dry-run"]).await.expect(0).stdout;
        assert!(shown.contains("stop: a") && shown.contains("start: c") && shown.contains("keep: b"), "{shown}");
        // The dry run does not change the plan of a later reload either.
        let reload = daemon.post("/api/v1/reload?wait=50s").await.expect(200).json();
        assert_eq!(lists(&reload), ["", "", "", "a b"]);
        assert_eq!((pids(&daemon).await, daemon.status().await.profile), before);
    });
}

#[test]
fn a_switch_does_not_touch_what_both_profiles_have() {
    sandbox(async |sandbox| {
        let daemon = start(sandbox).await;
        let before = daemon.report("b").await.pid;
        daemon.get("/readyz").await.expect(200);
        let answer = daemon.post("/api/v1/profiles/second/activate?wait=50s").await.expect(200).json();
        assert_eq!((&answer["status"]["profile"], &answer["status"]["ready_servers"]), (&"second".into(), &2.into()));
        daemon.get("/readyz").await.expect(200);
        let running: Vec<_> = pids(&daemon).await.into_iter().map(|(id, _)| id).collect();
        assert_eq!((running, daemon.report("b").await.pid), (vec!["b".to_owned(), "c".to_owned()], before));
        assert!(daemon.metrics().await.contains("llama_warden_profile_active{profile=\"second\"} 1"));
        // A stop comes before a start, so that its memory is free by then.
        let events = daemon.event_stream().events();
        let seq = |id: &str, kind: &str| {
            let of = |event: &&llama_warden_events::Envelope| {
                event.server.as_ref().is_some_and(|server| server.as_str() == id) && event.event.kind() == kind
            };
            events.iter().find(of).expect("it happened").seq
        };
        assert!(seq("a", "ServerExited") < seq("c", "LaunchBegan"));
        // Servers whose flags differ between the profiles are restarted.
        let changed = daemon.post("/api/v1/profiles/changed/activate?wait=50s").await.expect(200).json();
        assert_eq!(lists(&changed), ["", "", "b c", ""]);
        assert!(daemon.server("b").await.argv.contains(&"777".to_owned()));
        assert_ne!(daemon.report("b").await.pid, before);
    });
}

#[test]
fn a_server_that_cannot_start_does_not_sink_the_switch() {
    sandbox(async |sandbox| {
        let daemon = start(sandbox).await;
        let before = daemon.report("b").await.pid;
        daemon.post("/api/v1/profiles/broken/activate?wait=50s").await.expect(200);
        let status = daemon.status().await;
        assert_eq!((status.profile.as_deref(), status.ready_servers), (Some("broken"), 1));
        let missing = daemon.get("/readyz").await.expect(503).json();
        assert_eq!(missing["servers"], serde_json::json!(["broken"]));
        assert_eq!(daemon.report("b").await.pid, before);
        let active = daemon.get("/api/v1/profiles/active").await.expect(200).json();
        assert_eq!(
            active,
            serde_json::json!({ "profile": "broken", "servers": ["b", "broken"], "missing": ["broken"] })
        );
    });
}

#[test]
fn an_unknown_profile_changes_nothing() {
    sandbox(async |sandbox| {
        let daemon = start(sandbox).await;
        let before = pids(&daemon).await;
        let answer = daemon.post("/api/v1/profiles/frist/activate").await.expect(404).json();
        assert_eq!(answer["reason"], "unknown-profile");
        let ran = sandbox.run(daemon.config(), ["profile", "switch", "frist"]).await.expect(2);
        assert!(ran.stderr.contains("frist"), "{}", ran.stderr);
        let is_plan = |event: &llama_warden_events::Envelope| matches!(event.event, Event::SwitchPlanned { .. });
        assert_eq!((pids(&daemon).await, daemon.event_stream().events().iter().any(is_plan)), (before, false));
    });
}

#[test]
fn the_command_line_lists_shows_and_switches() {
    sandbox(async |sandbox| {
        let daemon = start(sandbox).await;
        let run = async |arguments: &[&str]| sandbox.run(daemon.config(), arguments).await;
        let list = run(&["profile", "list", "--json"]).await.expect(0).json();
        let active: Vec<_> = list.as_array().unwrap().iter().filter(|profile| profile["active"] == true).collect();
        assert_eq!((list.as_array().unwrap().len(), active.len(), &active[0]["name"]), (4, 1, &"first".into()));
        let show = run(&["profile", "show", "first"]).await.expect(0).stdout;
        assert!(show.contains("by day") && show.contains("a, b") && show.contains("active"), "{show}");
        run(&["profile", "show", "nobody"]).await.expect(2);
        run(&["profile", "switch", "second", "--wait"]).await.expect(0);
        let active = run(&["profile", "active", "--json"]).await.expect(0).json();
        assert_eq!((&active["profile"], &active["missing"]), (&"second".into(), &serde_json::json!([])));
        let broken = run(&["profile", "switch", "broken", "--wait", "--json"]).await.expect(3);
        let plan: SwitchPlan = serde_json::from_value(broken.json()).unwrap();
        assert_eq!(plan.stop.iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["c"]);
        run(&["profile", "switch", "--none", "--wait"]).await.expect(0);
        assert_eq!((daemon.status().await.profile, daemon.status().await.ready_servers), (None, 3));
        run(&["profile", "switch"]).await.expect(2);
        run(&["profile", "switch", "first", "--none"]).await.expect(2);
    });
}

/// The list comes from the configuration file.
#[test]
fn profiles_are_listed_without_a_daemon() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default()).section("[profiles.p]\nservers = [\"*\"]");
        let config = fleet.write();
        let list = sandbox.run(&config, ["profile", "list", "--json"]).await.expect(0).json();
        assert_eq!(list[0]["servers"], serde_json::json!(["a"]));
        for arguments in [["profile", "active"].as_slice(), &["profile", "switch", "p"], &["reload"]] {
            sandbox.run(&config, arguments).await.expect(5);
        }
    });
}

/// Fault S9: the daemon is stopped in the middle of a switch.
#[test]
fn a_stop_amid_a_switch_launches_nothing_more() {
    sandbox(async |sandbox| {
        let daemon = start(sandbox).await;
        daemon.post("/api/v1/profiles/second/activate").await.expect(202);
        daemon.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(daemon.exit_code().await, 0);
    });
}

#[test]
fn a_stopped_server_of_the_profile_is_started_by_a_switch_to_it() {
    sandbox(async |sandbox| {
        let daemon = start(sandbox).await;
        daemon.command("a", "stop?wait=50s").await.expect(200);
        let answer = daemon.post("/api/v1/profiles/first/activate?wait=50s").await.expect(200).json();
        assert_eq!(lists(&answer), ["", "a", "", "b"]);
        assert_eq!(daemon.report("a").await.phase, PhaseName::Ready);
    });
}
