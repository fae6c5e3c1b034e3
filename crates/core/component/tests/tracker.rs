//! A tracker that is fed with events and one that is fed with snapshots agree.

#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use std::sync::Arc;
use std::time::Duration;

use llama_warden_bus::Delivery;
use llama_warden_component::{LaunchChange, LaunchTracker, TrackedLaunch, Transition};
use llama_warden_component_kit::{card, fleet, server};
use llama_warden_config::Fleet;
use llama_warden_events::{
    BootId, Envelope, Event, FailureReason, HookOutcome, HookPoint, Incarnation, ProcessEnd, ReadyVia, Seq, ServerId,
    StopReason, Timestamp, Uptime,
};
use llama_warden_state::Snapshot;
use tokio::sync::watch;

const BOOT: BootId = BootId::from_random(1);

fn tracker() -> LaunchTracker<u32> {
    LaunchTracker::new(watch::channel(fleet("[[servers]]\nid = \"a\"\nmodel = \"/m.gguf\"")).1)
}

fn id() -> ServerId {
    server("a")
}

/// Numbers events and keeps the snapshot that contains them.
struct Line {
    snapshot: Snapshot,
    envelopes: Vec<Arc<Envelope>>,
    /// The snapshot after each event.
    snapshots: Vec<Arc<Snapshot>>,
}

impl Line {
    fn new() -> Self {
        let mut line = Self { snapshot: Snapshot::new(BOOT), envelopes: Vec::new(), snapshots: Vec::new() };
        line.push(None, Event::ServerConfigured { card: card(&id()).into() });
        line
    }

    fn push(&mut self, launch: Option<u64>, event: Event) -> Delivery {
        let seq = self.snapshot.seq.next();
        let envelope = Arc::new(Envelope {
            seq,
            boot: BOOT,
            at: Timestamp::new("2026-11-26T12:00:00Z".parse().expect("valid")),
            elapsed: Uptime::new(Duration::from_secs(seq.get())),
            server: Some(id()),
            incarnation: launch.map(Incarnation::new),
            cause: None,
            event,
        });
        self.snapshot.apply(&envelope);
        self.envelopes.push(envelope.clone());
        self.snapshots.push(Arc::new(self.snapshot.clone()));
        Delivery::Event(envelope)
    }
}

/// Three launches: one that is stopped, one that fails before it has a process, and one that loses its readiness.
fn three_lives() -> Line {
    let mut line = Line::new();
    let spawned = |pid| Event::ServerSpawned { pid, start_ticks: 7, argv: [].into(), port: 8001 };
    let ready = || Event::ReadyReached { via: ReadyVia::Health, startup_seconds: 1.0 };
    let failed = |reason| Event::ServerFailed { reason, detail: String::new(), lines: Vec::new() };
    let hook = |hook| Event::HookCompleted { hook, outcome: HookOutcome::Succeeded, seconds: 0.1 };
    let events = [
        (1, Event::LaunchBegan { binary: "llama-server".into() }),
        (1, hook(HookPoint::PreStart)),
        (1, spawned(10)),
        (1, ready()),
        (1, Event::StopBegan { reason: StopReason::Requested, grace_seconds: 10.0 }),
        (1, hook(HookPoint::PreStop)),
        (1, Event::ServerExited { end: ProcessEnd::Exited { code: 0 }, swept: 0 }),
        (2, Event::LaunchBegan { binary: "llama-server".into() }),
        (2, failed(FailureReason::PortInUse)),
        (3, Event::LaunchBegan { binary: "llama-server".into() }),
        (3, spawned(30)),
        (3, ready()),
        (3, Event::ReadyLost { detail: "503".to_owned() }),
        (3, Event::ReadyRegained),
        (3, failed(FailureReason::Unresponsive)),
        (3, Event::StopBegan { reason: StopReason::Failed, grace_seconds: 10.0 }),
    ];
    for (launch, event) in events {
        line.push(Some(launch), event);
    }
    assert_eq!(line.snapshot.anomalies, 0, "the lives are possible ones");
    line
}

/// A transition by its name, and the launch that it is about.
fn named(changes: &[LaunchChange<u32>]) -> Vec<String> {
    let name = |change: &LaunchChange<u32>| {
        let step = match &change.transition {
            Transition::Began => "began".to_owned(),
            Transition::Spawned(process) => format!("spawned {}", process.pid),
            Transition::BecameReady(_) => "ready".to_owned(),
            Transition::ReadyLost => "lost".to_owned(),
            Transition::ReadyRegained => "regained".to_owned(),
            Transition::HookCompleted(hook, _) => hook.to_string(),
            Transition::StopBegan(_) => "stop".to_owned(),
            Transition::Failed(_) => "failed".to_owned(),
            Transition::Ended { .. } => "ended".to_owned(),
            Transition::Removed => "removed".to_owned(),
        };
        format!("{} {step}", change.incarnation)
    };
    changes.iter().map(name).collect()
}

