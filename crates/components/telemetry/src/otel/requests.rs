//! Builds spans of finished requests: one of the router, and below it one of what the server did.
//!
//! The attributes are those of the semantic conventions for HTTP and for generative AI; never a prompt, a body or a key.

use std::time::SystemTime;

use llama_warden_traffic::{FinishedRequest, RequestOutcome, TrafficRoute};
use opentelemetry::trace::{Link, Span as _, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::SdkTracer;

use super::commands::remote;
use super::count;

/// Makes the spans of a request. `launch` is the start that it waited for.
pub(super) fn record(tracer: &SdkTracer, request: &FinishedRequest, launch: Option<Link>) {
    let parent =
        request.parent.map_or_else(Context::new, |parent| Context::new().with_remote_span_context(remote(parent)));
    let route = http_route(request);
    let method = request.method.as_str();
    let name = route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"));
    let mut attributes = vec![
        KeyValue::new("http.request.method", method.to_owned()),
        KeyValue::new("url.path", request.path.clone()),
        KeyValue::new("http.request.body.size", count(request.bytes_in)),
        KeyValue::new("http.response.body.size", count(request.bytes_out)),
        KeyValue::new("llama_warden.outcome", request.outcome.as_str()),
    ];
    attributes.extend(route.map(|route| KeyValue::new("http.route", route.to_owned())));
    attributes.extend(request.client.map(|client| KeyValue::new("client.address", client.to_string())));
    attributes.extend(request.status.map(|status| KeyValue::new("http.response.status_code", i64::from(status))));
    attributes.extend(error_type(request));
    let end = request.at + request.took;
    let builder = SpanBuilder::from_name(name)
        .with_kind(SpanKind::Server)
        .with_start_time(request.at)
        .with_attributes(attributes)
        .with_links(launch.into_iter().collect());
    let mut span = tracer.build_with_context(builder, &parent);
    // What the client did wrong is no error of the one that serves it.
    let failed = matches!(request.outcome, RequestOutcome::ServerError | RequestOutcome::StreamError);
    if failed || request.status.is_some_and(|status| status >= 500) {
        span.set_status(Status::error(request.code.unwrap_or_default()));
    }
    let below = parent.with_span(span);
    if let Some(sent) = request.sent {
        work(tracer, request, request.at + sent, &below);
    }
    below.span().end_with_timestamp(end);
}

/// The span of what the server did.
fn work(tracer: &SdkTracer, request: &FinishedRequest, sent: SystemTime, parent: &Context) {
    let server = request.server.as_ref().map(ToString::to_string).unwrap_or_default();
    let operation = operation(request.route);
    let mut attributes = vec![
        KeyValue::new("gen_ai.operation.name", operation),
        KeyValue::new("gen_ai.provider.name", "llama.cpp"),
        KeyValue::new("llama_warden.server.id", server.clone()),
        KeyValue::new("llama_warden.wait_ms", request.waited.as_secs_f64() * 1000.0),
        KeyValue::new("llama_warden.retries", i64::from(request.retries)),
    ];
    let text = |key: &'static str, text: &Option<String>| text.clone().map(|text| KeyValue::new(key, text));
    attributes.extend(text("gen_ai.request.model", &request.model));
    attributes.extend(text("gen_ai.response.model", &request.answer.model));
    attributes.extend(text("gen_ai.response.id", &request.answer.id));
    if let Some(reason) = &request.answer.finish_reason {
        let reasons = Value::Array(Array::String(vec![StringValue::from(reason.clone())]));
        attributes.push(KeyValue::new("gen_ai.response.finish_reasons", reasons));
    }
    if let Some(tokens) = request.tokens {
        // With those of the cache, as the conventions ask for.
        attributes.push(KeyValue::new("gen_ai.usage.input_tokens", count(tokens.input + tokens.cached)));
        attributes.push(KeyValue::new("gen_ai.usage.output_tokens", count(tokens.output)));
    }
    attributes.extend(
        request
            .incarnation
            .map(|incarnation| KeyValue::new("llama_warden.server.incarnation", count(incarnation.get()))),
    );
    attributes.extend(error_type(request));
    let builder = SpanBuilder::from_name(format!("{operation} {server}"))
        .with_kind(SpanKind::Client)
        .with_start_time(sent)
        .with_attributes(attributes);
    let mut span = tracer.build_with_context(builder, parent);
    if !matches!(request.outcome, RequestOutcome::Ok | RequestOutcome::Cancelled) {
        span.set_status(Status::error(request.code.unwrap_or_default()));
    }
    span.end_with_timestamp(request.at + request.took);
}

fn error_type(request: &FinishedRequest) -> Option<KeyValue> {
    let error = match (request.code, request.outcome) {
        (Some(code), _) => code.to_owned(),
        (None, RequestOutcome::Ok) => return None,
        (None, RequestOutcome::ClientError | RequestOutcome::ServerError) => request.status?.to_string(),
        (None, outcome) => outcome.as_str().to_owned(),
    };
    Some(KeyValue::new("error.type", error))
}

/// The path, where it is one of few: the name of a span is to be one of few.
fn http_route(request: &FinishedRequest) -> Option<&str> {
    match (request.route, &*request.path) {
        (_, path) if path.starts_with("/upstream/") => Some("/upstream/{server}"),
        (_, path) if path.starts_with("/slots/") => Some("/slots/{slot}"),
        (TrafficRoute::Other, path) => ["/v1/models", "/models", "/running"].into_iter().find(|known| *known == path),
        (_, path) => Some(path),
    }
}

const fn operation(route: TrafficRoute) -> &'static str {
    match route {
        TrafficRoute::Chat | TrafficRoute::Responses | TrafficRoute::Messages => "chat",
        TrafficRoute::Completions | TrafficRoute::Infill => "text_completion",
        other => other.as_str(),
    }
}
