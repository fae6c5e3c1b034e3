//! Paths: what a route is, and the router. The router and the OpenAPI document are both made from one table.

mod table;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use axum::{Extension, Router};
use http::{HeaderValue, Method, Uri, header};
use schemars::{Schema, SchemaGenerator};

use crate::Problem;
use crate::edge::{self, Access, EdgePolicy, Transport};
use crate::handlers::App;
pub(crate) use table::ROUTES;

/// One method of one path.
pub(crate) struct Route {
    pub(crate) verb: Verb,
    /// In the syntax of axum and of OpenAPI, which is the same.
    pub(crate) path: &'static str,
    /// Its name for generated clients.
    pub(crate) operation: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) access: Access,
    pub(crate) parameters: &'static [Parameter],
    /// Answers other than the general problem.
    pub(crate) answers: &'static [Answer],
    handler: fn() -> MethodRouter<App>,
}

/// The methods that are used. HEAD comes with GET.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Post,
    Delete,
}

/// A parameter of a query.
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) kind: ParameterKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParameterKind {
    Switch,
    Duration,
    Count,
    Stream,
}

/// One status with its forms.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) about: &'static str,
    pub(crate) content: &'static [(&'static str, Shape)],
}

/// What a body consists of.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    Text,
    Value(fn(&mut SchemaGenerator) -> Schema),
}

/// The router behind the edge.
pub(crate) fn router(app: App, policy: Arc<EdgePolicy>) -> Router {
    ROUTES
        .iter()
        .fold(Router::new(), |router, route| router.route(route.path, (route.handler)()))
        .fallback(async |uri: Uri| Problem::no_such_path(uri.path()))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            Problem::wrong_method(method.as_str(), uri.path())
        })
        .with_state(app)
        .layer(from_fn_with_state(policy, enter))
}

/// Asks the edge, takes the body off, and marks every answer as not to be stored or guessed at.
async fn enter(
    State(policy): State<Arc<EdgePolicy>>,
    Extension(transport): Extension<Transport>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match admit(&policy, transport, request).await {
        Ok(request) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn admit(policy: &EdgePolicy, transport: Transport, request: Request) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    policy.check(transport, access(parts.uri.path()), &parts)?;
    if edge::changes_something(&parts.method) {
        edge::take_body(body).await?;
    }
    Ok(Request::from_parts(parts, axum::body::Body::empty()))
}

/// What a path asks for; what is not routed is guarded, so that nobody can find out what there is.
fn access(path: &str) -> Access {
    ROUTES.iter().find(|route| route.path == path).map_or(Access::Guarded, |route| route.access)
}
