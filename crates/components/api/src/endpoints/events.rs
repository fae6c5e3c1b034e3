//! The events as a stream.
//!
//! Two readers use it. One keeps a state and follows: what it missed comes as a gap with the state that contains it,
//! and what follows comes after that state. The other one (`follow=0`) wants history: a gap only says how many events
//! are forgotten, and the events that are kept follow.

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use llama_warden_api_types::{ApiProblem, EventRecord, GapReport, StatusReport};
use llama_warden_bus::{Bus, Delivery, Subscription};
use llama_warden_events::Seq;
use serde::Deserialize;

use super::App;
use crate::problem::ProblemResponse;
use crate::query::{StrictQuery, SwitchParameter};
use crate::stream::{self, Encoding, RecordSource, json_line, sse_frame};

/// The name of the subscription, in the metrics.
const SUBSCRIBER: &str = "api";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventsOptions {
    since: Option<u64>,
    follow: Option<SwitchParameter>,
}

pub(crate) async fn events(
    State(app): State<App>,
    StrictQuery(options): StrictQuery<EventsOptions>,
    headers: HeaderMap,
) -> Result<Response, ProblemResponse> {
    let encoding = match Encoding::negotiate(&headers, Encoding::EventStream) {
        Encoding::PlainLines => Encoding::EventStream,
        encoding => encoding,
    };
    // A browser that reconnects repeats the query and adds the header, which is the later number of the two.
    let since = last_event_id(&headers)?.or(options.since);
    let follow = options.follow.is_none_or(|follow| follow.0);
    let source = match (follow, since) {
        (true, None) => EventRecords::following(&app.bus, app.bus.subscribe(SUBSCRIBER), encoding),
        (true, Some(since)) => {
            EventRecords::following(&app.bus, app.bus.subscribe_after(SUBSCRIBER, Seq::new(since)), encoding)
        }
        (false, since) => EventRecords::kept(&app.bus, Seq::new(since.unwrap_or_default()), encoding),
    };
    Ok(stream::respond(source, encoding, app.cancel.clone()))
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, ApiProblem> {
    let Some(value) = headers.get("last-event-id").filter(|value| !value.is_empty()) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| ApiProblem::bad_query("Last-Event-ID is not the id of an event"))
}

struct EventRecords {
    bus: Bus,
    events: Subscription,
    encoding: Encoding,
    /// Events that were forgotten before the first one that comes; told first.
    forgotten: u64,
    /// The last event that is sent; `None` to go on.
    last: Option<Seq>,
}

impl EventRecords {
    fn following(bus: &Bus, events: Subscription, encoding: Encoding) -> Self {
        Self { bus: bus.clone(), events, encoding, forgotten: 0, last: None }
    }

    fn kept(bus: &Bus, since: Seq, encoding: Encoding) -> Self {
        let last = bus.snapshot().seq;
        let mut events = bus.subscribe_after(SUBSCRIBER, since);
        let forgotten = events.skip_forgotten();
        Self { bus: bus.clone(), events, encoding, forgotten, last: Some(last) }
    }

    /// What is told before any event.
    fn foreword(&mut self) -> Option<Vec<u8>> {
        let forgotten = std::mem::take(&mut self.forgotten);
        (forgotten > 0).then(|| self.gap(forgotten, None))
    }

    fn there(&mut self) -> Option<Delivery> {
        match self.last {
            Some(last) if self.events.position() > last => None,
            _ => self.events.try_next(),
        }
    }

    fn piece(&self, delivery: Delivery) -> Vec<u8> {
        match delivery {
            Delivery::Event(envelope) => match self.encoding {
                Encoding::JsonLines => json_line(&*envelope),
                _ => sse_frame(envelope.event.kind(), Some(envelope.seq.get()), &*envelope),
            },
            Delivery::Gap { missed, snapshot } => {
                let report = StatusReport::of(&snapshot, self.bus.clock().now());
                self.gap(missed, Some(report))
            }
        }
    }

    fn gap(&self, missed: u64, snapshot: Option<StatusReport>) -> Vec<u8> {
        let gap = GapReport { missed, snapshot };
        match self.encoding {
            Encoding::JsonLines => json_line(&EventRecord::Gap { gap }),
            // Whoever reconnects after a gap has the state up to the snapshot.
            _ => sse_frame("gap", gap.snapshot.as_ref().map(|snapshot| snapshot.seq.get()), &gap),
        }
    }
}

impl RecordSource for EventRecords {
    async fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(foreword) = self.foreword() {
            return Some(foreword);
        }
        let delivery = match self.last {
            None => self.events.next().await?,
            Some(_) => self.there()?,
        };
        Some(self.piece(delivery))
    }

    fn try_next(&mut self) -> Option<Vec<u8>> {
        self.foreword().or_else(|| {
            let delivery = self.there()?;
            Some(self.piece(delivery))
        })
    }
}
