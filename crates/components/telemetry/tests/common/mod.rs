//! A collector that decodes what it gets, and a bus whose events are exported to it.

#![allow(unreachable_pub, dead_code, reason = "one module of several tests")]
#![expect(clippy::expect_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use llama_warden_bus::EventDraft;
use llama_warden_component_kit::{TestBus, server};
use llama_warden_events::{Event, Incarnation, Seq};
use llama_warden_telemetry::{ExportError, ExportSettings, ExportSource, Exports, Telemetry};
use llama_warden_traffic::FinishedRequests;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode as SpanStatus};
use prost::Message;
use tokio::net::TcpListener;

/// Enough for any machine; only a failing test uses it up.
pub const AMPLE: Duration = Duration::from_secs(20);

/// What a collector has got.
#[derive(Debug, Default)]
pub struct Received {
    pub traces: Vec<ExportTraceServiceRequest>,
    pub metrics: Vec<ExportMetricsServiceRequest>,
    pub logs: Vec<ExportLogsServiceRequest>,
    pub headers: Vec<HeaderMap>,
}

type Shared = Arc<Mutex<Received>>;

/// A collector on a port of its own that decodes what it gets and gives the configured answer.
pub struct Collector {
    pub endpoint: String,
    pub received: Shared,
}

impl Collector {
    pub async fn start(answer: StatusCode) -> Self {
        let received = Shared::default();
        let traces = move |State(received): State<Shared>, headers: HeaderMap, body: Bytes| async move {
            let mut received = received.lock().expect("whole");
            received.traces.push(ExportTraceServiceRequest::decode(body).expect("is OTLP"));
            received.headers.push(headers);
            answer
        };
        let metrics = move |State(received): State<Shared>, body: Bytes| async move {
            let request = ExportMetricsServiceRequest::decode(body).expect("is OTLP");
            received.lock().expect("whole").metrics.push(request);
            answer
        };
        let logs = move |State(received): State<Shared>, body: Bytes| async move {
            received.lock().expect("whole").logs.push(ExportLogsServiceRequest::decode(body).expect("is OTLP"));
            answer
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let endpoint = format!("http://{}", listener.local_addr().expect("is bound"));
        let router = Router::new()
            .route("/v1/traces", post(traces))
            .route("/v1/metrics", post(metrics))
            .route("/v1/logs", post(logs))
            .with_state(received.clone());
        tokio::spawn(axum::serve(listener, router).into_future());
        Self { endpoint, received }
    }

    pub fn spans(&self) -> BTreeMap<String, Span> {
        let received = self.received.lock().expect("whole");
        let spans = received.traces.iter().flat_map(|request| &request.resource_spans);
        let scopes = spans.flat_map(|spans| &spans.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).map(|span| (span.name.clone(), span)).collect()
    }

    /// The latest state of each metric.
    pub fn metrics(&self) -> BTreeMap<String, Metric> {
        let received = self.received.lock().expect("whole");
        let metrics = received.metrics.iter().flat_map(|request| &request.resource_metrics);
        let scopes = metrics.flat_map(|metrics| &metrics.scope_metrics);
        scopes.flat_map(|scope| scope.metrics.clone()).map(|metric| (metric.name.clone(), metric)).collect()
    }

    /// Log records by the name of the event.
    pub fn logs(&self) -> BTreeMap<String, LogRecord> {
        let received = self.received.lock().expect("whole");
        let logs = received.logs.iter().flat_map(|request| &request.resource_logs);
        let scopes = logs.flat_map(|logs| &logs.scope_logs);
        scopes.flat_map(|scope| scope.log_records.clone()).map(|record| (record.event_name.clone(), record)).collect()
    }
}

/// A bus whose events are exported.
pub struct Run {
    pub bus: TestBus,
    exports: Exports,
}

impl Run {
    /// Exports all signals to `endpoint`, with further variables.
    pub fn start(endpoint: &str, variables: &[(&str, &str)]) -> Self {
        let lookup = |name: &str| match name {
            "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.to_owned()),
            _ => variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
        };
        let settings = ExportSettings::from_lookup(lookup);
        assert_eq!(settings.problems(), []);
        let bus = TestBus::new();
        let source = ExportSource { version: "1.2.3", bus: bus.bus().clone() };
        let (exports, errors) = Exports::start(&settings, &source);
        assert!(errors.is_empty(), "{errors:?}");
        Self { bus, exports }
    }

    /// Plays events about the first launch of the server `a` to the component, lets it end, and closes the connection.
    pub async fn play(self, events: impl IntoIterator<Item = Event>, bound: Duration) -> Vec<ExportError> {
        self.play_with(events, None, std::future::ready(()), bound).await
    }

    /// The same with requests, which `ask` makes behind the events.
    pub async fn play_with(
        mut self,
        events: impl IntoIterator<Item = Event>,
        requests: Option<FinishedRequests>,
        ask: impl Future<Output = ()>,
        bound: Duration,
    ) -> Vec<ExportError> {
        let telemetry = Telemetry::build(&self.bus.context(""), Some(self.exports.recorder()), requests);
        let component = self.bus.run(telemetry);
        let server = server("a");
        self.bus.configure(&server).await;
        let mut command = None::<Seq>;
        for event in events {
            let draft = match &event {
                Event::CommandAccepted { .. } => EventDraft::server(server.clone(), event),
                Event::CommandCompleted { .. } => EventDraft::server(server.clone(), event).because(command),
                _ => EventDraft::incarnation(server.clone(), Incarnation::new(1), event),
            };
            let is_command = matches!(draft.event, Event::CommandAccepted { .. });
            let seq = self.bus.publish(draft).await;
            command = command.or(is_command.then_some(seq));
        }
        ask.await;
        component.end().await;
        self.exports.finish(bound).await
    }
}

/// An attribute as text.
pub fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?.value.as_ref()?;
    Some(match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(truth) => truth.to_string(),
        Value::ArrayValue(array) => array
            .values
            .iter()
            .map(|item| match &item.value {
                Some(Value::StringValue(text)) => text.clone(),
                other => format!("{other:?}"),
            })
            .collect::<Vec<_>>()
            .join(" "),
        other => format!("{other:?}"),
    })
}

pub fn failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == SpanStatus::Error)
}
