//! The event stream and the log stream.

#![expect(clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

mod common;

use common::{ApiFixture, Setup, id, within};
use llama_warden_api_types::{EventRecord, LogRecord};
use llama_warden_bus::EventDraft;
use llama_warden_client::{EventRange, LogOptions, LogPosition, Records};
use llama_warden_events::{BootId, Event, EventPosition, Incarnation, Seq, StreamName, Timestamp, Warning};
use serde::de::DeserializeOwned;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

async fn next<T: DeserializeOwned>(records: &mut Records<T>) -> Option<T> {
    within(records.next()).await.expect("the stream is sound")
}

async fn rest<T: DeserializeOwned>(mut records: Records<T>) -> Vec<T> {
    let mut rest = Vec::new();
    while let Some(record) = next(&mut records).await {
        rest.push(record);
    }
    rest
}

fn seqs(records: &[EventRecord]) -> Vec<u64> {
    let seq = |record: &EventRecord| match record {
        EventRecord::Envelope(envelope) => envelope.seq.get(),
        EventRecord::Gap { gap } => panic!("unexpected {gap:?}"),
    };
    records.iter().map(seq).collect()
}

async fn warn(daemon: &ApiFixture, times: usize) {
    for _ in 0..times {
        let event = Event::ServerWarned { warning: Warning::OptionDropped, detail: "x".to_owned() };
        daemon.publish(EventDraft::server(id("good"), event)).await;
    }
}

#[tokio::test]
async fn without_following_the_kept_events_come_and_then_the_end() {
    let daemon = ApiFixture::start().await;
    let all = rest(daemon.over_socket().events(EventRange::Kept(Seq::new(0).into())).await.expect("streams")).await;
    assert_eq!(seqs(&all), [1, 2, 3, 4, 5, 6]);
    let later = rest(daemon.over_tcp().events(EventRange::Kept(Seq::new(3).into())).await.expect("streams")).await;
    assert_eq!(seqs(&later), [4, 5, 6]);
    daemon.end().await;
}

#[tokio::test]
async fn a_follower_resumes_after_what_it_has_and_goes_on() {
    let daemon = ApiFixture::start().await;
    let mut events = daemon.over_tcp().events(EventRange::After(Seq::new(5).into())).await.expect("streams");
    let mut new = daemon.over_tcp().events(EventRange::New).await.expect("streams");
    let kept = next(&mut events).await.expect("kept");
    warn(&daemon, 1).await;
    let came = next(&mut events).await.expect("came");
    assert_eq!(seqs(&[kept, came]), [6, 7]);
    assert_eq!(seqs(&[next(&mut new).await.expect("came")]), [7]);
    daemon.end().await;
}

#[tokio::test]
async fn an_event_has_its_seq_as_id_its_type_and_its_envelope() {
    let daemon = ApiFixture::start().await;
    let answer = daemon.ask("GET /api/v1/events?follow=0&since=1", &["Last-Event-ID: 5"]).await;
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let lines: Vec<_> = answer.body.lines().collect();
    let id = lines[0].strip_prefix("id: ").expect("an id");
    assert_eq!(lines[1], "event: DaemonStarted", "the header is the later of the two");
    let envelope: serde_json::Value =
        serde_json::from_str(lines[2].strip_prefix("data: ").expect("data")).expect("JSON");
    assert_eq!((envelope["seq"].as_u64(), envelope["event"]["type"].as_str()), (Some(6), Some("DaemonStarted")));
    assert_eq!(lines.len(), 4, "one event and the blank line that ends it");
    assert_eq!(id, format!("{}:6", envelope["boot"].as_str().expect("a run")));
    let resumed = daemon.ask("GET /api/v1/events?follow=0", &[&format!("Last-Event-ID: {id}")]).await;
    assert_eq!(resumed.body, "", "nothing came after it");
    assert_eq!(daemon.ask("GET /api/v1/events", &["Last-Event-ID: x"]).await.status, 400);
    daemon.end().await;
}

