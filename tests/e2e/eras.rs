//! Real builds of several years start under one configuration, and none is ready early.

use llama_warden_events::{Event, ReadyVia};
use llama_warden_tests::{Endpoint, ExternalProgram, Sandbox, TestRequest, external_program, sandbox};

use crate::fleet::{add, complete, real_fleet};

/// The builds, each with the detector pack that is chosen for it.
const ERAS: [(ExternalProgram, &str); 3] = [
    (ExternalProgram::LlamaServer0_3_2, "llama-server-2024-08"),
    (ExternalProgram::LlamaServer0_3_16, "llama-server-2024-08"),
    (ExternalProgram::LlamaServer, "llama-server-b11xxx"),
];

/// The flags of the start script that this project replaces. No build accepts all of them unchanged.
const SEED: &str = "[flags]\nctx-size = 32768\nn-gpu-layers = 99\nthreads = 8\nbatch-size = 512\nubatch-size = 256\n\
                    flash-attn = true\nmmap = false\n";

/// Starts a build twice on the same port, and returns by which proof each launch was ready; `None` without the build.
async fn ready_via(sandbox: &Sandbox, part: ExternalProgram, sections: &str) -> Option<Vec<ReadyVia>> {
    let llama_server = external_program(part)?;
    let mut fleet = real_fleet(sandbox, &llama_server);
    fleet.section(sections);
    add(&mut fleet, "a", "");
    let daemon = sandbox.up(&fleet).await;
    let mut vias = Vec::new();
    for round in 0..2 {
        let before = if round == 0 { llama_warden_events::Seq::new(0) } else { daemon.status().await.seq };
        if round > 0 {
            // Closed connections of builds until 2025 hold the port for a while, so the restart may take long: the wait for
            // the event below has the longer limit.
            daemon.command("a", "restart").await.expect(202);
        }
        let ready =
            daemon.event_after(before, "it is ready", |event| matches!(event.event, Event::ReadyReached { .. })).await;
        // `/health` answers 503 until the model is loaded, so this fails if the verdict came early.
        TestRequest::get("/health").send(&Endpoint::Tcp(fleet.port("a"))).await.expect("an answer").expect(200);
        if let Event::ReadyReached { via, .. } = ready.event {
            vias.push(via);
        }
    }
    complete(fleet.port("a")).await;
    assert_eq!(daemon.count("a", "ServerFailed").await, 0);
    Some(vias)
}

#[test]
fn the_seed_flags_start_every_era_by_proof() {
    for (part, _) in ERAS {
        sandbox(async |sandbox| {
            for via in ready_via(sandbox, part, SEED).await.into_iter().flatten() {
                // The ready line and the first 200 are a millisecond apart; either may be seen first.
                assert!([ReadyVia::Stderr, ReadyVia::Health].contains(&via), "{part:?}: {via}");
            }
        });
    }
}

#[test]
fn the_seed_flags_start_every_era_in_silence() {
    for (part, _) in ERAS {
        sandbox(async |sandbox| {
            for via in ready_via(sandbox, part, &format!("{SEED}log-disable = true\n")).await.into_iter().flatten() {
                assert_eq!(via, ReadyVia::Health, "{part:?}");
            }
        });
    }
}

#[test]
fn a_log_of_json_says_the_same() {
    sandbox(async |sandbox| {
        for via in ready_via(sandbox, ExternalProgram::LlamaServer, &format!("{SEED}log-jsonl = true\n"))
            .await
            .into_iter()
            .flatten()
        {
            assert!([ReadyVia::Stdout, ReadyVia::Health].contains(&via), "{via}");
        }
    });
}

#[test]
fn the_command_line_names_the_pack_and_dialect_of_every_era() {
    sandbox(async |sandbox| {
        let config = sandbox.fleet().write();
        for (part, pack) in ERAS {
            let Some(binary) = external_program(part) else { continue };
            let binary = binary.display().to_string();
            let which = sandbox.run(&config, ["detector", "which", &binary, "--json"]).await.expect(0).json();
            assert_eq!((&which["detector"]["name"], &which["dialect"]["name"]), (&pack.into(), &"llama-server".into()));
        }
    });
}
