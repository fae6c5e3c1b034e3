//! The output of a server: what is kept, then what comes.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use llama_warden_api_types::LogRecord;
use llama_warden_bus::{Clock, EventDraft, FollowedLine, LogLine, OutputLane, Publisher, StreamFollower};
use llama_warden_events::{Event, ServerId, StreamName, Uptime};
use serde::Deserialize;

use super::{App, KnownServer};
use crate::query::{StrictQuery, SwitchParameter};
use crate::stream::{self, Encoding, RecordSource, json_line, sse_frame};

/// Batches that may go into the first piece: more than a ring of the usual size holds, and a bound for a
/// server that writes faster than they are copied.
const FIRST_BATCHES: usize = 1024;

/// Shortest time between two reports of lost lines by one reader: events are no place for a flood. What a reader lost
/// after its last report is in the lane's counters only, if it leaves before the next.
const REPORT_PAUSE: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogsOptions {
    tail: Option<usize>,
    follow: Option<SwitchParameter>,
    stream: Option<StreamName>,
}

pub(crate) async fn logs(
    State(app): State<App>,
    KnownServer(server): KnownServer,
    StrictQuery(options): StrictQuery<LogsOptions>,
    headers: HeaderMap,
) -> Response {
    let encoding = Encoding::negotiate(&headers, Encoding::PlainLines);
    let tail = options.tail.unwrap_or(usize::MAX);
    let mut followers = Followers::default();
    let records = match options.follow {
        Some(SwitchParameter(true)) => {
            followers = Followers::open(&app.lane, &server, options.stream, tail);
            followers.kept(tail)
        }
        _ => app.lane.tail(&server, options.stream, tail).into_iter().map(line).collect(),
    };
    let mut source = LogRecords {
        encoding,
        followers,
        records: Vec::new(),
        losses: BTreeMap::new(),
        report_from: Uptime::default(),
        clock: app.bus.clock(),
        server,
        events: app.events.clone(),
    };
    source.take_in(records);
    stream::respond(source, encoding, app.cancel.clone())
}

/// The streams that are followed: none, one or both.
#[derive(Default)]
struct Followers {
    stderr: Option<StreamFollower>,
    stdout: Option<StreamFollower>,
}

impl Followers {
    fn open(lane: &OutputLane, server: &ServerId, stream: Option<StreamName>, tail: usize) -> Self {
        let open = |name| stream.is_none_or(|stream| stream == name).then(|| lane.follow(server, name, tail));
        Self { stderr: open(StreamName::Stderr), stdout: open(StreamName::Stdout) }
    }

    /// What is there already, in the order in which it was written; the latest `most` records of it.
    fn kept(&mut self, most: usize) -> Vec<LogRecord> {
        let mut kept = Vec::new();
        for _ in 0..FIRST_BATCHES {
            let batch = self.there();
            if batch.is_empty() {
                break;
            }
            kept.extend(batch);
        }
        kept.sort_by_key(|record| match record {
            LogRecord::Lost { .. } => None,
            LogRecord::Line { order, .. } => Some(*order),
        });
        let surplus = kept.len().saturating_sub(most);
        kept.drain(..surplus);
        kept
    }

    /// A batch of what is there already.
    fn there(&mut self) -> Vec<LogRecord> {
        let mut there = Vec::new();
        for (stream, follower) in [(StreamName::Stderr, &mut self.stderr), (StreamName::Stdout, &mut self.stdout)] {
            let followed = follower.as_mut().map(StreamFollower::try_next).unwrap_or_default();
            there.extend(followed.into_iter().map(|followed| record(stream, followed)));
        }
        there
    }

    /// What comes next; `None` where nothing is followed any more. Safe to cancel.
    async fn next(&mut self) -> Option<Vec<LogRecord>> {
        while self.stderr.is_some() || self.stdout.is_some() {
            tokio::select! {
                records = next_of(&mut self.stderr, StreamName::Stderr) => match records {
                    None => self.stderr = None,
                    records => return records,
                },
                records = next_of(&mut self.stdout, StreamName::Stdout) => match records {
                    None => self.stdout = None,
                    records => return records,
                },
            }
        }
        None
    }
}

