//! The guarantees of the output lane.

#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use std::sync::{Arc, Mutex};

use llama_warden_bus::{FollowedLine, OutputKey, OutputLane, OutputTap, TapFactory, wall_time};
use llama_warden_events::{Incarnation, ServerId, StreamName};

fn key(stream: StreamName) -> OutputKey {
    OutputKey { server: ServerId::new("a").expect("valid"), incarnation: Incarnation::new(1), stream }
}

#[derive(Clone, Default)]
struct Recorder {
    lines: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl OutputTap for Recorder {
    fn on_line(&mut self, line: &[u8]) {
        self.lines.lock().expect("no panic").push(line.to_vec());
    }
}

impl TapFactory for Recorder {
    fn tap(&self, key: &OutputKey) -> Option<Box<dyn OutputTap>> {
        (key.stream == StreamName::Stderr).then(|| Box::new(self.clone()) as Box<dyn OutputTap>)
    }
}

#[test]
fn a_tap_sees_every_line_in_order_however_small_the_ring() {
    let lane = OutputLane::default();
    let recorder = Recorder::default();
    lane.register_taps(Arc::new(recorder.clone()));
    let mut stderr = lane.open(&key(StreamName::Stderr), 4096);
    let mut stdout = lane.open(&key(StreamName::Stdout), 4096);
    let expected: Vec<_> = (0..10_000).map(|number| format!("line {number} \u{fffd}").into_bytes()).collect();
    for line in &expected {
        stderr.push(wall_time(), line);
        stdout.push(wall_time(), b"not tapped");
    }
    assert_eq!(*recorder.lines.lock().expect("no panic"), expected);
}

#[tokio::test]
async fn a_follower_gets_every_line_or_is_told_how_many_it_lost() {
    let lane = OutputLane::default();
    let key = key(StreamName::Stderr);
    let mut follower = lane.follow(&key.server, key.stream, 0);
    let mut sink = lane.open(&key, 4096);
    let writer = tokio::task::spawn_blocking(move || {
        for number in 0..20_000 {
            sink.push(wall_time(), format!("{number}").as_bytes());
        }
    });
    let mut next = 0;
    while next < 20_000 {
        for line in follower.next().await.expect("configured") {
            match line {
                FollowedLine::Line(line) => {
                    assert_eq!(line.bytes, next.to_string().into_bytes());
                    next += 1;
                }
                FollowedLine::Lost { lines } => next += lines,
            }
        }
    }
    writer.await.expect("no panic");
    assert_eq!(lane.counters(&key.server, key.stream).lines, 20_000);
}

#[test]
fn the_tail_of_both_streams_is_in_the_order_of_writing() {
    let lane = OutputLane::default();
    let mut stderr = lane.open(&key(StreamName::Stderr), 4096);
    let mut stdout = lane.open(&key(StreamName::Stdout), 4096);
    stderr.push(wall_time(), b"one");
    stdout.push(wall_time(), b"two");
    stderr.push(wall_time(), b"three");
    let server = key(StreamName::Stderr).server;
    let text = |stream, most| {
        let lines = lane.tail(&server, stream, most);
        lines.into_iter().map(|line| String::from_utf8(line.bytes).expect("text")).collect::<Vec<_>>()
    };
    assert_eq!(text(None, 10), ["one", "two", "three"]);
    assert_eq!(text(None, 2), ["two", "three"]);
    assert_eq!(text(Some(StreamName::Stderr), 1), ["three"]);
}

#[tokio::test]
async fn a_follower_goes_on_across_launches() {
    let lane = OutputLane::default();
    let key = key(StreamName::Stderr);
    let mut first = lane.open(&key, 4096);
    first.push(wall_time(), b"first launch");
    drop(first);
    let mut follower = lane.follow(&key.server, key.stream, 10);
    let mut second = lane.open(&OutputKey { incarnation: Incarnation::new(2), ..key }, 4096);
    second.push(wall_time(), b"second launch");
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(follower.next().await.expect("configured"));
    }
    let bytes = |line: &FollowedLine| match line {
        FollowedLine::Line(line) => line.bytes.clone(),
        FollowedLine::Lost { .. } => panic!("nothing was lost"),
    };
    assert_eq!(seen.iter().map(bytes).collect::<Vec<_>>(), [b"first launch".to_vec(), b"second launch".to_vec()]);
}

#[tokio::test]
async fn who_follows_a_server_that_is_forgotten_gets_what_is_there_and_then_the_end() {
    let lane = OutputLane::default();
    let key = key(StreamName::Stderr);
    let mut reader = lane.follow(&key.server, key.stream, 0);
    let mut waiting = lane.follow(&key.server, key.stream, 0);
    let waits = tokio::spawn(async move { (waiting.next().await, waiting.next().await) });
    lane.open(&key, 4096).push(wall_time(), b"last");
    let server = key.server.clone();
    lane.retain(|known| *known != server);
    let (line, end) = waits.await.expect("no panic");
    assert!(line.is_some() && end.is_none(), "{line:?}, then {end:?}");
    assert_eq!(reader.next().await.expect("a line").len(), 1);
    assert_eq!(reader.next().await, None);
    assert!(lane.tail(&key.server, None, 10).is_empty());
    lane.open(&key, 4096).push(wall_time(), b"configured again");
    assert_eq!(lane.counters(&key.server, key.stream).lines, 1);
}
