//! Real servers that cannot start.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use llama_warden_events::FailureReason;
use llama_warden_tests::{ExternalProgram, external_program, sandbox};
use llama_warden_tiny_gguf::{Damage, TinyModel};
use tokio::net::TcpListener;

use crate::fleet::{SMALL, add, complete, real_fleet};

#[test]
fn each_failure_has_its_reason_and_holds_up_nobody() {
    let Some(llama_server) = external_program(ExternalProgram::LlamaServer) else { return };
    sandbox(async |sandbox| {
        let mut fleet = real_fleet(sandbox, &llama_server);
        fleet.section(SMALL);
        add(&mut fleet, "good", "");
        add(&mut fleet, "busy", "");
        let stranger = TcpListener::bind(("127.0.0.1", fleet.port("busy"))).await.unwrap();
        fleet.server_of("missing", &sandbox.file("missing.gguf"), "");
        let damages =
            [("magic", Damage::WrongMagic), ("cut-header", Damage::HeaderCut), ("cut-weights", Damage::WeightsCut)];
        for (id, damage) in damages {
            let model = fleet.model(id);
            TinyModel::new(id).write_damaged(&model, damage).unwrap();
            fleet.server_of(id, &model, "");
        }
        add(&mut fleet, "argument", "args = [\"--no-such-option\"]");
        let daemon = sandbox.up(&fleet).await;
        let expected = [
            ("busy", FailureReason::PortInUse),
            ("missing", FailureReason::ModelNotFound),
            ("magic", FailureReason::ModelInvalid),
            ("cut-header", FailureReason::ModelInvalid),
            ("cut-weights", FailureReason::ModelInvalid),
            ("argument", FailureReason::BadArgument),
        ];
        for (id, expected) in expected {
            let (reason, detail, lines) = daemon.failure(id).await;
            assert_eq!(reason, expected, "{id}: {detail}\n{lines:#?}");
        }
        daemon.ready("good").await;
        complete(fleet.port("good")).await;
        let status = daemon.status().await;
        assert_eq!((status.ready_servers, status.running_servers), (1, 1));
        drop(stranger);
        daemon.command("busy", "start?wait=50s").await.expect(200);
        complete(fleet.port("busy")).await;
    });
}

/// Fault C43, with a build that prints the path itself.
#[test]
fn a_ready_phrase_in_the_models_path_does_not_mislead() {
    let Some(llama_server) = external_program(ExternalProgram::LlamaServer) else { return };
    sandbox(async |sandbox| {
        let mut fleet = real_fleet(sandbox, &llama_server);
        fleet.section(SMALL);
        let folder = sandbox.file("srv  llama_server: listening on http");
        std::fs::create_dir(&folder).unwrap();
        let model = folder.join("127.0.0.1.gguf");
        TinyModel::new("main: server is listening on http://127.0.0.1 - starting the main loop")
            .write_damaged(&model, Damage::WeightsCut)
            .unwrap();
        fleet.server_of("a", &model, "");
        let daemon = sandbox.up(&fleet).await;
        let (reason, detail, _) = daemon.failure("a").await;
        assert_eq!(reason, FailureReason::ModelInvalid, "{detail}");
        for kind in ["ReadyHinted", "ReadyReached"] {
            assert_eq!(daemon.count("a", kind).await, 0, "{kind}");
        }
    });
}
