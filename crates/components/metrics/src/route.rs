//! `/metrics`, which the API serves and the exporter answers.

use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Response, header};
use llama_warden_api_types::{Access, ApiProblem, ExtraRouteParameter, ExtraRouteSpec, RouteFuture, RouteHandler};
use llama_warden_support::blocking;

use crate::own::DEADLINE;
use crate::{Exporter, ServerScraper};

/// The route of the exporter.
pub const METRICS_ROUTE: ExtraRouteSpec = ExtraRouteSpec {
    operation: "getMetrics",
    path: "/metrics",
    access: Access::Open,
    summary: "Metrics for Prometheus",
    parameters: &[ExtraRouteParameter {
        name: "servers",
        about: "Whether the own metrics of every ready server are added, as `llamacpp_*`. Wakes none. Default: `servers` in [metrics].",
        values: &["1", "true", "", "0", "false"],
    }],
    answer: "OpenMetrics if the client prefers it, else the Prometheus text format.",
    content_types: &["text/plain", "application/openmetrics-text"],
};

/// How long a scraper waits, which Prometheus says with each scrape, in seconds.
const SCRAPE_TIMEOUT: &str = "x-prometheus-scrape-timeout-seconds";

/// Answers `/metrics`. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct MetricsHandler {
    pub(crate) exporter: Exporter,
    pub(crate) scraper: ServerScraper,
    /// Whether servers are asked where the scrape does not say.
    pub(crate) servers_by_default: bool,
}

impl RouteHandler for MetricsHandler {
    fn respond(&self, request: &Parts) -> RouteFuture {
        let Self { exporter, scraper, servers_by_default } = self.clone();
        let asks_servers = asks_servers(request.uri.query().unwrap_or_default(), servers_by_default);
        let patience = patience(&request.headers);
        let accept = request.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).map(str::to_owned);
        Box::pin(async move {
            let failed = |error: &dyn std::fmt::Display| {
                ApiProblem::internal(format!("the metrics could not be rendered: {error}"))
            };
            let own = if asks_servers? { Some(scraper.ask(patience).await) } else { None };
            // Rendering reads `/proc`, which can block.
            let rendered = blocking(move || exporter.render(accept.as_deref(), own.as_ref())).await;
            let page = rendered.map_err(|error| failed(&error))?;
            let response = Response::builder().header(header::CONTENT_TYPE, page.content_type);
            response.body(page.body.into_bytes()).map_err(|error| failed(&error))
        })
    }
}

/// Reads `servers` of a query. A scraper may have parameters of its own, so others are not looked at.
fn asks_servers(query: &str, default: bool) -> Result<bool, ApiProblem> {
    let mut values = query.split('&').filter_map(|parameter| match parameter.split_once('=') {
        Some((name, value)) => (name == "servers").then_some(value),
        None => (parameter == "servers").then_some(""),
    });
    values.next_back().map_or(Ok(default), |value| match value {
        "" | "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(ApiProblem::bad_query(format!("servers: `{value}` is neither 1 nor 0"))),
    })
}

/// How long servers have to answer: less than the scraper waits, so that it gets the answers of the others.
fn patience(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(SCRAPE_TIMEOUT).and_then(|value| value.to_str().ok()?.parse::<f64>().ok());
    let of_scraper = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds * 0.8).ok());
    of_scraper.map_or(DEADLINE, |of_scraper| of_scraper.min(DEADLINE))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_scrape_says_whether_servers_are_asked() {
        for (query, default, expected) in [
            ("", false, Some(false)),
            ("", true, Some(true)),
            ("servers", false, Some(true)),
            ("servers=1", false, Some(true)),
            ("a=b&servers=true", false, Some(true)),
            ("servers=0", true, Some(false)),
            ("servers=1&servers=0", true, Some(false)),
            ("myservers=1", false, Some(false)),
            ("servers=yes", false, None),
        ] {
            assert_eq!(asks_servers(query, default).ok(), expected, "{query}");
        }
    }

    #[test]
    fn servers_have_less_time_than_the_scraper_and_three_seconds_at_most() {
        for (header, millis) in [
            (None, 3000),
            (Some("10"), 3000),
            (Some("1"), 800),
            (Some("0.5"), 400),
            (Some("-1"), 3000),
            (Some("NaN"), 3000),
            (Some("soon"), 3000),
            (Some("1e300"), 3000),
        ] {
            let headers =
                header.map(|value| (SCRAPE_TIMEOUT.parse().expect("a name"), HeaderValue::from_static(value)));
            assert_eq!(patience(&headers.into_iter().collect()), Duration::from_millis(millis), "{header:?}");
        }
    }
}
