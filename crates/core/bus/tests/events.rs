//! The guarantees of the event lane, one test each.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use llama_warden_bus::{Bus, BusClosed, Delivery, EventDraft, MAX_EXTENSION_EVENTS_PER_SECOND};
use llama_warden_events::{BootId, Event, EventPosition, Seq, Timestamp};

fn event(number: usize) -> EventDraft {
    EventDraft::daemon(Event::DaemonStopping { trigger: number.to_string() })
}

fn bus(kept: usize) -> (Bus, llama_warden_bus::Publisher) {
    Bus::start(BootId::from_random(7), kept)
}

#[tokio::test]
async fn every_subscriber_sees_all_events_in_one_gapless_order() {
    let (bus, publisher) = bus(10_000);
    let mut subscriptions: Vec<_> = (0..3).map(|_| bus.subscribe("test")).collect();
    let publishers: Vec<_> = (0..4)
        .map(|_| {
            let publisher = publisher.clone();
            tokio::spawn(async move {
                for number in 0..500 {
                    publisher.publish(event(number)).await.expect("open");
                }
            })
        })
        .collect();
    for publisher in publishers {
        publisher.await.expect("no panic");
    }
    drop(publisher);
    let mut first = None;
    for subscription in &mut subscriptions {
        let mut seen = Vec::new();
        while let Some(Delivery::Event(envelope)) = subscription.next().await {
            seen.push(envelope);
        }
        assert!(seen.iter().enumerate().all(|(index, envelope)| envelope.seq == Seq::new(index as u64 + 1)));
        assert!(seen.is_sorted_by_key(|envelope| envelope.elapsed));
        assert_eq!(seen.len(), 2000);
        assert_eq!(*first.get_or_insert_with(|| seen.clone()), seen);
    }
}

#[tokio::test]
async fn a_snapshot_is_stored_before_its_event_is_visible() {
    let (bus, publisher) = bus(64);
    let mut subscription = bus.subscribe("test");
    let reader = tokio::spawn({
        let bus = bus.clone();
        async move {
            let mut checked = 0;
            while let Some(delivery) = subscription.next().await {
                let seq = match delivery {
                    Delivery::Event(envelope) => envelope.seq,
                    Delivery::Gap { snapshot, .. } => snapshot.seq,
                };
                assert!(bus.snapshot().seq >= seq);
                checked += 1;
            }
            checked
        }
    });
    for number in 0..2000 {
        publisher.publish(event(number)).await.expect("open");
    }
    drop(publisher);
    assert!(reader.await.expect("no panic") > 0);
}

#[tokio::test]
async fn an_acknowledged_event_is_in_the_snapshot() {
    let (bus, publisher) = bus(64);
    for number in 1..=100 {
        let seq = publisher.publish_acked(event(number)).await.expect("open");
        assert_eq!(seq, Seq::new(number as u64));
        assert!(bus.snapshot().seq >= seq);
    }
}

/// Fault S12.
#[tokio::test]
async fn a_late_subscriber_starts_from_the_snapshot_and_sees_only_what_follows() {
    let (bus, publisher) = bus(64);
    publisher.publish_acked(event(1)).await.expect("open");
    let mut subscription = bus.subscribe("test");
    assert_eq!(subscription.snapshot().seq, Seq::new(1));
    publisher.publish_acked(event(2)).await.expect("open");
    match subscription.next().await {
        Some(Delivery::Event(envelope)) => assert_eq!(envelope.seq, Seq::new(2)),
        other => panic!("{other:?}"),
    }
    assert!(subscription.try_next().is_none());
}

/// Fault S12.
#[tokio::test]
async fn a_slow_subscriber_gets_an_exact_gap_and_ends_with_the_truth() {
    let (bus, publisher) = bus(8);
    let mut subscription = bus.subscribe("slow");
    for number in 0..100 {
        publisher.publish(event(number)).await.expect("open");
    }
    publisher.publish_acked(event(100)).await.expect("open");
    let Some(Delivery::Gap { missed, snapshot }) = subscription.next().await else { panic!("no gap") };
    assert_eq!((missed, snapshot.seq), (101, Seq::new(101)));
    publisher.publish_acked(event(101)).await.expect("open");
    let Some(Delivery::Event(envelope)) = subscription.next().await else { panic!("no event") };
    assert_eq!(envelope.seq, Seq::new(102));
    assert_eq!(bus.gaps().get("slow"), Some(&1));
}

