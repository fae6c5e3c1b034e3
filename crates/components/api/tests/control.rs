//! Commands to servers, and the shutdown of the daemon.

#![expect(clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

mod common;

use std::time::{Duration, Instant};

use common::{ApiFixture, id, within};
use llama_warden_bus::EventDraft;
use llama_warden_client::{Client, ClientError, CommandOptions, ServerAction, ShutdownMode};
use llama_warden_component_kit::PATIENCE;
use llama_warden_events::{CommandOutcome, Event, Seq, SuperviseCommand};
use llama_warden_state::PhaseName;

fn waiting(wait: Duration) -> CommandOptions {
    CommandOptions { wait: Some(wait), ..CommandOptions::default() }
}

#[tokio::test]
async fn a_command_is_answered_with_its_id_at_once() {
    let daemon = ApiFixture::start().await;
    let answer = daemon.ask("POST /api/v1/servers/slow/start", &[]).await;
    assert_eq!((answer.status, answer.json()["command"].as_u64()), (202, Some(daemon.bus.bus().snapshot().seq.get())));
    assert_eq!(
        (answer.json()["model_id"].as_str(), &answer.json()["outcome"]),
        (Some("slow"), &serde_json::Value::Null)
    );
    daemon.end().await;
}

#[tokio::test]
async fn a_wait_ends_with_the_record_when_the_command_is_done() {
    let daemon = ApiFixture::start().await;
    let answer = daemon.ask("POST /api/v1/servers/good/start?wait=30s", &[]).await;
    assert_eq!((answer.status, answer.json()["phase"].as_str()), (200, Some("ready")));
    assert_eq!(answer.json()["outcome"], serde_json::json!({ "result": "ready" }));

    let answer =
        within(daemon.over_socket().command(ServerAction::Stop, &id("good"), waiting(Duration::from_secs(30)))).await;
    assert_eq!(answer.expect("done").outcome, Some(CommandOutcome::Stopped));
    daemon.end().await;
}

#[tokio::test]
async fn a_wait_that_is_over_first_ends_with_the_record_of_now() {
    let daemon = ApiFixture::start().await;
    let asked = Instant::now();
    let answer = daemon.over_tcp().command(ServerAction::Start, &id("slow"), waiting(Duration::from_millis(50))).await;
    let answer = answer.expect("accepted");
    assert!(asked.elapsed() >= Duration::from_millis(50));
    assert_eq!((answer.outcome, answer.server.report.phase), (None, PhaseName::Idle));
    daemon.end().await;
}

#[tokio::test]
async fn a_wait_hears_only_its_own_command() {
    let mut daemon = ApiFixture::start().await;
    let client = daemon.over_tcp();
    let waiter = tokio::spawn(async move { client.command(ServerAction::Start, &id("slow"), waiting(PATIENCE)).await });
    within(daemon.commands.recv()).await.expect("the owner has it");
    let command = daemon.bus.see(|snapshot| snapshot.events.contains_key("CommandAccepted")).await.seq;
    let completed = |cause: u64, outcome| {
        EventDraft::server(id("slow"), Event::CommandCompleted { outcome }).because(Seq::new(cause))
    };
    daemon.publish(completed(command.get() - 1, CommandOutcome::Stopped)).await;
    daemon.publish(completed(command.get(), CommandOutcome::Superseded { by: Seq::new(99) })).await;
    let error = within(waiter).await.expect("no panic").expect_err("superseded");
    assert!(
        matches!(&error, ClientError::Problem(problem) if problem.reason == "superseded" && problem.status == 409),
        "{error}"
    );
    daemon.end().await;
}

#[tokio::test]
async fn a_failed_start_is_502_with_the_reason() {
    let daemon = ApiFixture::start().await;
    let answer = daemon.ask("POST /api/v1/servers/broken/start?wait=30s", &[]).await;
    let problem = answer.json();
    assert_eq!(
        (answer.status, problem["reason"].as_str(), problem["detail"].as_str()),
        (502, Some("model-invalid"), Some("no GGUF"))
    );
    assert!(problem["next_step"].as_str().is_some_and(|text| text.contains("logs broken")), "{problem}");
    daemon.end().await;
}

#[tokio::test]
async fn a_refused_command_says_why() {
    let daemon = ApiFixture::start().await;
    let locked = daemon.ask("POST /api/v1/servers/locked/start", &[]).await;
    assert_eq!((locked.status, locked.json()["reason"].as_str()), (409, Some("wrong-phase")));
    let nobody = daemon.ask("POST /api/v1/servers/nobody/start", &[]).await;
    assert_eq!((nobody.status, nobody.json()["reason"].as_str()), (404, Some("unknown-server")));
    daemon.end().await;
}

#[tokio::test]
async fn options_reach_the_owner_as_they_were_written() {
    let mut daemon = ApiFixture::start().await;
    let grace = Some(Duration::from_millis(2500));
    let options = CommandOptions { wait: None, grace, force: true };
    daemon.over_socket().command(ServerAction::Restart, &id("slow"), options).await.expect("accepted");
    let expected = SuperviseCommand::RestartServer { server: id("slow"), grace, force: true };
    assert_eq!(daemon.commands.recv().await, Some(expected));
    daemon.ask("POST /api/v1/servers/slow/stop?grace=2s&force=0", &[]).await;
    let expected =
        SuperviseCommand::StopServer { server: id("slow"), grace: Some(Duration::from_secs(2)), force: false };
    assert_eq!(daemon.commands.recv().await, Some(expected));
    for query in ["grace=2s", "wait=30", "wait=25h", "force=1"] {
        let answer = daemon.ask(&format!("POST /api/v1/servers/slow/start?{query}"), &[]).await;
        assert_eq!((answer.status, answer.json()["reason"].as_str()), (400, Some("bad-query")), "{query}");
    }
    assert!(daemon.commands.try_recv().is_err(), "nothing else reached the owner");
    daemon.end().await;
}

#[tokio::test]
async fn the_answer_to_a_shutdown_arrives() {
    let mut daemon = ApiFixture::start().await;
    let answer = within(daemon.over_tcp().shut_down(ShutdownMode::Forced)).await.expect("answers");
    assert!(answer.command.is_some());
    let command = daemon.commands.recv().await;
    assert!(matches!(command, Some(SuperviseCommand::ShutDown { force: true, .. })), "{command:?}");
    daemon.end().await;
}

#[tokio::test]
async fn the_end_cuts_waits_and_streams_short_and_takes_the_socket_away() {
    let mut daemon = ApiFixture::start().await;
    let client = daemon.over_socket();
    let waiter = tokio::spawn(async move { client.command(ServerAction::Start, &id("slow"), waiting(PATIENCE)).await });
    within(daemon.commands.recv()).await.expect("the owner has it");
    let mut events = daemon.over_socket().events(llama_warden_client::EventRange::New).await.expect("streams");
    let (socket, client) = (daemon.socket.clone(), daemon.over_tcp());
    let asked = Instant::now();
    daemon.end().await;
    assert!(asked.elapsed() < Duration::from_secs(1), "took {:?}", asked.elapsed());
    let answer = within(waiter).await.expect("no panic").expect("answered all the same");
    assert_eq!(answer.outcome, None);
    // Events from before the end may still be on their way.
    while within(events.next()).await.expect("ends in order").is_some() {}
    assert!(!socket.exists());
    assert!(matches!(unreachable_error(&client).await, ClientError::Unreachable { .. }));
}

async fn unreachable_error(client: &Client) -> ClientError {
    client.status().await.expect_err("nobody is there")
}