/// Fault S33.
#[tokio::test]
async fn a_follower_that_fell_behind_gets_a_gap_with_the_state() {
    let daemon = ApiFixture::start_with(Setup { events_kept: 3, ..Setup::default() }).await;
    daemon.make_ready("good").await;
    let mut events = daemon.over_tcp().events(EventRange::After(Seq::new(2).into())).await.expect("streams");
    let Some(EventRecord::Gap { gap }) = next(&mut events).await else { panic!("no gap") };
    let snapshot = gap.snapshot.expect("the state that contains what is missing");
    assert_eq!((gap.missed, snapshot.seq, snapshot.ready_servers), (7, Seq::new(9), 1));
    warn(&daemon, 1).await;
    assert_eq!(seqs(&[next(&mut events).await.expect("came")]), [10], "what follows comes after the state");
    daemon.end().await;
}

#[tokio::test]
async fn a_position_of_another_run_or_ahead_is_a_gap_with_the_state_and_a_history_from_the_start() {
    let daemon = ApiFixture::start().await;
    let other = EventPosition { boot: Some(BootId::from_random(99)), seq: Seq::new(2) };
    for position in [other, Seq::new(900).into()] {
        let mut events = daemon.over_tcp().events(EventRange::After(position)).await.expect("streams");
        let Some(EventRecord::Gap { gap }) = next(&mut events).await else { panic!("no gap for {position}") };
        assert_eq!(gap.snapshot.expect("the state").seq, daemon.over_tcp().status().await.expect("answers").seq);
        let history = rest(daemon.over_tcp().events(EventRange::Kept(position)).await.expect("streams")).await;
        let (first, kept) = history.split_first().expect("something");
        assert!(matches!(first, EventRecord::Gap { gap } if gap.snapshot.is_none()), "{first:?}");
        assert_eq!(seqs(kept)[..2], [1, 2]);
    }
    daemon.end().await;
}

#[tokio::test]
async fn history_says_how_much_of_it_is_forgotten() {
    let daemon = ApiFixture::start_with(Setup { events_kept: 3, ..Setup::default() }).await;
    warn(&daemon, 5).await;
    let records = rest(daemon.over_tcp().events(EventRange::Kept(Seq::new(0).into())).await.expect("streams")).await;
    let (first, kept) = records.split_first().expect("something");
    assert!(matches!(first, EventRecord::Gap { gap } if gap.missed == 8 && gap.snapshot.is_none()), "{first:?}");
    assert_eq!(seqs(kept), [9, 10, 11]);
    daemon.end().await;
}

#[tokio::test]
async fn logs_are_the_latest_lines_in_the_order_of_writing() {
    let daemon = ApiFixture::start().await;
    daemon.write("good", StreamName::Stderr, &[b"one", b"tw\xffo"]);
    daemon.write("good", StreamName::Stdout, &[b"three", b"\x1b[31mfour\r"]);
    let all = daemon.ask("GET /api/v1/servers/good/logs", &[]).await;
    assert_eq!((all.status, all.header("content-type")), (200, Some("text/plain; charset=utf-8")));
    assert_eq!(all.body, "one\ntw\u{fffd}o\nthree\n\u{1b}[31mfour\r\n");
    assert_eq!(
        daemon.ask("GET /api/v1/servers/good/logs?tail=3", &[]).await.body,
        "tw\u{fffd}o\nthree\n\u{1b}[31mfour\r\n"
    );
    assert_eq!(daemon.ask("GET /api/v1/servers/good/logs?tail=1&stream=stderr", &[]).await.body, "tw\u{fffd}o\n");
    assert_eq!(daemon.ask("GET /api/v1/servers/good/logs?tail=0", &[]).await.body, "");
    assert_eq!(daemon.ask("GET /api/v1/servers/slow/logs", &[]).await.body, "", "it wrote nothing");
    let events = daemon.ask("GET /api/v1/servers/good/logs?tail=1", &["Accept: text/event-stream"]).await;
    assert_eq!(events.header("content-type"), Some("text/event-stream"));
    let (head, rest) = events.body.split_once("\"at\":\"").expect("a time");
    assert_eq!(head, "event: line\ndata: {\"stream\":\"stdout\",\"order\":3,\"number\":1,\"incarnation\":1,");
    let (at, rest) = rest.split_once('"').expect("its end");
    assert!(serde_json::from_value::<Timestamp>(at.into()).is_ok() && at.ends_with('Z'), "{at}");
    assert_eq!(rest, ",\"line\":\"\\u001b[31mfour\\r\"}\n\n");
    daemon.end().await;
}

