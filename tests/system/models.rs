//! Models that are discovered in folders become servers.

use std::path::{Path, PathBuf};

use llama_warden_events::Event;
use llama_warden_stand_in::Script;
use llama_warden_tests::{DaemonOptions, Sandbox, TestDaemon, TestFleet, executable, sandbox, stand_in_program};
use llama_warden_tiny_gguf::{Damage, TinyModel};
use nix::sys::signal::Signal;

/// Above the ports that tests lease, below the kernel's range for outgoing connections.
const FIRST_PORT: [u16; 5] = [32_050, 32_250, 32_450, 32_650, 32_550];

/// A folder with eight valid models and two corrupt ones.
fn folder_of_ten(sandbox: &Sandbox) -> PathBuf {
    let folder = sandbox.file("found");
    std::fs::create_dir(&folder).expect("the sandbox can be written");
    for seed in 0..8 {
        write_model(&folder, &format!("Model-{seed}-1B"));
    }
    for (name, damage) in [("Cut-1B", Damage::HeaderCut), ("Alien-1B", Damage::WrongMagic)] {
        let path = folder.join(format!("{name}.gguf"));
        TinyModel::new(name).write_damaged(&path, damage).expect("the sandbox can be written");
    }
    folder
}

fn write_model(folder: &Path, name: &str) {
    TinyModel::new(name).write(&folder.join(format!("{name}.gguf"))).expect("the sandbox can be written");
}

/// A fleet without configured servers.
fn empty_fleet(sandbox: &Sandbox, first_port: u16) -> TestFleet {
    let mut fleet = sandbox.fleet();
    fleet.llama_server(&format!("first-port = {first_port}"));
    fleet
}

fn with_models(folder: &Path) -> DaemonOptions {
    let arguments = vec!["--models".to_owned(), folder.to_string_lossy().into_owned()];
    DaemonOptions { arguments, ..DaemonOptions::default() }
}

async fn ports(daemon: &TestDaemon) -> Vec<(String, u16)> {
    let servers = daemon.status().await.servers.into_iter();
    servers.map(|server| (server.model_id.to_string(), server.port.expect("it has one"))).collect()
}

#[test]
fn a_folder_is_enough_and_corrupt_files_are_named_with_reasons() {
    sandbox(async |sandbox| {
        let folder = folder_of_ten(sandbox);
        let fleet = empty_fleet(sandbox, FIRST_PORT[0]);
        let daemon = sandbox.up_with(&fleet, &with_models(&folder)).await;
        for seed in 0..8 {
            daemon.ready(&format!("model_{seed}_1b_f32")).await;
        }
        let status = daemon.status().await;
        assert_eq!((status.total_servers, status.ready_servers), (8, 8));
        let report = daemon.report("model_3_1b_f32").await;
        assert_eq!((report.tier.as_deref(), report.display_name.as_str()), (Some("F32"), "Model-3-1B (F32)"));
        let models = daemon.get("/api/v1/models").await.expect(200).json();
        assert_eq!(models["models"].as_array().map(Vec::len), Some(8));
        assert_eq!(models["models"][3]["server"], "model_3_1b_f32");
        let problems: Vec<_> =
            models["problems"].as_array().unwrap().iter().map(|problem| problem["reason"].as_str().unwrap()).collect();
        assert_eq!(problems, ["not-gguf", "truncated"]);
        let log = daemon.log();
        assert!(log.contains("Cut-1B.gguf") && log.contains("Alien-1B.gguf"), "{log}");

        // A reload starts the server of a new model, and stops that of a removed one.
        let before = ports(&daemon).await;
        write_model(&folder, "Added-1B");
        std::fs::remove_file(folder.join("Model-0-1B.gguf")).unwrap();
        let answer = daemon.post("/api/v1/reload?wait=50s").await.expect(200).json();
        assert_eq!(
            (&answer["start"], &answer["stop"]),
            (&serde_json::json!(["added_1b_f32"]), &serde_json::json!(["model_0_1b_f32"]))
        );
        assert_eq!(answer["keep"].as_array().map(Vec::len), Some(7));
        let after = ports(&daemon).await;
        assert_eq!(after[1..], before[1..], "ports stay");
        assert!(!before.iter().any(|(_, port)| *port == after[0].1), "the port of a model that went is kept for it");

        // The next daemon assigns the same ports.
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.exit_code().await, 0);
        let daemon = sandbox.up_with(&fleet, &with_models(&folder)).await;
        assert_eq!(ports(&daemon).await, after);
    });
}

