//! The guarantees of the command lane.

#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use llama_warden_bus::{Clock, CommandRequest, CommandRouter, CompositionError};
use llama_warden_events::{
    CommandKind, HookCommand, Incarnation, LaunchCommand, NoCommand, RefusalReason, Refused, Rung, Seq, ServerId,
    Signal, SuperviseCommand, TerminateCommand,
};

fn server() -> ServerId {
    ServerId::new("a").expect("valid")
}

fn launch(incarnation: u64) -> LaunchCommand {
    LaunchCommand::LaunchServer { server: server(), incarnation: Incarnation::new(incarnation) }
}

fn deliver() -> LaunchCommand {
    let rung = Rung { index: 0, signal: Signal::TERM };
    LaunchCommand::DeliverSignal { server: server(), incarnation: Incarnation::new(1), signal: Signal::TERM, rung }
}

#[tokio::test]
async fn a_second_owner_and_a_missing_one_are_errors_before_anything_runs() {
    let mut router = CommandRouter::new(Clock::start());
    let _launcher = router.take::<LaunchCommand>("launcher").expect("first owner");
    assert_eq!(
        router.take::<LaunchCommand>("impostor").map(|_| ()),
        Err(CompositionError::SecondOwner { kind: CommandKind::Launch, second: "impostor" })
    );
    let _none = router.take::<NoCommand>("listener").expect("owning nothing is fine");
    let _supervisor = router.take::<SuperviseCommand>("supervisor").expect("first owner");
    assert_eq!(router.check(), Err(CompositionError::NoOwner { kind: CommandKind::Terminate }));
    let _terminator = router.take::<TerminateCommand>("terminator").expect("first owner");
    let _hooks = router.take::<HookCommand>("hooks").expect("first owner");
    assert_eq!(router.check(), Ok(()));
}

#[tokio::test]
async fn a_command_is_answered_by_its_owner() {
    let mut router = CommandRouter::new(Clock::start());
    let mut inbox = router.take::<LaunchCommand>("launcher").expect("first owner");
    let accepted = router.sender().post(CommandRequest::new(launch(1)).because(Seq::new(4)));
    let refused = router.sender().post(launch(2));
    let request = inbox.recv().await.expect("sent");
    assert_eq!((&request.command, request.cause), (&launch(1), Some(Seq::new(4))));
    request.accept(Some(Seq::new(9)));
    let refusal = Refused::new(RefusalReason::StaleIncarnation, "over");
    inbox.recv().await.expect("sent").refuse(refusal.clone());
    assert_eq!(accepted.await.expect("accepted").id, Some(Seq::new(9)));
    assert_eq!(refused.await, Err(refusal));
}

#[tokio::test]
async fn stops_and_kills_overtake_what_is_queued() {
    let mut router = CommandRouter::new(Clock::start());
    let mut inbox = router.take::<LaunchCommand>("launcher").expect("first owner");
    let sender = router.sender();
    let _replies: Vec<_> = (0..100).map(|incarnation| sender.post(launch(incarnation))).collect();
    let _urgent = sender.post(deliver());
    assert_eq!(inbox.recv().await.expect("sent").command, deliver());
    assert_eq!(inbox.recv().await.expect("sent").command, launch(0));
}

#[tokio::test]
async fn a_full_queue_refuses_and_does_not_wait() {
    let mut router = CommandRouter::new(Clock::start());
    let _inbox = router.take::<LaunchCommand>("launcher").expect("first owner");
    let sender = router.sender();
    let replies: Vec<_> = (0..1024).map(|incarnation| sender.post(launch(incarnation))).collect();
    let refused = sender.send(launch(9999)).await.expect_err("the queue is full");
    assert_eq!(refused.reason, RefusalReason::QueueFull);
    drop(replies);
}

#[tokio::test(start_paused = true)]
async fn an_expired_command_is_refused_and_its_owner_never_sees_it() {
    let clock = Clock::start();
    let mut router = CommandRouter::new(clock);
    let mut inbox = router.take::<LaunchCommand>("launcher").expect("first owner");
    let sender = router.sender();
    let late = sender.post(CommandRequest::new(launch(1)).by(clock.now()));
    tokio::time::advance(Duration::from_secs(1)).await;
    let timely = sender.post(launch(2));
    let request = inbox.recv().await.expect("sent");
    assert_eq!(request.command, launch(2));
    request.accept(None);
    assert_eq!(late.await.expect_err("expired").reason, RefusalReason::Expired);
    timely.await.expect("accepted");
}

#[tokio::test]
async fn a_command_without_a_living_owner_is_refused() {
    let mut router = CommandRouter::new(Clock::start());
    let inbox = router.take::<LaunchCommand>("launcher").expect("first owner");
    let unanswered = router.sender().post(launch(1));
    drop(inbox);
    let sender = router.sender();
    assert_eq!(unanswered.await.expect_err("dropped").reason, RefusalReason::OwnerGone);
    assert_eq!(sender.send(launch(2)).await.expect_err("gone").reason, RefusalReason::OwnerGone);
}