#[test]
fn events_become_transitions_in_the_order_of_a_life() {
    let mut tracker = tracker();
    let line = three_lives();
    let deliveries = line.envelopes.iter().cloned().map(Delivery::Event);
    let changes: Vec<_> = deliveries.flat_map(|delivery| tracker.on_event(&delivery)).collect();
    let expected = [
        "1 began",
        "1 pre-start",
        "1 spawned 10",
        "1 ready",
        "1 stop",
        "1 pre-stop",
        "1 ended",
        "2 began",
        "2 failed",
        "2 ended",
        "3 began",
        "3 spawned 30",
        "3 ready",
        "3 lost",
        "3 regained",
        "3 failed",
        "3 stop",
    ];
    assert_eq!(named(&changes), expected);
}

/// What a component sees of a launch that is not over.
fn seen(tracker: &LaunchTracker<u32>) -> String {
    let view = |launch: &TrackedLaunch<u32>| match launch.is_over {
        true => format!("{} over", launch.incarnation),
        false => format!(
            "{} {:?} {:?} {:?} {:?} {}",
            launch.incarnation,
            launch.process,
            launch.readiness,
            launch.stop,
            launch.failure,
            launch.spec.is_some()
        ),
    };
    tracker.get(&id()).map(view).unwrap_or_default()
}

#[test]
fn a_gap_anywhere_ends_in_the_same_state_and_says_nothing_twice() {
    let line = three_lives();
    let count = line.envelopes.len();
    for from in 0..count {
        for upto in from + 1..=count {
            let (mut by_events, mut with_gap) = (tracker(), tracker());
            let mut all = Vec::new();
            for envelope in &line.envelopes[..upto] {
                by_events.on_event(&Delivery::Event(envelope.clone()));
            }
            for envelope in &line.envelopes[..from] {
                all.extend(with_gap.on_event(&Delivery::Event(envelope.clone())));
            }
            let gap = Delivery::Gap { missed: (upto - from) as u64, snapshot: line.snapshots[upto - 1].clone() };
            all.extend(with_gap.on_event(&gap));
            assert_eq!(seen(&with_gap), seen(&by_events), "events {from}..{upto} are missed");
            for envelope in &line.envelopes[upto..] {
                all.extend(with_gap.on_event(&Delivery::Event(envelope.clone())));
            }
            let mut names = named(&all);
            let launches: Vec<_> = all.iter().map(|change| change.incarnation).collect();
            assert!(launches.is_sorted(), "a former launch comes first: {names:?}");
            // Readiness may be lost and regained more than once; everything else happens once.
            names.retain(|name| !name.ends_with("lost") && !name.ends_with("regained"));
            let total = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), total, "events {from}..{upto} are missed: {names:?}");
        }
    }
}

#[test]
fn the_end_of_a_launch_hands_its_state_out_also_where_a_gap_swallowed_it() {
    let line = three_lives();
    for delivery in
        [Delivery::Event(line.envelopes[7].clone()), Delivery::Gap { missed: 6, snapshot: line.snapshots[10].clone() }]
    {
        let mut tracker = tracker();
        for envelope in &line.envelopes[..4] {
            tracker.on_event(&Delivery::Event(envelope.clone()));
        }
        tracker.launch_mut(&id(), Incarnation::new(1)).expect("tracked").state = 42;
        let delivery = match delivery {
            Delivery::Event(envelope) => tracker.on_event(&Delivery::Event(envelope)),
            gap => tracker.on_event(&gap),
        };
        let ended = delivery.into_iter().find_map(|change| match change.transition {
            Transition::Ended { launch, .. } if change.incarnation == Incarnation::new(1) => Some(launch),
            _ => None,
        });
        let launch = ended.expect("the first launch ended");
        assert_eq!((launch.state, launch.process.map(|process| process.pid)), (42, Some(10)));
    }
}

