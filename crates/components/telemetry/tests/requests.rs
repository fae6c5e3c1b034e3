//! Requests of the router as spans and as lines of the log.

#![expect(clippy::expect_used, reason = "a panic is how a test fails")]
#![allow(dead_code, reason = "the collector is shared with other tests")]

mod common;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use llama_warden_component_kit::{RecordedLog, TestBus, server};
use llama_warden_events::{Event, Incarnation, ReadyVia};
use llama_warden_telemetry::Telemetry;
use llama_warden_traffic::{RouterTraffic, TrackedHead, TrackedRequest, TrafficRoute, WaitedFor};

use common::{AMPLE, Collector, Run, attribute, failed};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

const ANSWER: &str = r#"{"choices":[{"finish_reason":"stop","message":{"content":"s3cret"}}],"model":"m","id":"chatcmpl-1",
    "usage":{"prompt_tokens":9,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4}}}"#;

/// A chat that waited for the first launch of `a`, and one that the router refused.
async fn ask(traffic: &Arc<RouterTraffic>) {
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", HeaderValue::from_static(PARENT));
    headers.insert("authorization", HeaderValue::from_static("Bearer s3cret"));
    let method = Method::POST;
    let begin = |path, route| {
        let head = TrackedHead { id: "r1", method: &method, path, headers: &headers, route, client: None };
        Arc::new(TrackedRequest::begin(traffic, &head))
    };
    let chat = begin("/v1/chat/completions", TrafficRoute::Chat);
    chat.named(&server("a"), Some("alias"));
    chat.keyed(&"ci".into());
    chat.waited(Duration::from_millis(1500));
    chat.admitted(Incarnation::new(1), Some(WaitedFor::Start));
    chat.sent();
    let answer =
        Response::builder().header("content-type", "application/json").body(Full::from(ANSWER)).expect("valid");
    chat.answer(answer).into_body().collect().await.expect("whole");
    drop(chat);
    let refused = begin("/v1/none", TrafficRoute::Other);
    refused.rejected("model_not_found", false);
    drop(refused.answer(Response::builder().status(404).body(Full::from("{}")).expect("valid")));
}

#[tokio::test]
async fn a_request_is_a_span_of_the_router_with_one_of_the_server_below() {
    let collector = Collector::start(StatusCode::OK).await;
    let run = Run::start(&collector.endpoint, &[]);
    let events = [
        Event::LaunchBegan { binary: PathBuf::from("/bin/llama-server") },
        Event::ReadyReached { via: ReadyVia::Stderr, startup_seconds: 1.0 },
    ];
    let (traffic, finished) = RouterTraffic::logged();
    let errors = run.play_with(events, Some(finished), ask(&Arc::new(traffic)), AMPLE).await;
    assert!(errors.is_empty(), "{errors:?}");
    let spans = collector.spans();
    let names: BTreeSet<&str> = spans.keys().map(String::as_str).collect();
    assert!(names.is_superset(&["POST /v1/chat/completions", "chat a", "POST"].into()), "{names:?}");
    let (asked, worked, refused) = (&spans["POST /v1/chat/completions"], &spans["chat a"], &spans["POST"]);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(
        (hex(&asked.trace_id), hex(&asked.parent_span_id)),
        (PARENT[3..35].to_owned(), PARENT[36..52].to_owned())
    );
    assert_eq!((&worked.trace_id, &worked.parent_span_id), (&asked.trace_id, &asked.span_id));
    let start = &spans["server start"];
    let links: Vec<_> = asked.links.iter().map(|link| (&link.trace_id, &link.span_id)).collect();
    assert_eq!(links, [(&start.trace_id, &start.span_id)]);
    for (key, expected) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "llama.cpp"),
        ("gen_ai.request.model", "alias"),
        ("gen_ai.response.model", "m"),
        ("gen_ai.response.id", "chatcmpl-1"),
        ("gen_ai.response.finish_reasons", "stop"),
        ("gen_ai.usage.input_tokens", "9"),
        ("gen_ai.usage.output_tokens", "5"),
        ("llama_warden.server.id", "a"),
        ("llama_warden.retries", "0"),
    ] {
        assert_eq!(attribute(&worked.attributes, key).as_deref(), Some(expected), "{key}");
    }
    assert_eq!(attribute(&asked.attributes, "http.response.status_code").as_deref(), Some("200"));
    assert_eq!(attribute(&refused.attributes, "error.type").as_deref(), Some("model_not_found"));
    assert!(!failed(asked) && !failed(worked) && !failed(refused));
    assert!(!format!("{spans:?}").contains("s3cret"), "neither key nor body");
}

#[tokio::test]
async fn a_request_is_a_line_of_the_log_without_its_body() {
    let recorded = RecordedLog::default();
    let _subscriber = tracing::subscriber::set_default(recorded.subscriber());
    let mut bus = TestBus::new();
    let (traffic, finished) = RouterTraffic::logged();
    let telemetry = Telemetry::build(&bus.context("[router]\naccess-log = true"), None, Some(finished));
    let component = bus.run(telemetry);
    ask(&Arc::new(traffic)).await;
    component.end().await;
    let lines = recorded.take().into_iter().map(|(_, fields)| fields);
    let lines: Vec<String> = lines.filter(|fields| fields.contains("request finished")).collect();
    let [chat, refused] = &lines[..] else { panic!("{lines:?}") };
    for field in
        ["key=\"ci\"", "server=\"a\"", "status=200", "outcome=\"ok\"", "input=5 cached=4 output=5", "wait_ms=1500.0"]
    {
        assert!(chat.contains(field), "{field} in {chat}");
    }
    assert!(refused.contains("code=\"model_not_found\"") && refused.contains("status=404"), "{refused}");
    assert!(!format!("{lines:?}").contains("s3cret"), "neither key nor body");
}
