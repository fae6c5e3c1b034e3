//! Paths: what a route is, and the router. The router and the paths of the OpenAPI document are made from one table.
//!
//! What only the document says of a route is not in the table, so that a daemon does not hold it.

mod table;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use axum::{Extension, Router};
use http::{HeaderValue, Method, Uri, header};
use llama_warden_api_types::ApiProblem;
use serde::Serialize;

use crate::endpoints::App;
use crate::http_security::{self, Access, RequestPolicy, Transport};
use crate::problem::ProblemResponse;
pub(crate) use table::ROUTES;

/// One method of one path.
pub(crate) struct Route {
    pub(crate) verb: RouteMethod,
    /// In the syntax of axum and of OpenAPI, which is the same.
    pub(crate) path: &'static str,
    pub(crate) operation: Operation,
    pub(crate) access: Access,
    handler: fn() -> MethodRouter<App>,
}

/// The methods that are used. HEAD comes with GET.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteMethod {
    Get,
    Post,
    Delete,
}

/// What a route does, by the name that it has in generated clients. `openapi` describes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Operation {
    GetLiveness,
    GetReadiness,
    GetMetrics,
    GetStatus,
    ListServers,
    GetServer,
    StartServer,
    StopServer,
    RestartServer,
    GetLogs,
    GetEvents,
    ListProfiles,
    GetActiveProfile,
    DeactivateProfile,
    GetProfile,
    ActivateProfile,
    Reload,
    ListModels,
    GetTargets,
    ShutDown,
    GetDescription,
}

/// The router behind the edge.
pub(crate) fn router(app: App, policy: Arc<RequestPolicy>) -> Router {
    ROUTES
        .iter()
        .fold(Router::new(), |router, route| router.route(route.path, (route.handler)()))
        .fallback(async |uri: Uri| ProblemResponse(ApiProblem::no_such_path(uri.path())))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            ProblemResponse(ApiProblem::wrong_method(method.as_str(), uri.path()))
        })
        .with_state(app)
        .layer(from_fn_with_state(policy, enter))
}

/// Asks the edge, takes the body off, and marks every answer as not to be stored or guessed at.
async fn enter(
    State(policy): State<Arc<RequestPolicy>>,
    Extension(transport): Extension<Transport>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match admit(&policy, transport, request).await {
        Ok(request) => next.run(request).await,
        Err(problem) => ProblemResponse(problem).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn admit(policy: &RequestPolicy, transport: Transport, request: Request) -> Result<Request, ApiProblem> {
    let (parts, body) = request.into_parts();
    policy.check(transport, access(parts.uri.path()), &parts)?;
    if http_security::changes_something(&parts.method) {
        http_security::take_body(body).await?;
    }
    Ok(Request::from_parts(parts, axum::body::Body::empty()))
}

/// What a path asks for; what is not routed is guarded, so that nobody can find out what there is.
fn access(path: &str) -> Access {
    ROUTES.iter().find(|route| route.path == path).map_or(Access::Guarded, |route| route.access)
}