#[tokio::test]
async fn the_missed_and_the_seen_add_up_whatever_the_pace() {
    let (bus, publisher) = bus(16);
    let mut subscription = bus.subscribe("uneven");
    let writer = tokio::spawn(async move {
        for number in 0..5000 {
            publisher.publish(event(number)).await.expect("open");
            if number % 37 == 0 {
                tokio::task::yield_now().await;
            }
        }
    });
    let (mut seen, mut last) = (0, Seq::default());
    while let Some(delivery) = subscription.next().await {
        match delivery {
            Delivery::Event(envelope) => {
                assert_eq!(envelope.seq, last.next());
                (seen, last) = (seen + 1, envelope.seq);
            }
            Delivery::Gap { missed, snapshot } => {
                assert_eq!(snapshot.seq.get(), last.get() + missed);
                (seen, last) = (seen + missed, snapshot.seq);
            }
        }
    }
    writer.await.expect("no panic");
    assert_eq!((seen, last), (5000, Seq::new(5000)));
}

#[tokio::test]
async fn a_subscription_resumes_after_a_number_as_long_as_events_are_kept() {
    let (bus, publisher) = bus(10);
    for number in 0..19 {
        publisher.publish(event(number)).await.expect("open");
    }
    publisher.publish_acked(event(19)).await.expect("open");
    let mut kept = bus.subscribe_after("resume", Seq::new(15));
    let Some(Delivery::Event(envelope)) = kept.next().await else { panic!("no event") };
    assert_eq!(envelope.seq, Seq::new(16));

    let mut forgotten = bus.subscribe_after("resume", Seq::new(3));
    assert_eq!(forgotten.skip_forgotten(), Some(7));
    let Some(Delivery::Event(envelope)) = forgotten.next().await else { panic!("no event") };
    assert_eq!(envelope.seq, Seq::new(11));
}

#[tokio::test]
async fn a_reader_from_another_run_or_from_ahead_gets_a_gap_with_the_state_and_then_what_follows() {
    let (bus, publisher) = bus(10);
    publisher.publish(event(0)).await.expect("open");
    publisher.publish_acked(event(1)).await.expect("open");
    let of_run = |boot, seq| EventPosition { boot, seq: Seq::new(seq) };
    let other = BootId::from_random(99);
    assert_ne!(other, bus.snapshot().boot);
    for position in [of_run(Some(other), 1), of_run(Some(other), 900), of_run(None, 900)] {
        let mut stranger = bus.subscribe_after("resume", position);
        let Some(Delivery::Gap { missed, snapshot }) = stranger.next().await else { panic!("no gap for {position}") };
        assert_eq!((missed, snapshot.seq), (bus.latest_seq().get(), bus.latest_seq()), "{position}");
        let seq = publisher.publish_acked(event(2)).await.expect("open");
        let Some(Delivery::Event(envelope)) = stranger.next().await else { panic!("no event") };
        assert_eq!(envelope.seq, seq);

        let mut history = bus.subscribe_after("resume", position);
        assert_eq!(history.skip_forgotten(), Some(0));
        let Some(Delivery::Event(envelope)) = history.next().await else { panic!("no event") };
        assert_eq!(envelope.seq, Seq::new(1));
    }
    let own = of_run(Some(bus.snapshot().boot), 1);
    let mut known = bus.subscribe_after("resume", own);
    assert_eq!(known.skip_forgotten(), None);
    let Some(Delivery::Event(envelope)) = known.next().await else { panic!("no event") };
    assert_eq!(envelope.seq, Seq::new(2));
}

/// Fault S12.
#[tokio::test]
async fn a_thousand_subscribers_that_never_read_hold_nobody_up() {
    let (bus, publisher) = bus(64);
    let idle: Vec<_> = (0..1000).map(|_| bus.subscribe("idle")).collect();
    let publish = async {
        for number in 0..5000 {
            publisher.publish(event(number)).await.expect("open");
        }
        publisher.publish_acked(event(5000)).await.expect("open")
    };
    let last = tokio::time::timeout(Duration::from_secs(60), publish).await.expect("senders do not wait for readers");
    assert_eq!(last, Seq::new(5001));
    drop(idle);
}

