//! Discovered models with a real llama-server.

use llama_warden_events::{Envelope, Event};
use llama_warden_tests::{DaemonOptions, ExternalProgram, external_program, sandbox};
use llama_warden_tiny_gguf::{Damage, TinyModel};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::fleet::{SMALL, real_fleet};

/// Above the ports that system tests use.
const FIRST_PORT: u16 = 32_650;

#[test]
fn of_ten_files_eight_are_served_and_two_are_named_with_reasons() {
    let Some(llama_server) = external_program(ExternalProgram::LlamaServer) else { return };
    sandbox(async |sandbox| {
        let folder = sandbox.file("found");
        std::fs::create_dir(&folder).unwrap();
        for number in 0..8 {
            let name = format!("Tiny-{number}-1M");
            TinyModel::new(&name).seed(number).write(&folder.join(format!("{name}.gguf"))).unwrap();
        }
        TinyModel::new("cut").write_damaged(&folder.join("Cut-1M.gguf"), Damage::WeightsCut).unwrap();
        TinyModel::new("alien").write_damaged(&folder.join("Alien-1M.gguf"), Damage::WrongMagic).unwrap();
        let mut fleet = real_fleet(sandbox, &llama_server);
        fleet.llama_server(&format!("first-port = {FIRST_PORT}")).section(SMALL);
        fleet.section("[restart]\ninitial-delay = \"50ms\"");
        fleet.section("[profiles.some]\nservers = [\"tiny_[0-3]_*\"]");
        let arguments = vec!["--models".to_owned(), folder.to_string_lossy().into_owned()];
        let daemon = sandbox.up_with(&fleet, &DaemonOptions { arguments, ..DaemonOptions::default() }).await;
        for number in 0..8 {
            daemon.ready(&format!("tiny_{number}_1m_f32")).await;
        }
        daemon.get("/readyz").await.expect(200);
        let models = daemon.get("/api/v1/models").await.expect(200).json();
        let reasons: Vec<_> =
            models["problems"].as_array().unwrap().iter().map(|problem| problem["reason"].as_str().unwrap()).collect();
        assert_eq!(reasons, ["not-gguf", "truncated"]);

        let pids = async || daemon.status().await.servers.into_iter().map(|server| server.pid).collect::<Vec<_>>();
        let before = pids().await;
        daemon.post("/api/v1/profiles/some/activate?wait=50s").await.expect(200);
        let after = pids().await;
        assert_eq!((&after[..4], &after[4..]), (&before[..4], &[None; 4][..]), "shared servers are not touched");

        let pid = before[0].expect("it runs");
        let seq = daemon.status().await.seq;
        kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
        let again = |event: &Envelope| matches!(event.event, Event::ReadyReached { .. });
        daemon.event_after(seq, "it is ready again", again).await;
        let report = daemon.report("tiny_0_1m_f32").await;
        assert_eq!((report.restarts, report.is_ready), (1, true));
    });
}
