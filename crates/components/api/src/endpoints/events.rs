//! The event stream.
//!
//! It serves two kinds of readers. One that keeps a state and follows gets each gap with the state at its end, and the
//! events after that state. One that reads history (`follow=0`) gets the number of events that are no longer kept, then the
//! kept ones, then the end.

use axum::extract::State;
use axum::response::Response;
use axum::routing::on;
use http::HeaderMap;
use llama_warden_api_types::{ApiProblem, EventRecord, GapReport, StatusReport};
use llama_warden_bus::{Bus, Delivery, Subscription};
use llama_warden_events::{EventPosition, Seq};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::app::App;
use crate::problem::ProblemResponse;
use crate::query::{StrictQuery, SwitchParameter, query_schema};
use crate::route::{Route, answer, body};
use crate::stream::{self, Encoding, RecordSource, json_line, sse_frame};

/// The name of the subscription in the metrics.
const SUBSCRIBER: &str = "api";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    /// Begin after this event, as the header Last-Event-ID does: its id `BOOT:SEQ`, or its seq alone. Of another run of the daemon, or
    /// ahead: begin with a `gap`. Without both: new events only.
    since: Option<EventPosition>,
    /// 0 ends the stream after the kept events; otherwise it continues with new ones.
    #[serde(default = "SwitchParameter::on")]
    follow: SwitchParameter,
}

pub(super) const EVENTS: Route = Route {
    summary: "The event stream: id is BOOT:SEQ, event the type, data the envelope; `gap` stands for missing events",
    query: Some(query_schema::<EventsQuery>),
    answers: &[answer(
        200,
        "Server-Sent Events, or one JSON record per line.",
        &[body::<EventRecord>(stream::SSE), body::<EventRecord>(stream::NDJSON)],
    )],
    ..Route::get("getEvents", "/api/v1/events", |method| on(method, events))
};

async fn events(
    State(app): State<App>,
    StrictQuery(query): StrictQuery<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, ProblemResponse> {
    let encoding = match Encoding::negotiate(&headers, Encoding::EventStream) {
        Encoding::PlainLines => Encoding::EventStream,
        encoding => encoding,
    };
    // A browser that reconnects repeats the query and adds the header, which has the later number of the two.
    let since = last_event_id(&headers)?.or(query.since);
    let source = match (query.follow.is_on(), since) {
        (true, None) => EventRecords::following(&app.bus, app.bus.subscribe(SUBSCRIBER), encoding),
        (true, Some(since)) => EventRecords::following(&app.bus, app.bus.subscribe_after(SUBSCRIBER, since), encoding),
        (false, since) => EventRecords::kept(&app.bus, since.unwrap_or_default(), encoding),
    };
    Ok(stream::respond(source, encoding, app.cancel.clone()))
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<EventPosition>, ApiProblem> {
    let Some(value) = headers.get("last-event-id").filter(|value| !value.is_empty()) else { return Ok(None) };
    let position = value.to_str().ok().and_then(|text| text.parse().ok());
    position.map(Some).ok_or_else(|| ApiProblem::bad_query("Last-Event-ID is not the id of an event"))
}

struct EventRecords {
    bus: Bus,
    events: Subscription,
    encoding: Encoding,
    /// Events before the first one that are no longer kept; reported before any event, then `None`. 0 for a reader from another run.
    forgotten: Option<u64>,
    /// The last event to send; `None` follows without end.
    last: Option<Seq>,
}

impl EventRecords {
    fn following(bus: &Bus, events: Subscription, encoding: Encoding) -> Self {
        Self { bus: bus.clone(), events, encoding, forgotten: None, last: None }
    }

    fn kept(bus: &Bus, since: EventPosition, encoding: Encoding) -> Self {
        // The stream ends at the event that is the latest now, however many come while the client reads.
        let last = bus.snapshot().seq;
        let mut events = bus.subscribe_after(SUBSCRIBER, since);
        let forgotten = events.skip_forgotten();
        Self { bus: bus.clone(), events, encoding, forgotten, last: Some(last) }
    }

    /// The gap that comes before the first event, if there is one.
    fn first_gap(&mut self) -> Option<Vec<u8>> {
        let forgotten = self.forgotten.take()?;
        Some(self.encode_gap(forgotten, None))
    }

    fn try_next_delivery(&mut self) -> Option<Delivery> {
        match self.last {
            Some(last) if self.events.position() > last => None,
            _ => self.events.try_next(),
        }
    }

    fn encode(&self, delivery: Delivery) -> Vec<u8> {
        match delivery {
            Delivery::Event(envelope) => match self.encoding {
                Encoding::JsonLines => json_line(&*envelope),
                _ => sse_frame(envelope.event.kind(), Some(self.position(envelope.seq)), &*envelope),
            },
            Delivery::Gap { missed, snapshot } => {
                let report = StatusReport::of(&snapshot, self.bus.clock().now());
                self.encode_gap(missed, Some(report))
            }
        }
    }

    fn position(&self, seq: Seq) -> EventPosition {
        EventPosition { boot: Some(self.bus.snapshot().boot), seq }
    }

    fn encode_gap(&self, missed: u64, snapshot: Option<StatusReport>) -> Vec<u8> {
        let gap = GapReport { missed, snapshot };
        match self.encoding {
            Encoding::JsonLines => json_line(&EventRecord::Gap { gap }),
            // The id makes a client that reconnects after the gap continue behind the snapshot.
            _ => sse_frame("gap", gap.snapshot.as_ref().map(|snapshot| self.position(snapshot.seq)), &gap),
        }
    }
}

impl RecordSource for EventRecords {
    async fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(gap) = self.first_gap() {
            return Some(gap);
        }
        let delivery = match self.last {
            None => self.events.next().await?,
            Some(_) => self.try_next_delivery()?,
        };
        Some(self.encode(delivery))
    }

    fn try_next(&mut self) -> Option<Vec<u8>> {
        self.first_gap().or_else(|| {
            let delivery = self.try_next_delivery()?;
            Some(self.encode(delivery))
        })
    }
}
