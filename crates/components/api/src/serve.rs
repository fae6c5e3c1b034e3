//! Serves the router of the API on each listener, within limits.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{Request, StatusCode};
use llama_warden_api_types::ApiProblem;
use llama_warden_http_server::{HeadFault, HttpService, RefusedLine, RequestBody, ServeLimits, Transport};
use tower::ServiceExt;

use crate::endpoints::is_probe;
use crate::problem::ProblemResponse;

/// The limits of each listener. Followers that never read keep their connections, so that some are kept for probes.
pub(crate) const LIMITS: ServeLimits = ServeLimits {
    connections: 512,
    kept_for_probes: 64,
    head_timeout: Duration::from_secs(10),
    drain: Duration::from_secs(1),
};

/// The router, as a service of connections.
#[derive(Debug, Clone)]
pub(crate) struct ApiService(pub(crate) Router);

impl HttpService for ApiService {
    type Body = Body;

    async fn answer(&self, request: Request<RequestBody>, transport: Transport) -> Response {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(transport);
        let Ok(answer) = self.0.clone().oneshot(request).await;
        answer
    }

    fn is_probe(&self, path: &str) -> bool {
        is_probe(path)
    }

    fn too_many_connections(&self, limit: usize) -> Response {
        let detail = format!("{limit} connections are open, and only /livez and /readyz are answered beyond them");
        let problem =
            ApiProblem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-connections", "too many connections", detail);
        ProblemResponse(problem.next_step("end clients that follow events or logs, or try again later")).into_response()
    }

    fn refused_head(&self, fault: HeadFault, _: &RefusedLine) -> Response {
        let (slug, title) = match fault {
            HeadFault::Malformed => ("malformed-head", "request that cannot be read"),
            HeadFault::TooLong => ("head-too-long", "request head too long"),
            HeadFault::TooSlow => ("head-too-slow", "request head too slow"),
        };
        ProblemResponse(ApiProblem::new(fault.status(), slug, title, fault.message())).into_response()
    }
}
