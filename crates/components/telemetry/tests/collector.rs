//! Spans as a collector gets them.

#![expect(clippy::expect_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use llama_warden_bus::EventDraft;
use llama_warden_component_kit::{TestBus, server};
use llama_warden_events::{BootId, Event, FailureReason, Incarnation, ProcessEnd, ReadyVia, Rung, Signal, StopReason};
use llama_warden_telemetry::{Telemetry, Tracing, TracingError, TracingSettings};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode as SpanStatus};
use prost::Message;
use tokio::net::TcpListener;

/// Enough for any machine; only a failing test uses it up.
const AMPLE: Duration = Duration::from_secs(20);

/// A collector on a port of its own that decodes what it gets and gives the configured answer.
struct Collector {
    endpoint: String,
    requests: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

impl Collector {
    async fn start(answer: StatusCode) -> Self {
        let requests = Arc::<Mutex<Vec<_>>>::default();
        let received = requests.clone();
        let take = move |body: Bytes| async move {
            received.lock().expect("whole").push(ExportTraceServiceRequest::decode(body).expect("is OTLP"));
            answer
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let endpoint = format!("http://{}", listener.local_addr().expect("is bound"));
        let serve = axum::serve(listener, Router::new().route("/v1/traces", post(take)));
        tokio::spawn(serve.into_future());
        Self { endpoint, requests }
    }

    fn spans(&self) -> BTreeMap<String, Span> {
        let requests = self.requests.lock().expect("whole");
        let scopes = requests.iter().flat_map(|request| &request.resource_spans).flat_map(|spans| &spans.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).map(|span| (span.name.clone(), span)).collect()
    }
}

fn tracing(endpoint: &str) -> Tracing {
    let lookup = |name: &str| (name == "OTEL_EXPORTER_OTLP_ENDPOINT").then(|| endpoint.to_owned());
    let settings = TracingSettings::from_lookup(lookup).expect("valid").expect("on");
    Tracing::start(&settings, "1.2.3", &BootId::from_random(7)).expect("starts")
}

/// Plays events about one launch to the component and lets it end.
async fn play(tracing: &Tracing, events: impl IntoIterator<Item = Event>) {
    let mut bus = TestBus::new();
    let component = bus.run(Telemetry::new(Some(tracing.recorder())));
    let server = server("a");
    bus.configure(&server).await;
    for event in events {
        bus.publish(EventDraft::incarnation(server.clone(), Incarnation::new(1), event)).await;
    }
    component.end().await;
}

fn launch() -> [Event; 2] {
    let argv = ["/opt/llama-server", "--api-key", "<redacted>"].into();
    [
        Event::LaunchBegan { binary: "llama-server".into() },
        Event::ServerSpawned { pid: 4711, start_ticks: 9, argv, port: 8001 },
    ]
}

fn ready() -> Event {
    Event::ReadyReached { via: ReadyVia::Stderr, startup_seconds: 0.5 }
}

fn exit(code: u8) -> Event {
    Event::ServerExited { end: ProcessEnd::Exited { code }, swept: 0 }
}

/// An attribute as text.
fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
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

fn failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == SpanStatus::Error)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_launch_from_start_to_stop_is_one_trace() {
    let collector = Collector::start(StatusCode::OK).await;
    let tracing = tracing(&collector.endpoint);
    let rung = Rung { index: 0, signal: Signal::TERM };
    let stop = [
        ready(),
        Event::StopBegan { reason: StopReason::Requested, grace_seconds: 10.0 },
        Event::SignalDelivered { signal: Signal::TERM, rung },
        exit(0),
        Event::ServerStopped { reason: StopReason::Requested, forced: false, stop_seconds: 0.01 },
    ];
    play(&tracing, launch().into_iter().chain(stop)).await;
    tracing.finish(AMPLE).await.expect("everything arrives");

    let spans = collector.spans();
    assert_eq!(spans.keys().collect::<Vec<_>>(), ["launch", "load", "server start", "server stop"]);
    let start = &spans["server start"];
    assert!(start.parent_span_id.is_empty());
    for span in spans.values() {
        assert_eq!(span.trace_id, start.trace_id);
        assert!(span.name == start.name || span.parent_span_id == start.span_id, "{}", span.name);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano && !failed(span), "{}", span.name);
    }
    assert_eq!(spans["launch"].end_time_unix_nano, spans["load"].start_time_unix_nano);
    assert_eq!(spans["load"].end_time_unix_nano, start.end_time_unix_nano);
    assert!(spans["server stop"].start_time_unix_nano >= start.end_time_unix_nano);
    let described = [
        ("llama_warden.server.id", "a"),
        ("llama_warden.server.incarnation", "1"),
        ("llama_warden.ready.via", "stderr"),
        ("llama_warden.start.outcome", "ready"),
        ("process.pid", "4711"),
        ("process.executable.path", "/opt/llama-server"),
        ("process.command_args", "/opt/llama-server --api-key <redacted>"),
    ];
    for (key, value) in described {
        assert_eq!(attribute(&start.attributes, key).as_deref(), Some(value), "{key}");
    }
    let stop = &spans["server stop"];
    assert_eq!(attribute(&stop.attributes, "process.exit.code").as_deref(), Some("0"));
    assert_eq!(attribute(&stop.attributes, "llama_warden.stop.reason").as_deref(), Some("requested"));
    assert_eq!(stop.events.len(), 1);
    assert_eq!(attribute(&stop.events[0].attributes, "llama_warden.signal").as_deref(), Some("TERM"));

