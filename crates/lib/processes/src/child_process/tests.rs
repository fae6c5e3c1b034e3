//! Tests of exits, signals and reaping, against real processes.

use std::time::Duration;

use super::*;
use crate::spawn_request::{ShimProgram, SpawnRequest};

async fn shell(spawner: &Spawner, script: &str) -> ChildProcess {
    let request = SpawnRequest {
        shim: ShimProgram::None,
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
        environment: Default::default(),
        lock: None,
    };
    let spawned = spawner.spawn(request).await.expect("spawns");
    ChildProcess::new(spawner, spawned.child).expect("is watched")
}

async fn end(process: ChildProcess) -> ProcessEnd {
    let exited = tokio::time::timeout(Duration::from_secs(20), process.exited()).await;
    exited.expect("ends").expect("is awaited");
    process.reap()
}

#[tokio::test]
async fn every_exit_code_and_every_fatal_signal_is_recorded() {
    let spawner = Spawner::start().expect("starts");
    for code in 0..=255 {
        let process = shell(&spawner, &format!("exit {code}")).await;
        assert_eq!(end(process).await, ProcessEnd::Exited { code });
    }
    // Left out: signals that stop, continue or are ignored by default; 32 and 33 belong to the C library.
    let harmless = [17, 18, 19, 20, 21, 22, 23, 28, 32, 33];
    for number in (1..=64).filter(|number| !harmless.contains(number)) {
        let process = shell(&spawner, &format!("ulimit -c 0; kill -{number} $$; read never")).await;
        let expected = Signal::from_number(number).expect("a signal");
        let end = end(process).await;
        assert!(matches!(end, ProcessEnd::Signaled { signal, .. } if signal == expected), "{expected}: {end:?}");
    }
    assert!(spawner.children().lock().is_empty());
}

/// Fault C5.
#[tokio::test]
async fn no_exit_is_lost_however_early_it_comes() {
    let spawner = Spawner::start().expect("starts");
    for round in 0..10_000 {
        let process = shell(&spawner, "exit 7").await;
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(end(process).await, ProcessEnd::Exited { code: 7 }, "round {round}");
    }
}

#[tokio::test]
async fn a_stopped_process_sees_term() {
    let spawner = Spawner::start().expect("starts");
    let process = shell(&spawner, "kill -STOP $$; exit 3").await;
    process.deliver(Signal::TERM).expect("is sent");
    let end = end(process).await;
    assert!(matches!(end, ProcessEnd::Signaled { signal: Signal::TERM, .. }), "{end:?}");
}

#[tokio::test]
async fn a_dropped_process_is_killed_and_reaped() {
    let spawner = Spawner::start().expect("starts");
    let process = shell(&spawner, "sleep 60; :").await;
    let watched = ProcessHandle::new(process.pid()).expect("exists");
    drop(process);
    tokio::time::timeout(Duration::from_secs(20), watched.exited()).await.expect("ends").expect("is awaited");
}

#[tokio::test]
async fn a_signal_without_a_name_is_refused() {
    let spawner = Spawner::start().expect("starts");
    let process = shell(&spawner, "exit 0").await;
    let unnamed = Signal::from_number(40).expect("a signal");
    assert!(matches!(process.deliver(unnamed), Err(SignalError::Unnamed(_))));
    end(process).await;
}