#[test]
fn an_event_about_a_launch_that_is_not_the_latest_says_nothing() {
    let line = three_lives();
    let mut tracker = tracker();
    for envelope in &line.envelopes[..12] {
        tracker.on_event(&Delivery::Event(envelope.clone()));
    }
    let before = seen(&tracker);
    for stale in &line.envelopes[1..9] {
        assert!(tracker.on_event(&Delivery::Event(stale.clone())).is_empty(), "{stale:?}");
    }
    assert_eq!(seen(&tracker), before);
}

#[test]
fn a_command_may_name_a_launch_before_its_event_comes_and_not_one_that_is_over() {
    let mut tracker = tracker();
    let mut line = Line::new();
    assert!(tracker.track(&id(), Incarnation::new(1)).is_some(), "it is about to begin");
    let began = line.push(Some(1), Event::LaunchBegan { binary: "llama-server".into() });
    tracker.on_event(&began);
    let failed = Event::ServerFailed { reason: FailureReason::PortInUse, detail: String::new(), lines: Vec::new() };
    tracker.on_event(&line.push(Some(1), failed));
    assert!(tracker.track(&id(), Incarnation::new(1)).is_none(), "it is over");
    // A snapshot from before the launch that a command named does not take it away.
    assert!(tracker.track(&id(), Incarnation::new(2)).is_some());
    let gap = Delivery::Gap { missed: 1, snapshot: line.snapshots.last().expect("one").clone() };
    assert!(tracker.on_event(&gap).is_empty());
    assert_eq!(tracker.get(&id()).map(|launch| launch.incarnation), Some(Incarnation::new(2)));
}

#[test]
fn a_launch_does_not_outlive_the_removal_of_its_server() {
    // Every event is read, or the last three are missed.
    for read in [5, 2] {
        let mut tracker = tracker();
        let mut line = Line::new();
        line.push(Some(1), Event::LaunchBegan { binary: "llama-server".into() });
        line.push(Some(1), Event::ServerExited { end: ProcessEnd::Exited { code: 0 }, swept: 0 });
        line.push(None, Event::ServerRemoved);
        line.push(None, Event::ServerConfigured { card: card(&id()).into() });
        for envelope in &line.envelopes[..read] {
            tracker.on_event(&Delivery::Event(envelope.clone()));
        }
        if read < line.envelopes.len() {
            let gap = Delivery::Gap { missed: 3, snapshot: line.snapshots.last().expect("some").clone() };
            let changes = tracker.on_event(&gap);
            assert!(matches!(changes[0].transition, Transition::Ended { .. }), "{changes:?}");
        }
        assert!(tracker.get(&id()).is_none());
        assert!(tracker.track(&id(), Incarnation::new(1)).is_none(), "a command that names it comes too late");
        assert!(tracker.track(&id(), Incarnation::new(2)).is_some(), "its successor is about to begin");
    }
}

#[test]
fn a_launch_keeps_the_specification_that_it_began_with() {
    let (configure, configured) = watch::channel(fleet("[[servers]]\nid = \"a\"\nmodel = \"/old.gguf\""));
    let mut tracker = LaunchTracker::<()>::new(configured);
    let mut line = Line::new();
    tracker.on_event(&line.push(Some(1), Event::LaunchBegan { binary: "llama-server".into() }));
    let model = |spec: Option<Arc<llama_warden_config::ServerSpec>>| spec.map(|spec| spec.model.display().to_string());
    configure.send_replace(fleet("[[servers]]\nid = \"a\"\nmodel = \"/new.gguf\""));
    let launch = tracker.get(&id()).expect("tracked");
    assert_eq!(model(launch.spec.clone()).as_deref(), Some("/old.gguf"));
    assert_eq!(model(tracker.spec(&id())).as_deref(), Some("/new.gguf"));
    configure.send_replace(Fleet::default());
    assert_eq!(model(tracker.spec(&id())).as_deref(), Some("/old.gguf"), "it runs on after it left the configuration");
}

#[test]
fn a_server_that_is_removed_ends_its_launch_and_is_forgotten() {
    let line = three_lives();
    let mut tracker = tracker();
    for envelope in &line.envelopes {
        tracker.on_event(&Delivery::Event(envelope.clone()));
    }
    let empty = Snapshot { seq: Seq::new(99), ..Snapshot::new(BOOT) };
    let changes = tracker.on_event(&Delivery::Gap { missed: 1, snapshot: Arc::new(empty) });
    assert_eq!(named(&changes), ["3 ended", "3 removed"]);
    assert!(tracker.get(&id()).is_none());
    let Some(LaunchChange { transition: Transition::Ended { end: None, .. }, .. }) = changes.first() else {
        panic!("how it ended was missed: {changes:?}");
    };
}
