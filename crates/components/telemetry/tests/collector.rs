//! Spans, metrics and log records as a collector gets them.

mod common;

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use common::{AMPLE, Collector, Run, attribute, failed};
use llama_warden_events::{
    CommandOutcome, CommandSummary, Event, FailureReason, Incarnation, LaunchTraceId, ProcessEnd, ReadyVia, Rung,
    Signal, StopReason, Warning,
};
use llama_warden_telemetry::{ExportError, Exported};
use opentelemetry_proto::tonic::logs::v1::SeverityNumber;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use tokio::net::TcpListener;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_launch_from_start_to_stop_is_one_trace() {
    let collector = Collector::start(StatusCode::OK).await;
    let run = Run::start(&collector.endpoint, &[]);
    let boot = run.bus.bus().snapshot().boot;
    let rung = Rung { index: 0, signal: Signal::TERM };
    let stop = [
        ready(),
        Event::StopBegan { reason: StopReason::Requested, grace_seconds: 10.0 },
        Event::SignalDelivered { signal: Signal::TERM, rung },
        exit(0),
        Event::ServerStopped { reason: StopReason::Requested, forced: false, stop_seconds: 0.01 },
    ];
    let lost = run.play(launch().into_iter().chain(stop), AMPLE).await;
    assert!(lost.is_empty(), "{lost:?}");

    let spans = collector.spans();
    assert_eq!(spans.keys().collect::<Vec<_>>(), ["launch", "load", "server start", "server stop"]);
    let start = &spans["server start"];
    assert!(start.parent_span_id.is_empty());
    let id = LaunchTraceId::of(&boot, &llama_warden_component_kit::server("a"), Incarnation::new(1));
    assert_eq!(start.trace_id, id.as_number().to_be_bytes(), "others know the id too");
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

    let received = collector.received.lock().expect("whole");
    let resource = &received.traces[0].resource_spans[0].resource.as_ref().expect("is named").attributes;
    assert_eq!(attribute(resource, "service.name").as_deref(), Some("llama-warden"));
    assert_eq!(attribute(resource, "service.version").as_deref(), Some("1.2.3"));
    assert_eq!(attribute(resource, "service.instance.id"), Some(boot.to_string()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_failed_is_an_error_with_its_reason() {
    let collector = Collector::start(StatusCode::OK).await;
    let run = Run::start(&collector.endpoint, &[]);
    let detail = "the model file is cut off".to_owned();
    let failure = Event::ServerFailed { reason: FailureReason::ModelInvalid, detail: detail.clone(), lines: vec![] };
    let lost = run.play(launch().into_iter().chain([exit(1), failure]), AMPLE).await;
    assert!(lost.is_empty(), "{lost:?}");

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
    let run = Run::start(&collector.endpoint, &[]);
    let killed =
        Event::ServerExited { end: ProcessEnd::Signaled { signal: Signal::KILL, core_dumped: false }, swept: 0 };
    let lost = run.play(launch().into_iter().chain([ready(), killed]), AMPLE).await;
    assert!(lost.is_empty(), "{lost:?}");
    let spans = collector.spans();
    let exit = &spans["server exit"];
    assert!(failed(exit) && !failed(&spans["server start"]));
    assert_eq!(exit.parent_span_id, spans["server start"].span_id);
    assert_eq!(attribute(&exit.attributes, "llama_warden.exit.signal").as_deref(), Some("KILL"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_under_way_at_the_end_is_sent_as_incomplete() {
    let collector = Collector::start(StatusCode::OK).await;
    let run = Run::start(&collector.endpoint, &[]);
    let lost = run.play(launch(), AMPLE).await;
    assert!(lost.is_empty(), "{lost:?}");
    for (name, incomplete) in [("launch", None), ("load", Some("true")), ("server start", Some("true"))] {
        let span = &collector.spans()[name];
        assert_eq!(attribute(&span.attributes, "llama_warden.incomplete").as_deref(), incomplete, "{name}");
    }
}

/// Fault S31.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_collector_refuses_is_reported_as_lost() {
    let collector = Collector::start(StatusCode::BAD_REQUEST).await;
    let run = Run::start(&collector.endpoint, &[]);
    let lost = run.play(launch().into_iter().chain([ready()]), AMPLE).await;
    let lost = lost.iter().map(|error| match error {
        ExportError::Lost { signal, lost } => (*signal, *lost),
        other => panic!("{other}"),
    });
    let lost: Vec<_> = lost.collect();
    assert_eq!(lost[0], (Exported::Spans, 3), "{lost:?}");
    assert!(lost[1].0 == Exported::Metrics && lost[2].0 == Exported::Logs, "{lost:?}");
}

/// Fault S31.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_queue_drops_is_counted_as_lost() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let endpoint = format!("http://{}", silent.local_addr().expect("is bound"));
    // Each export fails after 50 ms, and meanwhile more comes than the queue holds.
    let variables = [
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_METRICS_EXPORTER", "none"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "50"),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "8"),
        ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "8"),
    ];
    let run = Run::start(&endpoint, &variables);
    let removed =
        std::iter::repeat_with(|| Event::ServerWarned { warning: Warning::OptionDropped, detail: String::new() });
    let lost = run.play(launch().into_iter().chain(removed.take(500)), AMPLE).await;
    // The two of the launch, and the warnings.
    assert!(matches!(lost[..], [ExportError::Lost { signal: Exported::Logs, lost: 502 }]), "{lost:?}");
}

/// Fault S31.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_never_answers_holds_the_end_up_no_longer_than_told() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let run = Run::start(&format!("http://{}", silent.local_addr().expect("is bound")), &[]);
    let (began, bound) = (Instant::now(), Duration::from_millis(200));
    let finished = run.play(launch().into_iter().chain([ready()]), bound).await;
    let slow = |error: &ExportError| match error {
        ExportError::Slow { signal, lost, .. } => Some((*signal, *lost)),
        _ => None,
    };
    // The steps of the launch, the start, and three events.
    let expected = [(Exported::Spans, 3), (Exported::Metrics, 1), (Exported::Logs, 3)].map(Some);
    assert_eq!(finished.iter().map(slow).collect::<Vec<_>>(), expected, "{finished:?}");
    // Its own limit for an answer is 10 s.
    assert!(began.elapsed() < Duration::from_secs(8), "took {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_continues_the_trace_of_its_sender_and_the_launch_has_a_link_to_it() {
    let collector = Collector::start(StatusCode::OK).await;
    let run = Run::start(&collector.endpoint, &[]);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().expect("valid");
    let accepted = Event::CommandAccepted { command: CommandSummary::Start, trace: Some(Box::new(trace)) };
    let completed = Event::CommandCompleted { outcome: CommandOutcome::Ready };
    let events = [accepted].into_iter().chain(launch()).chain([ready(), completed]);
    let lost = run.play(events, AMPLE).await;
    assert!(lost.is_empty(), "{lost:?}");
    let spans = collector.spans();
    let (command, start) = (&spans["command start"], &spans["server start"]);
    assert_eq!(command.trace_id, trace.trace_id().to_be_bytes());
    assert_eq!(command.parent_span_id, trace.span_id().to_be_bytes());
    assert_eq!(attribute(&command.attributes, "llama_warden.server.id").as_deref(), Some("a"));
    assert!(command.end_time_unix_nano >= start.end_time_unix_nano && !failed(command));
    assert_ne!(start.trace_id, command.trace_id, "a launch outlives the request");
    let [link] = &start.links[..] else { panic!("{:?}", start.links) };
    assert_eq!((&link.trace_id, &link.span_id), (&command.trace_id, &command.span_id));
    let logs = collector.logs();
    assert_eq!(logs["CommandAccepted"].span_id, command.span_id);
    assert_eq!(logs["CommandCompleted"].trace_id, command.trace_id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_log_records_in_the_trace_of_their_launch() {
    let collector = Collector::start(StatusCode::OK).await;
    let run = Run::start(&collector.endpoint, &[]);
    let failure = Event::ServerFailed {
        reason: FailureReason::ModelInvalid,
        detail: "the model file is cut off".to_owned(),
        lines: vec![],
    };
    let lost = run.play(launch().into_iter().chain([exit(1), failure]), AMPLE).await;
    assert!(lost.is_empty(), "{lost:?}");
    let (logs, spans) = (collector.logs(), collector.spans());
    let failed = &logs["ServerFailed"];
    assert_eq!(failed.severity_number(), SeverityNumber::Error);
    assert_eq!(failed.severity_text, "ERROR");
    assert_eq!(attribute(&failed.attributes, "llama_warden.server.id").as_deref(), Some("a"));
    assert_eq!(attribute(&failed.attributes, "llama_warden.server.incarnation").as_deref(), Some("1"));
    let body = format!("{:?}", failed.body);
    assert!(body.contains("server failed: model-invalid, the model file is cut off"), "{body}");
    for name in ["LaunchBegan", "ServerFailed"] {
        let (record, start) = (&logs[name], &spans["server start"]);
        assert_eq!((&record.trace_id, &record.span_id), (&start.trace_id, &start.span_id), "{name}");
    }
    assert!(!logs.contains_key("ServerConfigured"), "of level debug");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_the_state_at_the_moment_of_the_export() {
    let collector = Collector::start(StatusCode::OK).await;
    let run = Run::start(&collector.endpoint, &[]);
    let lost = run.play(launch().into_iter().chain([ready()]), AMPLE).await;
    assert!(lost.is_empty(), "{lost:?}");
    let metrics = collector.metrics();
    let number = |name: &str| {
        let data = metrics[&format!("llama_warden.server.{name}")].data.clone().expect("has data");
        let points = match data {
            Data::Sum(sum) => {
                assert!(sum.is_monotonic, "{name}");
                sum.data_points
            }
            Data::Gauge(gauge) => gauge.data_points,
            other => panic!("{other:?}"),
        };
        assert_eq!(attribute(&points[0].attributes, "llama_warden.server.id").as_deref(), Some("a"));
        match points[0].value {
            Some(Number::AsInt(number)) => number,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(["launches", "running", "ready"].map(number), [1, 1, 1]);
    let ready = &metrics["llama_warden.server.ready.duration"];
    let Some(Data::Histogram(histogram)) = &ready.data else { panic!("{ready:?}") };
    assert_eq!(
        (ready.unit.as_str(), histogram.data_points[0].count, histogram.data_points[0].sum),
        ("s", 1, Some(0.5))
    );
    assert!(!metrics.contains_key("llama_warden.server.failures"), "nothing has failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_counted_by_reason() {
    let collector = Collector::start(StatusCode::OK).await;
    let run = Run::start(&collector.endpoint, &[("OTEL_TRACES_EXPORTER", "none"), ("OTEL_LOGS_EXPORTER", "none")]);
    let failure = Event::ServerFailed { reason: FailureReason::ModelInvalid, detail: String::new(), lines: vec![] };
    let lost = run.play(launch().into_iter().chain([exit(1), failure]), AMPLE).await;
    assert!(lost.is_empty(), "{lost:?}");
    assert!(collector.spans().is_empty() && collector.logs().is_empty(), "they are switched off");
    let metrics = collector.metrics();
    let Some(Data::Sum(failures)) = &metrics["llama_warden.server.failures"].data else { panic!("{metrics:?}") };
    assert_eq!(attribute(&failures.data_points[0].attributes, "error.type").as_deref(), Some("model-invalid"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_reach_the_collector() {
    let collector = Collector::start(StatusCode::OK).await;
    let run = Run::start(&collector.endpoint, &[("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=models")]);
    let lost = run.play(launch().into_iter().chain([ready()]), AMPLE).await;
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(collector.received.lock().expect("whole").headers[0]["x-tenant"], "models");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_user_says_of_the_service_wins_over_our_own_words() {
    let collector = Collector::start(StatusCode::OK).await;
    let variables = [
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=theirs, deployment.environment.name = a%2Cb ,service.version=9"),
        ("OTEL_SERVICE_NAME", "mine"),
    ];
    let lost = Run::start(&collector.endpoint, &variables).play(launch(), AMPLE).await;
    assert!(lost.is_empty(), "{lost:?}");
    let received = collector.received.lock().expect("whole");
    let resources = [
        &received.traces[0].resource_spans[0].resource,
        &received.logs[0].resource_logs[0].resource,
        &received.metrics[0].resource_metrics[0].resource,
    ];
    for resource in resources {
        let attributes = &resource.as_ref().expect("is named").attributes;
        for (key, value) in [
            ("service.name", "mine"),
            ("service.version", "9"),
            ("deployment.environment.name", "a,b"),
            ("telemetry.sdk.language", "rust"),
        ] {
            assert_eq!(attribute(attributes, key).as_deref(), Some(value), "{key}");
            assert_eq!(attributes.iter().filter(|attribute| attribute.key == key).count(), 1, "{key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_that_the_sampler_leaves_out_is_not_sent_and_its_events_are_log_records() {
    let collector = Collector::start(StatusCode::OK).await;
    let run = Run::start(&collector.endpoint, &[("OTEL_TRACES_SAMPLER", "parentbased_always_off")]);
    let sampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().expect("valid");
    let accepted = Event::CommandAccepted { command: CommandSummary::Start, trace: Some(Box::new(sampled)) };
    let completed = Event::CommandCompleted { outcome: CommandOutcome::Ready };
    let lost = run.play([accepted].into_iter().chain(launch()).chain([ready(), completed]), AMPLE).await;
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(collector.spans().keys().collect::<Vec<_>>(), ["command start"], "its sender records its trace");
    let logs = collector.logs();
    assert_eq!((logs["ReadyReached"].flags, logs["CommandAccepted"].flags), (0, 1));
    assert!(!logs["ReadyReached"].trace_id.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_busy_collector_refuses_is_sent_again() {
    let collector = Collector::start(StatusCode::OK).await;
    let busy = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS];
    collector.received.lock().expect("whole").refusals.extend(busy);
    let lost = Run::start(&collector.endpoint, &[]).play(launch().into_iter().chain([ready()]), AMPLE).await;
    assert!(lost.is_empty(), "{lost:?}");
    assert!(collector.spans().contains_key("server start"));
    assert!(collector.received.lock().expect("whole").refusals.is_empty());
}
