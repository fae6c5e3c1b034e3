//! `/metrics`, which the API serves and the exporter answers.

use http::request::Parts;
use http::{Response, header};
use llama_warden_api_types::{Access, ApiProblem, ExtraRouteSpec, RouteFuture, RouteHandler};
use llama_warden_support::blocking;

use crate::Exporter;

/// The route of the exporter.
pub const METRICS_ROUTE: ExtraRouteSpec = ExtraRouteSpec {
    operation: "getMetrics",
    path: "/metrics",
    access: Access::Open,
    summary: "Metrics for Prometheus",
    answer: "OpenMetrics if the client prefers it, else the Prometheus text format.",
    content_types: &["text/plain", "application/openmetrics-text"],
};

impl RouteHandler for Exporter {
    fn respond(&self, request: &Parts) -> RouteFuture {
        let exporter = self.clone();
        let accept = request.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).map(str::to_owned);
        Box::pin(async move {
            let failed = |error: &dyn std::fmt::Display| {
                ApiProblem::internal(format!("the metrics could not be rendered: {error}"))
            };
            // Rendering reads `/proc`, which can block.
            let rendered =
                blocking(move || exporter.render(accept.as_deref())).await.map_err(|error| failed(&error))?;
            let page = rendered.map_err(|error| failed(&error))?;
            let response = Response::builder().header(header::CONTENT_TYPE, page.content_type);
            response.body(page.body.into_bytes()).map_err(|error| failed(&error))
        })
    }
}
