//! The guarantees of the command lane.

#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use llama_warden_bus::{
    Bus, CommandReceiver, CommandRequest, CommandRouter, CommandSetId, Delivery, EventDraft, Inbox, Incoming,
    OwnerError, Publisher,
};
use llama_warden_events::{
    BootId, CommandSet, Event, Incarnation, LaunchCommand, NoCommand, RefusalReason, Refused, Rung, Seq, ServerId,
    Signal, SuperviseCommand,
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

fn router() -> (CommandRouter, Bus, Publisher) {
    let (bus, publisher) = Bus::start(BootId::from_random(1), 16);
    (CommandRouter::new(bus.clone()), bus, publisher)
}

fn owned() -> (CommandRouter, CommandReceiver<LaunchCommand>, Publisher) {
    let (mut router, _, publisher) = router();
    let inbox = router.own("launcher").expect("first owner");
    (router, inbox, publisher)
}

#[tokio::test]
async fn a_second_owner_and_a_missing_one_are_errors_that_name_both_sides() {
    let (mut router, _launcher, _publisher) = owned();
    assert_eq!(
        router.own::<LaunchCommand>("impostor").map(|_| ()),
        Err(OwnerError::SecondOwner { set: "launch", first: "launcher", second: "impostor" })
    );
    let _none = router.own::<NoCommand>("listener").expect("owning nothing is fine");
    let _none = router.own::<NoCommand>("another").expect("also twice");
    let sends = [CommandSetId::of::<LaunchCommand>(), CommandSetId::of::<SuperviseCommand>()];
    let missing = OwnerError::NoOwner { set: "supervise", sender: "api" };
    assert_eq!(router.check("api", &sends), Err(missing));
    let _supervisor = router.own::<SuperviseCommand>("supervisor").expect("first owner");
    assert_eq!(router.check("api", &sends), Ok(()));
}

/// Commands that llama-warden does not know.
#[derive(Debug, PartialEq)]
struct Page(&'static str);

impl CommandSet for Page {
    const NAME: &'static str = "page";
}

#[tokio::test]
async fn a_component_of_others_brings_commands_of_its_own() {
    let (mut router, _launcher, _publisher) = owned();
    let sender = router.sender();
    let refused = sender.send(Page("nobody")).await.expect_err("no owner yet");
    assert_eq!(refused.reason, RefusalReason::OwnerGone);
    assert_eq!(refused.detail, "no component owns the `page` commands", "nobody has ended");
    let mut pager = router.own::<Page>("pager").expect("first owner");
    let accepted = sender.post(Page("somebody"));
    let command = pager.recv().await;
    assert_eq!(command.command, Page("somebody"));
    command.accept(None);
    accepted.await.expect("accepted");
}

#[tokio::test]
async fn a_command_comes_behind_every_event_that_its_sender_could_have_seen() {
    let (mut router, bus, publisher) = router();
    let commands = router.own::<LaunchCommand>("launcher").expect("first owner");
    let mut inbox = Inbox::new(bus.subscribe("launcher"), commands);
    let event = || EventDraft::daemon(Event::DaemonStopping { trigger: "test".to_owned() });
    for round in 0..50 {
        let seen = publisher.publish_acked(event()).await.expect("open");
        let _reply = router.sender().post(launch(round));
        let later = publisher.publish_acked(event()).await.expect("open");
        let mut order = Vec::new();
        while order.len() < 3 {
            order.push(match inbox.next().await.expect("open") {
                Incoming::Delivery(Delivery::Event(envelope)) => envelope.seq,
                Incoming::Delivery(gap) => panic!("{gap:?}"),
                Incoming::Command(command) => {
                    assert_eq!(command.command, launch(round));
                    Seq::default()
                }
            });
        }
        let place = |seq| order.iter().position(|known| *known == seq).expect("delivered");
        assert!(place(Seq::default()) > place(seen), "{order:?}");
        assert!(place(later) > place(seen), "{order:?}");
    }
}

#[tokio::test]
async fn a_command_comes_behind_the_gap_that_swallowed_its_events() {
    let (mut router, bus, publisher) = router();
    let commands = router.own::<LaunchCommand>("launcher").expect("first owner");
    let mut inbox = Inbox::new(bus.subscribe("launcher"), commands);
    for _ in 0..40 {
        let event = Event::DaemonStopping { trigger: "test".to_owned() };
        publisher.publish_acked(EventDraft::daemon(event)).await.expect("open");
    }
    let _reply = router.sender().post(launch(1));
    let first = inbox.next().await.expect("open");
    assert!(matches!(first, Incoming::Delivery(Delivery::Gap { missed: 40, .. })), "{first:?}");
    assert!(matches!(inbox.next().await.expect("open"), Incoming::Command(_)));
}

#[tokio::test]
async fn a_command_is_answered_by_its_owner() {
    let (router, mut inbox, _publisher) = owned();
    let accepted = router.sender().post(CommandRequest::new(launch(1)).because(Seq::new(4)));
    let refused = router.sender().post(launch(2));
    let request = inbox.recv().await;
    assert_eq!((&request.command, request.cause), (&launch(1), Some(Seq::new(4))));
    request.accept(Some(Seq::new(9)));
    let refusal = Refused::new(RefusalReason::StaleIncarnation, "over");
    inbox.recv().await.refuse(refusal.clone());
    assert_eq!(accepted.await.expect("accepted").id, Some(Seq::new(9)));
    assert_eq!(refused.await, Err(refusal));
}

#[tokio::test]
async fn stops_and_kills_overtake_what_is_queued() {
    let (router, mut inbox, _publisher) = owned();
    let sender = router.sender();
    let _replies: Vec<_> = (0..100).map(|incarnation| sender.post(launch(incarnation))).collect();
    let _urgent = sender.post(deliver());
    assert_eq!(inbox.recv().await.command, deliver());
    assert_eq!(inbox.recv().await.command, launch(0));
}

#[tokio::test]
async fn a_full_queue_refuses_and_does_not_wait() {
    let (router, _inbox, _publisher) = owned();
    let sender = router.sender();
    let replies: Vec<_> = (0..1024).map(|incarnation| sender.post(launch(incarnation))).collect();
    let refused = sender.send(launch(9999)).await.expect_err("the queue is full");
    assert_eq!(refused.reason, RefusalReason::QueueFull);
    drop(replies);
}

#[tokio::test(start_paused = true)]
async fn an_expired_command_is_refused_and_its_owner_never_sees_it() {
    let (mut router, bus, _publisher) = router();
    let clock = bus.clock();
    let mut inbox = router.own::<LaunchCommand>("launcher").expect("first owner");
    let sender = router.sender();
    let late = sender.post(CommandRequest::new(launch(1)).by(clock.now()));
    tokio::time::advance(Duration::from_secs(1)).await;
    let timely = sender.post(launch(2));
    let request = inbox.recv().await;
    assert_eq!(request.command, launch(2));
    request.accept(None);
    assert_eq!(late.await.expect_err("expired").reason, RefusalReason::Expired);
    timely.await.expect("accepted");
}

#[tokio::test]
async fn a_command_without_a_living_owner_is_refused() {
    let (router, inbox, _publisher) = owned();
    let unanswered = router.sender().post(launch(1));
    drop(inbox);
    let sender = router.sender();
    assert_eq!(unanswered.await.expect_err("dropped").reason, RefusalReason::OwnerGone);
    assert_eq!(sender.send(launch(2)).await.expect_err("gone").reason, RefusalReason::OwnerGone);
}
