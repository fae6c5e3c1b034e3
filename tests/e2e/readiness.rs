//! Real servers become ready, and not before they serve.

use llama_warden_events::{Event, ReadyVia};
use llama_warden_tests::{Endpoint, ExternalProgram, TestRequest, WAIT_LIMIT, eventually, external_program, sandbox};
use llama_warden_tiny_gguf::{TinyModel, WeightFormat};

use crate::fleet::{SMALL, THREE, add, complete, real_fleet, three};

#[test]
fn three_servers_become_ready_by_proof_and_work() {
    let Some(llama_server) = external_program(ExternalProgram::LlamaServer) else { return };
    sandbox(async |sandbox| {
        let fleet = three(sandbox, &llama_server);
        let daemon = sandbox.up(&fleet).await;
        for id in THREE {
            match daemon.ready(id).await.event {
                Event::ReadyReached { via, .. } => {
                    assert!([ReadyVia::Stderr, ReadyVia::Health].contains(&via), "{id}: {via}")
                }
                _ => unreachable!("a ready was waited for"),
            }
            TestRequest::get("/health").send(&Endpoint::Tcp(fleet.port(id))).await.unwrap().expect(200);
            complete(fleet.port(id)).await;
        }
        daemon.get("/readyz").await.expect(200);
        let status = daemon.status().await;
        assert_eq!((status.total_servers, status.ready_servers, status.running_servers), (3, 3, 3));
        for server in &status.servers {
            assert!(server.llama_version.is_some() && server.detector.is_some(), "{server:?}");
            assert_eq!(daemon.count(server.model_id.as_str(), "ReadyLost").await, 0);
            assert!(daemon.server(server.model_id.as_str()).await.warnings.is_empty());
        }
    });
}

/// The test probes `/health` itself when the event comes. A model of 300 MB takes long enough to load that a verdict which
/// came early would find a 503.
#[test]
fn a_server_is_never_ready_before_its_health_endpoint_answers_200() {
    let Some(llama_server) = external_program(ExternalProgram::LlamaServer) else { return };
    sandbox(async |sandbox| {
        let mut fleet = real_fleet(sandbox, &llama_server);
        fleet.section(SMALL);
        let model = sandbox.file("big.gguf");
        TinyModel::new("big").weights(WeightFormat::F16).at_least_bytes(300 << 20).write(&model).unwrap();
        fleet.server_of("big", &model, "enabled = false");
        let daemon = sandbox.up(&fleet).await;
        let port = Endpoint::Tcp(fleet.port("big"));
        let health = async || TestRequest::get("/health").send(&port).await.ok().map(|answer| answer.status.as_u16());
        let mut seen_loading = 0;
        for _ in 0..4 {
            let before = daemon.status().await.seq;
            daemon.command("big", "start").await.expect(202);
            let mut first = None;
            eventually("it answers", WAIT_LIMIT, async || {
                first = health().await;
                first.is_some()
            })
            .await;
            seen_loading += usize::from(first == Some(503));
            daemon.event_after(before, "it is ready", |event| matches!(event.event, Event::ReadyReached { .. })).await;
            assert_eq!(health().await, Some(200));
            daemon.command("big", "stop?wait=50s").await.expect(200);
        }
        assert!(seen_loading > 0, "the model loads too fast for this test to see anything");
    });
}

#[test]
fn without_a_log_the_probe_finds_it() {
    let Some(llama_server) = external_program(ExternalProgram::LlamaServer) else { return };
    sandbox(async |sandbox| {
        let mut fleet = real_fleet(sandbox, &llama_server);
        fleet.section(&format!("{SMALL}\nlog-disable = true"));
        add(&mut fleet, "a", "");
        let daemon = sandbox.up(&fleet).await;
        match daemon.ready("a").await.event {
            Event::ReadyReached { via, .. } => assert_eq!(via, ReadyVia::Health),
            _ => unreachable!("a ready was waited for"),
        }
    });
}

/// The flags of the start script that this project replaces. No current build accepts all of them unchanged.
#[test]
fn the_seed_flags_start() {
    let Some(llama_server) = external_program(ExternalProgram::LlamaServer) else { return };
    sandbox(async |sandbox| {
        let mut fleet = real_fleet(sandbox, &llama_server);
        fleet.section(
            "[flags]\nctx-size = 32768\nn-gpu-layers = 99\nthreads = 8\nbatch-size = 512\nubatch-size = 256\nflash-attn = true\n\
             mmap = false\nlog-disable = true",
        );
        add(&mut fleet, "a", "");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        assert_eq!(daemon.count("a", "ServerWarned").await, 0);
        complete(fleet.port("a")).await;
    });
}

#[test]
fn a_server_stays_ready_while_it_works() {
    let Some(llama_server) = external_program(ExternalProgram::LlamaServer) else { return };
    sandbox(async |sandbox| {
        let mut fleet = real_fleet(sandbox, &llama_server);
        fleet.section(&format!("{SMALL}\n[health]\ninterval = \"100ms\""));
        add(&mut fleet, "a", "");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        for _ in 0..20 {
            complete(fleet.port("a")).await;
            assert!(daemon.report("a").await.is_ready);
        }
        let kinds: Vec<_> = daemon.events_of("a").await.iter().map(|event| event.event.kind()).collect();
        for unexpected in ["ReadyLost", "ServerFailed", "ServerExited", "OutputLost"] {
            assert!(!kinds.contains(&unexpected), "{kinds:?}");
        }
    });
}

/// The key is passed in a file. `/health` needs no key, so readiness does not either.
#[test]
fn a_server_with_a_key_becomes_ready_and_asks_for_it() {
    let Some(llama_server) = external_program(ExternalProgram::LlamaServer) else { return };
    sandbox(async |sandbox| {
        let key = sandbox.file("key");
        std::fs::write(&key, "sk-test-only\n").unwrap();
        let mut fleet = real_fleet(sandbox, &llama_server);
        fleet.section(SMALL);
        add(&mut fleet, "a", &format!("api-key-file = \"{}\"", key.display()));
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let port = Endpoint::Tcp(fleet.port("a"));
        let ask = || {
            TestRequest::post("/completion")
                .header("content-type", "application/json")
                .body(r#"{"prompt": "a", "n_predict": 1}"#)
        };
        ask().send(&port).await.unwrap().expect(401);
        ask().header("authorization", "Bearer sk-test-only").send(&port).await.unwrap().expect(200);
    });
}