#[tokio::test]
async fn a_follower_of_logs_gets_the_kept_lines_once_and_then_what_comes() {
    let daemon = ApiFixture::start().await;
    daemon.write("good", StreamName::Stderr, &[b"old", b"one"]);
    daemon.write("good", StreamName::Stdout, &[b"two"]);
    let options = LogOptions { tail: Some(2), follow: true, ..LogOptions::default() };
    let mut records = daemon.over_socket().logs(&id("good"), options).await.expect("streams");
    let mut latest = None;
    for (number, name, text) in
        [(1, StreamName::Stderr, "one"), (2, StreamName::Stdout, "two"), (3, StreamName::Stderr, "three")]
    {
        if number == 3 {
            daemon.write("good", name, &[b"three"]);
        }
        let Some(LogRecord::Line { stream, order, incarnation, at, line, .. }) = next(&mut records).await else {
            panic!("no line")
        };
        assert_eq!((stream, order, incarnation, &*line), (name, number, Incarnation::new(1), text));
        assert!(latest.replace(at).is_none_or(|before| before <= at), "{text}: the time at which it was read");
    }
    daemon.end().await;
}

#[tokio::test]
async fn lines_that_a_slow_reader_lost_are_told_to_it_and_to_all() {
    let mut daemon = ApiFixture::start().await;
    let options = LogOptions { follow: true, stream: Some(StreamName::Stdout), ..LogOptions::default() };
    let mut records = daemon.over_tcp().logs(&id("good"), options).await.expect("streams");
    daemon.write("good", StreamName::Stdout, &[b"begin"]);
    assert!(matches!(next(&mut records).await, Some(LogRecord::Line { order: 0, .. })));
    // On this runtime of one thread no client reads while these are written, and the ring holds some forty of them.
    let line = [b'x'; 90];
    daemon.write("good", StreamName::Stdout, &vec![&line[..]; 1000]);
    let Some(LogRecord::Lost { stream: StreamName::Stdout, lost }) = next(&mut records).await else {
        panic!("the loss is silent")
    };
    let Some(LogRecord::Line { order, .. }) = next(&mut records).await else { panic!("no line after the loss") };
    assert_eq!(order, lost + 1, "what is told as lost is what is missing");
    let event = daemon.bus.wait_for(|event| matches!(event, Event::OutputLost { .. })).await;
    assert_eq!((event.server.as_ref(), event.incarnation), (Some(&id("good")), None::<Incarnation>));
    let told = Event::OutputLost { stream: StreamName::Stdout, consumer: "logs".to_owned(), lines: lost };
    assert_eq!(event.event, told);
    daemon.end().await;
}

#[tokio::test]
async fn a_follower_that_comes_back_is_told_what_it_lost_meanwhile() {
    let daemon = ApiFixture::start().await;
    daemon.write("good", StreamName::Stderr, &[b"seen", b"kept"]);
    daemon.write("good", StreamName::Stdout, &[b"other"]);
    let after = LogPosition { stderr: Some(0), stdout: Some(0) };
    let options = LogOptions { follow: true, after, ..LogOptions::default() };
    let mut whole = daemon.over_socket().logs(&id("good"), options).await.expect("streams");
    assert!(matches!(next(&mut whole).await, Some(LogRecord::Line { line, .. }) if line == "kept"));
    drop(whole);
    // The ring holds some forty of them.
    daemon.write("good", StreamName::Stderr, &vec![&[b'x'; 90][..]; 1000]);
    let mut gap = daemon.over_socket().logs(&id("good"), options).await.expect("streams");
    let Some(LogRecord::Lost { stream: StreamName::Stderr, lost }) = next(&mut gap).await else {
        panic!("the loss is silent")
    };
    let Some(LogRecord::Line { number, .. }) = next(&mut gap).await else { panic!("no line after the loss") };
    assert_eq!(number, lost + 1, "what is told as lost is what is missing");
    let path = "GET /api/v1/servers/good/logs?after_stderr=1001&after_stdout=7";
    assert_eq!(daemon.ask(path, &[]).await.body, "", "a position that is not reached yet");
    daemon.end().await;
}

