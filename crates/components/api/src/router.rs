//! The router: the routes of this crate and those of other components, behind the security checks.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use http::{HeaderValue, Method, Uri, header};
use llama_warden_api_types::{Access, ApiProblem, ExtraRoute, RouteHandler};
use llama_warden_http_server::Transport;

use crate::app::App;
use crate::compression::compress;
use crate::endpoints::SERVED;
use crate::http_security::{RequestPolicy, check_local_user, read_empty_body};
use crate::problem::ProblemResponse;

/// An extra route's path is not literal, or another route has it.
#[derive(Debug, thiserror::Error)]
#[error("cannot add the route {0}: its path has parameters, or another route has the same")]
pub struct UnusablePath(pub &'static str);

/// The security checks, and the paths that need no token.
struct Guard {
    policy: RequestPolicy,
    open_paths: Vec<&'static str>,
}

/// Builds the router.
pub(crate) fn router(app: App, extra: &[ExtraRoute], policy: RequestPolicy) -> Result<Router, UnusablePath> {
    let mut router = Router::new();
    let mut open_paths = Vec::new();
    for route in SERVED {
        router = router.route(route.path, (route.handler)(route.filter));
        open_paths.extend((route.access == Access::Open).then_some(route.path));
    }
    for (index, route) in extra.iter().enumerate() {
        let path = route.spec.path;
        // axum panics on such paths.
        let literal = path.starts_with('/') && !path.contains(['{', '}', '*']);
        let taken = SERVED.iter().any(|route| route.path == path) || extra[..index].iter().any(|r| r.spec.path == path);
        if !literal || taken {
            return Err(UnusablePath(path));
        }
        let handler = route.handler.clone();
        router = router.route(path, get(move |request| respond(handler, request)));
        open_paths.extend((route.spec.access == Access::Open).then_some(path));
    }
    let router = router
        .fallback(async |uri: Uri| ProblemResponse(ApiProblem::no_such_path(uri.path())))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            ProblemResponse(ApiProblem::wrong_method(method.as_str(), uri.path()))
        })
        .with_state(app)
        .layer(from_fn(compress))
        .layer(from_fn_with_state(Arc::new(Guard { policy, open_paths }), guard));
    Ok(router)
}

async fn respond(handler: Arc<dyn RouteHandler>, request: Request) -> Result<Response, ProblemResponse> {
    let (parts, _) = request.into_parts();
    Ok(handler.respond(&parts).await?.map(Body::from))
}

/// Checks the request, drops its body, and forbids to sniff the answer, and to store it unless its route says how.
async fn guard(
    State(guard): State<Arc<Guard>>,
    Extension(transport): Extension<Transport>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match check_request(&guard, transport, request).await {
        Ok(request) => next.run(request).await,
        Err(problem) => ProblemResponse(problem).into_response(),
    };
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(const { HeaderValue::from_static("no-store") });
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn check_request(guard: &Guard, transport: Transport, request: Request) -> Result<Request, ApiProblem> {
    let (parts, body) = request.into_parts();
    // Unknown paths need the token too, so that strangers cannot find out which paths exist.
    let open = guard.open_paths.contains(&parts.uri.path());
    let access = if open { Access::Open } else { Access::Guarded };
    guard.policy.check(transport, access, &parts)?;
    if let (Transport::Tcp(ends), Some(user)) = (transport, guard.policy.required_user(access)) {
        check_local_user(ends, user).await?;
    }
    if !parts.method.is_safe() {
        read_empty_body(body).await?;
    }
    Ok(Request::from_parts(parts, Body::empty()))
}