#[tokio::test]
async fn the_line_ends_when_every_publisher_is_gone() {
    let (bus, publisher) = bus(64);
    let mut subscription = bus.subscribe("test");
    publisher.publish_acked(event(0)).await.expect("open");
    drop(publisher);
    assert!(matches!(subscription.next().await, Some(Delivery::Event(_))));
    assert!(subscription.next().await.is_none());
}

/// Fault S11: the wall clock jumps by an hour and by ten years, forwards and backwards. The dates follow it; order, numbers and
/// the time that has passed do not.
#[tokio::test]
async fn a_clock_that_jumps_changes_the_dates_of_events_and_nothing_else() {
    const HOUR: i64 = 3600;
    const JUMPS: [i64; 5] = [0, HOUR, -HOUR, 10 * 8766 * HOUR, -10 * 8766 * HOUR];
    let read = AtomicUsize::new(0);
    let start = jiff::Timestamp::from_second(1_790_000_000).expect("a date");
    let wall_clock = move || {
        let jump = JUMPS[read.fetch_add(1, Ordering::Relaxed) % JUMPS.len()];
        Timestamp::new(start.checked_add(jiff::SignedDuration::from_secs(jump)).expect("a date"))
    };
    let (bus, publisher) = Bus::start_with_wall_clock(BootId::from_random(7), 64, wall_clock);
    let mut subscription = bus.subscribe("test");
    let mut seen = Vec::new();
    for number in 0..JUMPS.len() {
        publisher.publish(event(number)).await.expect("open");
        let Some(Delivery::Event(envelope)) = subscription.next().await else { panic!("an event") };
        seen.push(envelope);
    }
    let dates: Vec<f64> = seen.iter().map(|envelope| envelope.at.as_unix_seconds() - 1.79e9).collect();
    assert_eq!(dates, JUMPS.map(|jump| jump as f64));
    assert!(seen.iter().enumerate().all(|(index, envelope)| envelope.seq == Seq::new(index as u64 + 1)));
    let passed: Vec<Duration> = seen.iter().map(|envelope| envelope.elapsed.since(seen[0].elapsed)).collect();
    assert!(passed.is_sorted() && passed.iter().all(|passed| *passed < Duration::from_secs(60)), "{passed:?}");
}

#[tokio::test]
async fn nothing_follows_the_end_of_the_daemon() {
    let (bus, publisher) = bus(8);
    let mut events = bus.subscribe("test");
    publisher.publish(event(0)).await.unwrap();
    let end = publisher.publish_acked(EventDraft::daemon(Event::DaemonStopped { survivors: vec![] })).await.unwrap();
    publisher.publish(event(1)).await.unwrap();
    assert_eq!(publisher.publish_acked(event(2)).await.unwrap(), end);
    assert_eq!(bus.latest_seq(), end);
    drop(publisher);
    let mut last = None;
    while let Some(Delivery::Event(envelope)) = events.next().await {
        last = Some(envelope.seq);
    }
    assert_eq!(last, Some(end));
}

#[tokio::test(start_paused = true)]
async fn a_component_that_publishes_its_own_events_without_end_is_cut_off_and_nobody_else() {
    let (_bus, one) = bus(8);
    let other = one.of_component();
    let own = || EventDraft::daemon(Event::extension("guest", "Noise", ()));
    for _second in 0..3 {
        for _ in 0..MAX_EXTENSION_EVENTS_PER_SECOND {
            one.publish(own()).await.expect("as many as that are taken");
        }
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    for _ in 0..MAX_EXTENSION_EVENTS_PER_SECOND {
        one.publish(own()).await.expect("as many as that are taken");
    }
    assert_eq!(one.clone().publish(own()).await, Err(BusClosed));
    one.flooded().await;
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(one.publish_acked(own()).await, Err(BusClosed), "it stays cut off");
    one.publish(event(0)).await.expect("the events of the daemon are not counted");
    other.publish(own()).await.expect("each component is counted by itself");
}