    let requests = collector.requests.lock().expect("whole");
    let resource = &requests[0].resource_spans[0].resource.as_ref().expect("is named").attributes;
    assert_eq!(attribute(resource, "service.name").as_deref(), Some("llama-warden"));
    assert_eq!(attribute(resource, "service.version").as_deref(), Some("1.2.3"));
    assert_eq!(attribute(resource, "service.instance.id").as_deref(), Some("0000000000000007"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_failed_is_an_error_with_its_reason() {
    let collector = Collector::start(StatusCode::OK).await;
    let tracing = tracing(&collector.endpoint);
    let detail = "the model file is cut off".to_owned();
    let failure = Event::ServerFailed { reason: FailureReason::ModelInvalid, detail: detail.clone(), lines: vec![] };
    play(&tracing, launch().into_iter().chain([exit(1), failure])).await;
    tracing.finish(AMPLE).await.expect("everything arrives");

    let spans = collector.spans();
    assert_eq!(spans.keys().collect::<Vec<_>>(), ["launch", "load", "server start"]);
    let (load, start) = (&spans["load"], &spans["server start"]);
    assert!(failed(load) && failed(start) && !failed(&spans["launch"]));
    assert_eq!(attribute(&load.attributes, "process.exit.code").as_deref(), Some("1"));
    assert_eq!(attribute(&start.attributes, "error.type").as_deref(), Some("model-invalid"));
    assert_eq!(start.status.as_ref().map(|status| status.message.clone()), Some(detail));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_nobody_asked_for_is_a_span_of_its_own() {
    let collector = Collector::start(StatusCode::OK).await;
    let tracing = tracing(&collector.endpoint);
    let killed =
        Event::ServerExited { end: ProcessEnd::Signaled { signal: Signal::KILL, core_dumped: false }, swept: 0 };
    play(&tracing, launch().into_iter().chain([ready(), killed])).await;
    tracing.finish(AMPLE).await.expect("everything arrives");
    let spans = collector.spans();
    let exit = &spans["server exit"];
    assert!(failed(exit) && !failed(&spans["server start"]));
    assert_eq!(exit.parent_span_id, spans["server start"].span_id);
    assert_eq!(attribute(&exit.attributes, "llama_warden.exit.signal").as_deref(), Some("KILL"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_under_way_at_the_end_is_sent_as_incomplete() {
    let collector = Collector::start(StatusCode::OK).await;
    let tracing = tracing(&collector.endpoint);
    play(&tracing, launch()).await;
    tracing.finish(AMPLE).await.expect("everything arrives");
    for (name, incomplete) in [("launch", None), ("load", Some("true")), ("server start", Some("true"))] {
        let span = &collector.spans()[name];
        assert_eq!(attribute(&span.attributes, "llama_warden.incomplete").as_deref(), incomplete, "{name}");
    }
}

/// Fault S31.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_that_the_collector_refuses_are_reported_as_lost() {
    let collector = Collector::start(StatusCode::BAD_REQUEST).await;
    let tracing = tracing(&collector.endpoint);
    play(&tracing, launch().into_iter().chain([ready()])).await;
    let finished = tracing.finish(AMPLE).await;
    assert!(matches!(finished, Err(TracingError::Lost { spans: 3 })), "{finished:?}");
}

/// Fault S31.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_never_answers_holds_the_end_up_no_longer_than_told() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let tracing = tracing(&format!("http://{}", silent.local_addr().expect("is bound")));
    play(&tracing, launch().into_iter().chain([ready()])).await;
    let (began, bound) = (Instant::now(), Duration::from_millis(200));
    let finished = tracing.finish(bound).await;
    assert!(matches!(finished, Err(TracingError::Slow { .. })), "{finished:?}");
    // Its own limit for an answer is 10 s.
    assert!(began.elapsed() < Duration::from_secs(8), "took {:?}", began.elapsed());
}
