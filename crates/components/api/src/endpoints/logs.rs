//! The log stream: the kept output of a server, then, if asked for, what it writes from now on.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use axum::routing::on;
use http::HeaderMap;
use llama_warden_api_types::LogRecord;
use llama_warden_bus::{Clock, EventDraft, FollowedLine, LogLine, OutputLane, Publisher, StreamFollower};
use llama_warden_events::{Event, ServerId, StreamName, Uptime};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::app::{App, KnownServer};
use crate::query::{StrictQuery, SwitchParameter, query_schema};
use crate::route::{Route, TEXT_BODY, UNKNOWN_SERVER, answer, body};
use crate::stream::{self, Encoding, RecordSource, json_line, sse_frame};

/// Most batches in the first piece of a stream. A ring of the usual size holds fewer; the limit is for a server that writes
/// faster than its lines are copied.
const FIRST_BATCHES: usize = 1024;

/// Shortest time between two `OutputLost` events of one reader, so that a slow reader cannot flood the event stream. If the
/// reader leaves before its next report, only the counters of the output lane contain its latest losses.
const REPORT_PAUSE: Duration = Duration::from_secs(1);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LogsQuery {
    /// Only this many of the latest kept lines; without it, all kept lines.
    tail: Option<usize>,
    /// Continue with new lines.
    #[serde(default)]
    follow: SwitchParameter,
    /// Only lines of this output stream.
    #[serde(default)]
    #[schemars(schema_with = "stream_schema")]
    stream: Option<StreamName>,
    /// Only lines of standard error behind the one of this `number`; a follower is told how many of them are no longer kept.
    after_stderr: Option<u64>,
    /// The same of standard output.
    after_stdout: Option<u64>,
}

impl LogsQuery {
    const fn after(&self, stream: StreamName) -> Option<u64> {
        match stream {
            StreamName::Stderr => self.after_stderr,
            StreamName::Stdout => self.after_stdout,
        }
    }
}

fn stream_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": StreamName::ALL })
}

pub(super) const LOGS: Route = Route {
    summary: "The output of a server: the kept lines, then new ones",
    query: Some(query_schema::<LogsQuery>),
    answers: &[
        answer(
            200,
            "Lines of text; or `line` and `lost` events with a record as data; or one JSON record per line.",
            &[TEXT_BODY, body::<LogRecord>(stream::SSE), body::<LogRecord>(stream::NDJSON)],
        ),
        UNKNOWN_SERVER,
    ],
    ..Route::get("getLogs", "/api/v1/servers/{id}/logs", |method| on(method, logs))
};

async fn logs(
    State(app): State<App>,
    KnownServer(server): KnownServer,
    StrictQuery(query): StrictQuery<LogsQuery>,
    headers: HeaderMap,
) -> Response {
    let encoding = Encoding::negotiate(&headers, Encoding::PlainLines);
    let tail = query.tail.unwrap_or(usize::MAX);
    let mut followers = Followers::default();
    let records = if query.follow.is_on() {
        followers = Followers::open(&app.lane, &server, &query);
        followers.kept(tail)
    } else {
        let is_new = |line: &LogLine| query.after(line.stream).is_none_or(|number| line.number > number);
        app.lane.tail(&server, query.stream, tail).into_iter().filter(is_new).map(line).collect()
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
    source.add_records(records);
    stream::respond(source, encoding, app.cancel.clone())
}

/// A follower per output stream of the server: none, one or both.
#[derive(Default)]
struct Followers {
    stderr: Option<StreamFollower>,
    stdout: Option<StreamFollower>,
}

impl Followers {
    fn open(lane: &OutputLane, server: &ServerId, query: &LogsQuery) -> Self {
        let open = |name| {
            let is_asked = query.stream.is_none_or(|stream| stream == name);
            is_asked.then(|| match query.after(name) {
                Some(number) => lane.follow_after(server, name, number),
                None => lane.follow(server, name, query.tail.unwrap_or(usize::MAX)),
            })
        };
        Self { stderr: open(StreamName::Stderr), stdout: open(StreamName::Stdout) }
    }

    /// The latest `most` records of what the followers have already, in the order in which the server wrote them.
    fn kept(&mut self, most: usize) -> Vec<LogRecord> {
        let mut kept = Vec::new();
        for _ in 0..FIRST_BATCHES {
            let batch = self.try_next();
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

    /// One batch of each stream, of what it has already.
    fn try_next(&mut self) -> Vec<LogRecord> {
        let mut records = Vec::new();
        for (stream, follower) in [(StreamName::Stderr, &mut self.stderr), (StreamName::Stdout, &mut self.stdout)] {
            let followed = follower.as_mut().map(StreamFollower::try_next).unwrap_or_default();
            records.extend(followed.into_iter().map(|followed| record(stream, followed)));
        }
        records
    }

    /// The next batch of either stream; `None` once both have ended. Safe to cancel.
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

/// The next batch of a stream, `None` at its end; never completes for a stream that is not followed.
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
    let LogLine { stream, order, number, incarnation, at, .. } = line;
    LogRecord::Line { stream, order, number, incarnation, at, line: text }
}

struct LogRecords {
    encoding: Encoding,
    followers: Followers,
    /// Records to be sent next.
    records: Vec<LogRecord>,
    /// Lost lines that no `OutputLost` event has reported yet.
    losses: BTreeMap<StreamName, u64>,
    /// Earliest time of the next report.
    report_from: Uptime,
    clock: Clock,
    server: ServerId,
    events: Publisher,
}

impl LogRecords {
    fn add_records(&mut self, records: Vec<LogRecord>) {
        for record in &records {
            if let LogRecord::Lost { stream, lost } = record {
                *self.losses.entry(*stream).or_default() += lost;
            }
        }
        self.records = records;
    }

    /// Publishes the losses. Safe to cancel: a loss is removed only after its event is published.
    async fn report_losses(&mut self) {
        while let Some((stream, lines)) = self.losses.first_key_value().map(|(stream, lines)| (*stream, *lines)) {
            let lost = Event::OutputLost { stream, consumer: "logs".to_owned(), lines };
            // A closed bus has no subscribers left; the reader sees the loss in its own stream.
            let _ = self.events.publish(EventDraft::server(self.server.clone(), lost)).await;
            self.losses.remove(&stream);
        }
        self.report_from = Uptime::new(self.clock.now().as_duration() + REPORT_PAUSE);
    }

    /// Encodes all added records; `None` if there are none.
    fn encode_added(&mut self) -> Option<Vec<u8>> {
        let records = std::mem::take(&mut self.records);
        (!records.is_empty()).then(|| records.iter().flat_map(|record| encode(record, self.encoding)).collect())
    }
}

impl RecordSource for LogRecords {
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(bytes) = self.encode_added() {
                return Some(bytes);
            }
            let report_at = (!self.losses.is_empty()).then_some(self.report_from);
            // Biased: under a flood of lines the next batch is always ready, and the report must come all the same.
            let records = tokio::select! {
                biased;
                () = self.clock.sleep_until(report_at) => None,
                records = self.followers.next() => Some(records?),
            };
            match records {
                Some(records) => self.add_records(records),
                None => self.report_losses().await,
            }
        }
    }

    fn try_next(&mut self) -> Option<Vec<u8>> {
        self.encode_added().or_else(|| {
            let records = self.followers.try_next();
            self.add_records(records);
            self.encode_added()
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