/// Fault S34.
#[test]
fn a_model_that_moves_away_and_back_starts_at_once_and_its_namesake_is_left_alone() {
    sandbox(async |sandbox| {
        let folder = sandbox.file("found");
        for name in ["a", "b"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
            write_model(&folder.join(name), "Same-1B");
        }
        let fleet = empty_fleet(sandbox, FIRST_PORT[4]);
        let daemon = sandbox.up_with(&fleet, &with_models(&folder)).await;
        let (kept, moved) = ("same_1b_f32_a", "same_1b_f32_b");
        daemon.ready(kept).await;
        daemon.ready(moved).await;
        let before = (ports(&daemon).await, daemon.report(kept).await.pid);
        let (here, away) = (folder.join("b/Same-1B.gguf"), sandbox.file("away.gguf"));
        for launch in 2..=3 {
            std::fs::rename(&here, &away).unwrap();
            let gone = daemon.post("/api/v1/reload?wait=50s").await.expect(200).json();
            assert_eq!((&gone["stop"], &gone["keep"]), (&serde_json::json!([moved]), &serde_json::json!([kept])));
            std::fs::rename(&away, &here).unwrap();
            daemon.post("/api/v1/reload?wait=50s").await.expect(200);
            let back = daemon.report(moved).await;
            assert_eq!((back.is_ready, back.incarnation.get()), (true, launch));
        }
        assert_eq!((ports(&daemon).await, daemon.report(kept).await.pid), before);
        let failed = |event: &llama_warden_events::Envelope| matches!(event.event, Event::ServerFailed { .. });
        assert!(!daemon.event_stream().events().iter().any(failed));
    });
}