/// The next records of a stream, `None` at its end; waits for ever where it is not followed.
async fn next_of(follower: &mut Option<StreamFollower>, stream: StreamName) -> Option<Vec<LogRecord>> {
    let Some(follower) = follower else { return std::future::pending().await };
    let followed = follower.next().await?;
    Some(followed.into_iter().map(|followed| record(stream, followed)).collect())
}

fn record(stream: StreamName, followed: FollowedLine) -> LogRecord {
    match followed {
        FollowedLine::Line(kept) => line(kept),
        FollowedLine::Lost { lines } => LogRecord::Lost { stream, lost: lines },
    }
}

fn line(line: LogLine) -> LogRecord {
    let text = String::from_utf8_lossy(&line.bytes).into_owned();
    LogRecord::Line { stream: line.stream, order: line.order, line: text }
}

struct LogRecords {
    encoding: Encoding,
    followers: Followers,
    /// Read and not sent.
    records: Vec<LogRecord>,
    /// Lines that were lost and not reported yet.
    losses: BTreeMap<StreamName, u64>,
    /// Not before this is the next loss reported.
    report_from: Uptime,
    clock: Clock,
    server: ServerId,
    events: Publisher,
}

impl LogRecords {
    fn take_in(&mut self, records: Vec<LogRecord>) {
        for record in &records {
            if let LogRecord::Lost { stream, lost } = record {
                *self.losses.entry(*stream).or_default() += lost;
            }
        }
        self.records = records;
    }

    /// Publishes what was lost. Safe to cancel: a loss is forgotten only after it is out.
    async fn report(&mut self) {
        while let Some((stream, lines)) = self.losses.first_key_value().map(|(stream, lines)| (*stream, *lines)) {
            let lost = Event::OutputLost { stream, consumer: "logs".to_owned(), lines };
            // On a closed bus nobody is left to be told; the reader of the log is, by the record.
            let _ = self.events.publish(EventDraft::server(self.server.clone(), lost)).await;
            self.losses.remove(&stream);
        }
        self.report_from = Uptime::new(self.clock.now().as_duration() + REPORT_PAUSE);
    }

    /// The records that were taken in, as a piece; `None` where there are none.
    fn piece(&mut self) -> Option<Vec<u8>> {
        let records = std::mem::take(&mut self.records);
        (!records.is_empty()).then(|| records.iter().flat_map(|record| encode(record, self.encoding)).collect())
    }
}

impl RecordSource for LogRecords {
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(piece) = self.piece() {
                return Some(piece);
            }
            let report_at = (!self.losses.is_empty()).then_some(self.report_from);
            // Biased: under a flood of lines there is always a next batch, and the report must come all the same.
            let records = tokio::select! {
                biased;
                () = self.clock.sleep_until(report_at) => None,
                records = self.followers.next() => Some(records?),
            };
            match records {
                Some(records) => self.take_in(records),
                None => self.report().await,
            }
        }
    }

    fn try_next(&mut self) -> Option<Vec<u8>> {
        self.piece().or_else(|| {
            let there = self.followers.there();
            self.take_in(there);
            self.piece()
        })
    }
}

fn encode(record: &LogRecord, encoding: Encoding) -> Vec<u8> {
    match (encoding, record) {
        (Encoding::EventStream, LogRecord::Line { .. }) => sse_frame("line", None, record),
        (Encoding::EventStream, LogRecord::Lost { .. }) => sse_frame("lost", None, record),
        (Encoding::JsonLines, record) => json_line(record),
        (Encoding::PlainLines, LogRecord::Line { line, .. }) => format!("{line}\n").into_bytes(),
        (Encoding::PlainLines, LogRecord::Lost { stream, lost }) => {
            format!("[{lost} lines of {stream} lost]\n").into_bytes()
        }
    }
}