#[tokio::test]
async fn at_the_end_a_follower_still_gets_every_event_and_then_a_clean_end() {
    for _ in 0..50 {
        let daemon = ApiFixture::start().await;
        let followers = [daemon.over_tcp(), daemon.over_socket()];
        let mut streams = Vec::new();
        for follower in followers {
            streams.push(follower.events(EventRange::After(Seq::new(0).into())).await.expect("streams"));
        }
        // On this runtime of one thread no client reads between the last event and the end.
        warn(&daemon, 300).await;
        let stopped = Event::DaemonStopped { survivors: Vec::new() };
        daemon.publish(EventDraft::daemon(stopped.clone())).await;
        daemon.begin_end();
        let (over_tcp, over_socket, ()) = tokio::join!(rest(streams.remove(0)), rest(streams.remove(0)), daemon.end());
        for records in [over_tcp, over_socket] {
            assert_eq!(seqs(&records), (1..=307).collect::<Vec<_>>());
            assert!(matches!(records.last(), Some(EventRecord::Envelope(last)) if last.event == stopped));
        }
    }
}

#[tokio::test]
async fn at_the_end_a_follower_of_logs_still_gets_every_line() {
    let daemon = ApiFixture::start().await;
    let follow = |stream| LogOptions { follow: true, stream, ..LogOptions::default() };
    let mut stderr = daemon.over_tcp().logs(&id("good"), follow(Some(StreamName::Stderr))).await.expect("streams");
    daemon.write("good", StreamName::Stderr, &[b"first"]);
    next(&mut stderr).await.expect("came");
    let both = daemon.over_tcp().logs(&id("good"), follow(None)).await.expect("streams");
    daemon.write("good", StreamName::Stderr, &[&b"x"[..]; 40]);
    daemon.write("good", StreamName::Stdout, &[b"last"]);
    daemon.begin_end();
    let (stderr, both, ()) = tokio::join!(rest(stderr), rest(both), daemon.end());
    let orders = |records: &[LogRecord]| -> Vec<u64> {
        let order = |record: &LogRecord| match record {
            LogRecord::Line { order, .. } => *order,
            LogRecord::Lost { .. } => panic!("unexpected {record:?}"),
        };
        let mut orders: Vec<_> = records.iter().map(order).collect();
        orders.sort_unstable();
        orders
    };
    assert_eq!(orders(&stderr), (1..=40).collect::<Vec<_>>());
    assert_eq!(orders(&both), (0..=41).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_follower_that_never_reads_does_not_hold_up_the_end() {
    let daemon = ApiFixture::start_with(Setup { events_kept: 100_000, ..Setup::default() }).await;
    let mut stalled = TcpStream::connect(daemon.tcp).await.expect("connects");
    let request = format!("GET /api/v1/events?since=0 HTTP/1.1\r\nHost: {}\r\n\r\n", daemon.tcp);
    stalled.write_all(request.as_bytes()).await.expect("written");
    // More than the kernel takes for a client that does not read.
    let detail = "x".repeat(10_000);
    for _ in 0..2000 {
        let event = Event::ServerWarned { warning: Warning::OptionDropped, detail: detail.clone() };
        daemon.publish(EventDraft::server(id("good"), event)).await;
    }
    daemon.end().await;
}