#[test]
fn models_of_the_configuration_are_there_to_be_started() {
    sandbox(async |sandbox| {
        let folder = sandbox.file("found");
        std::fs::create_dir(&folder).unwrap();
        ["Small-1B", "Large-7B"].iter().for_each(|name| write_model(&folder, name));
        let mut fleet = empty_fleet(sandbox, FIRST_PORT[1]);
        fleet.section(&format!("[models]\ndirs = [{:?}]", folder.to_string_lossy()));
        fleet.section("[profiles.all]\nservers = [{ tier = \"F*\" }]\n[profiles.one]\nservers = [\"large*\"]");
        fleet.server("mine", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("mine").await;
        daemon.get("/readyz").await.expect(200);
        let status = daemon.status().await;
        assert_eq!((status.total_servers, status.running_servers), (3, 1));
        daemon.command("small_1b_f32", "start?wait=50s").await.expect(200);
        daemon.post("/api/v1/profiles/one/activate?wait=50s").await.expect(200);
        let running = daemon.status().await.servers.into_iter().filter(|server| server.is_running);
        let running: Vec<_> = running.map(|server| server.model_id.to_string()).collect();
        assert_eq!(running, ["large_7b_f32"]);
        daemon.post("/api/v1/profiles/all/activate?wait=50s").await.expect(200);
        assert_eq!(daemon.status().await.ready_servers, 3, "the configured one has the tier of its header");
    });
}

#[test]
fn a_server_of_the_file_wins_over_the_same_model() {
    sandbox(async |sandbox| {
        let mut fleet = empty_fleet(sandbox, FIRST_PORT[2]);
        fleet.server("mine", Script::default());
        let folder = fleet.model("mine").parent().unwrap().to_owned();
        let daemon = sandbox.up_with(&fleet, &with_models(&folder)).await;
        daemon.ready("mine").await;
        assert_eq!(daemon.status().await.total_servers, 1);
        let models = daemon.get("/api/v1/models").await.expect(200).json();
        assert_eq!(models["models"][0]["server"], "mine");
        assert_eq!(models["models"][0]["port"], fleet.port("mine"));
        assert!(!daemon.event_stream().events().iter().any(|event| matches!(event.event, Event::ServerFailed { .. })));
    });
}

#[test]
fn models_are_shown_without_a_daemon() {
    sandbox(async |sandbox| {
        let folder = folder_of_ten(sandbox).to_string_lossy().into_owned();
        let config = sandbox.fleet().write();
        let shown = sandbox.run(&config, ["models", &folder]).await.expect(0);
        assert!(shown.stdout.contains("model_7_1b_f32") && shown.stdout.contains("123.2K"), "{}", shown.stdout);
        assert!(shown.stderr.contains("truncated") && shown.stderr.contains("Cut-1B.gguf"), "{}", shown.stderr);
        let json = sandbox.run(&config, ["models", &folder, "--json"]).await.expect(0).json();
        assert_eq!(json["models"].as_array().map(Vec::len), Some(8));
        assert!(json["models"][0]["port"].is_u64() && json["models"][0]["enabled"] == true, "{json}");
        let gone = sandbox.run(&config, ["models", &folder, "/nonexistent"]).await.expect(1);
        assert!(gone.stdout.contains("model_7_1b_f32"), "the others are shown: {}", gone.stdout);
        assert!(gone.stderr.contains("/nonexistent"), "{}", gone.stderr);
        sandbox.run(&config, ["models"]).await.expect(2);
    });
}

/// Fault S26. The folder is emptied, as a mount point is when its disk goes; then one of two files is removed.
#[test]
fn a_folder_that_is_empty_for_a_while_stops_no_server() {
    sandbox(async |sandbox| {
        let (folder, away) = (sandbox.file("disk"), sandbox.file("away"));
        std::fs::create_dir(&folder).unwrap();
        ["Small-1B", "Large-7B"].iter().for_each(|name| write_model(&folder, name));
        let daemon = sandbox.up_with(&empty_fleet(sandbox, FIRST_PORT[3]), &with_models(&folder)).await;
        let ids = ["large_7b_f32", "small_1b_f32"];
        for id in ids {
            daemon.ready(id).await;
        }
        std::fs::rename(&folder, &away).unwrap();
        for is_mounted in [false, true] {
            if is_mounted {
                std::fs::create_dir(&folder).unwrap();
            }
            let answer = daemon.post("/api/v1/reload?wait=50s").await.expect(200).json();
            assert_eq!(
                (&answer["keep"], &answer["stop"]),
                (&serde_json::json!(ids), &serde_json::json!([])),
                "{answer}"
            );
        }
        assert!(daemon.log().contains("their servers stay"), "{}", daemon.log());
        std::fs::remove_dir(&folder).unwrap();
        std::fs::rename(&away, &folder).unwrap();
        std::fs::remove_file(folder.join("Large-7B.gguf")).unwrap();
        let answer = daemon.post("/api/v1/reload?wait=50s").await.expect(200).json();
        assert_eq!(answer["stop"], serde_json::json!(["large_7b_f32"]));
        std::fs::remove_file(folder.join("Small-1B.gguf")).unwrap();
        daemon.post("/api/v1/reload?force=1&wait=50s").await.expect(200);
        assert_eq!(daemon.status().await.total_servers, 0);
    });
}

/// The program downloads without a word for longer than `readiness.timeout`, and then is the stand-in.
#[test]
fn a_download_counts_as_loading_and_not_towards_the_time_to_ready() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let model = fleet.model("downloaded");
        TinyModel::new("downloaded").write(&model).unwrap();
        let stand_in = stand_in_program();
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in *--hf-repo*) ;; *) exec {stand_in} \"$@\" ;; esac\n\
             while [ ! -e {done} ]; do read -r _ < {fifo}; done\n\
             for word; do\n\
             case \"$word\" in --hf-repo) word=--model ;; org/repo*) word={model} ;; esac\n\
             shift\nset -- \"$@\" \"$word\"\ndone\nexec {stand_in} \"$@\"\n",
            stand_in = stand_in.display(),
            done = sandbox.file("done").display(),
            fifo = sandbox.file("fifo").display(),
            model = model.display(),
        );
        nix::unistd::mkfifo(&sandbox.file("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let program = executable(&sandbox.file("hub/llama-server"), &script);
        let keys = format!(
            "binary = {:?}\nreadiness = {{ timeout = \"1s\", on-timeout = \"fail\", stall-timeout = \"1s\" }}",
            program.to_string_lossy()
        );
        fleet.server_of("hub", Path::new("hf:org/repo:Q4_K_M"), &keys);
        let daemon = sandbox.up(&fleet).await;
        daemon.event("it loads", |event| matches!(event.event, Event::LoadProgressed { .. })).await;
        let past = |event: &llama_warden_events::Envelope| matches!(&event.event, Event::ServerWarned { warning, .. } if warning.as_str() == "loading-past-cap");
        daemon.event("the time is over", past).await;
        std::fs::write(sandbox.file("done"), "").unwrap();
        std::fs::write(sandbox.file("fifo"), "\n").unwrap();
        daemon.ready("hub").await;
        assert_eq!(daemon.report("hub").await.tier.as_deref(), Some("Q4_K_M"));
        assert_eq!(daemon.count("hub", "ServerFailed").await, 0);
    });
}
