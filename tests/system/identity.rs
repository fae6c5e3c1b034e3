//! A server is ready only if it serves the configured model.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use llama_warden_events::{Event, FailureReason, ReadyVia};
use llama_warden_stand_in::{Era, HealthScript, ReadyLine, Script};
use llama_warden_tests::sandbox;
use llama_warden_tiny_gguf::TinyModel;

/// Fault C33.
#[test]
fn a_server_of_another_model_is_never_ready() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let other =
            |path: &str| Script { model_id: Some("other".into()), model_path: Some(path.into()), ..Script::default() };
        fleet.server("a", other("/models/other.gguf"));
        let daemon = sandbox.up(&fleet).await;
        let (reason, detail, _) = daemon.failure("a").await;
        assert_eq!(reason, FailureReason::IdentityMismatch);
        assert!(detail.contains("other"), "{detail}");
        daemon.exited("a").await;
        assert_eq!(daemon.count("a", "ReadyReached").await, 0);
    });
}

/// Fault C43.
#[test]
fn a_ready_phrase_in_a_path_or_a_name_is_no_hint() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let never = || Script { health: HealthScript::Status(503), ready_line: ReadyLine::Never, ..Script::default() };
        let keys = "readiness = { timeout = \"2s\", on-timeout = \"fail\" }";
        fleet.server_with("named", never(), keys);
        let port = fleet.port("named");
        TinyModel::new(format!("x: server is listening on http://127.0.0.1:{port} - starting the main loop"))
            .write(&fleet.model("named"))
            .unwrap();
        for (id, phrase) in
            [("path", "srv  llama_server: listening on http"), ("old-path", "main: server is listening on http")]
        {
            let folder = sandbox.file(&format!("{id}/{phrase}:"));
            std::fs::create_dir_all(&folder).unwrap();
            let model = folder.join("127.0.0.1.gguf");
            TinyModel::new(id).write(&model).unwrap();
            never().write_beside(&model).unwrap();
            fleet.server_of(id, &model, keys);
        }
        let build = sandbox.build_of(Era::November2024);
        fleet.server_with(
            "echoed",
            Script { era: Era::November2024, ..never() },
            &format!("binary = \"{}\"\n{keys}", build.display()),
        );
        let port = fleet.port("echoed");
        TinyModel::new(format!("main: server is listening on http://127.0.0.1:{port} - starting the main loop"))
            .write(&fleet.model("echoed"))
            .unwrap();
        let daemon = sandbox.up(&fleet).await;
        for id in ["named", "path", "old-path", "echoed"] {
            let (reason, detail, _) = daemon.failure(id).await;
            assert_eq!(reason, FailureReason::ReadyTimeout, "{id}: {detail}");
            let events = daemon.events_of(id).await;
            let misled = events.iter().find(|event| {
                matches!(&event.event, Event::ReadyHinted { line, .. } if line.contains("127.0.0.1.gguf") || line.contains("general.name"))
            });
            assert_eq!(misled, None, "{id}");
            assert!(!events.iter().any(|event| event.event.kind() == "ReadyReached"), "{id}");
        }
    });
}

/// Every era of the stand-in, each with its own options, lines and endpoints.
#[test]
fn every_generation_of_builds_becomes_ready_and_stops() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let eras = [
            ("e2023", Era::December2023),
            ("e2024a", Era::July2024),
            ("e2024b", Era::November2024),
            ("e2025", Era::August2025),
            ("today", Era::B11669),
        ];
        for (id, era) in eras {
            let binary = format!("binary = \"{}\"", sandbox.build_of(era).display());
            fleet.server_with(id, Script { era, load_ms: 2000, ..Script::default() }, &binary);
        }
        let daemon = sandbox.up(&fleet).await;
        for (id, _) in eras {
            match daemon.ready(id).await.event {
                Event::ReadyReached { via, startup_seconds } => {
                    assert_ne!(via, ReadyVia::Timeout, "{id}");
                    // Half of the load time, since a busy daemon publishes `ServerSpawned` late.
                    assert!(startup_seconds >= 1.0, "{id} was ready before its model was loaded: {startup_seconds}");
                }
                _ => unreachable!("a ready was waited for"),
            }
        }
        for (id, _) in eras {
            daemon.command(id, "stop?wait=50s").await.expect(200);
            assert_eq!(daemon.count(id, "ServerFailed").await, 0, "{id}");
            assert_eq!(daemon.count(id, "StopEscalated").await, 0, "{id}");
        }
    });
}
