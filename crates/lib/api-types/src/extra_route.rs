//! A route that another component adds to the HTTP API, without knowing the server that serves it.
//!
//! The component implements [`RouteHandler`] and describes the route in a constant [`ExtraRouteSpec`]. The composition
//! hands both to the API as an [`ExtraRoute`]. The generator of the OpenAPI document reads the constant alone, so it needs
//! no running component.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use http::Response;
use http::request::Parts;

use crate::ApiProblem;

/// The clients that may call a route over TCP. The control socket admits its user to every route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// All clients: probes and scrapers have no token.
    Open,
    /// Clients that send the daemon's token, where one is configured.
    Guarded,
}

/// The fixed part of an extra route, which answers GET and HEAD.
#[derive(Debug, Clone, Copy)]
pub struct ExtraRouteSpec {
    /// The `operationId` in the OpenAPI document, in camel case and unique.
    pub operation: &'static str,
    /// A literal path such as `/metrics`: it starts with `/`, has no parameters, and no route of the API has it.
    pub path: &'static str,
    /// The clients that may call it.
    pub access: Access,
    /// One line for the OpenAPI document: what the route is for.
    pub summary: &'static str,
    /// Its query parameters, for the OpenAPI document; the handler reads them.
    pub parameters: &'static [ExtraRouteParameter],
    /// One line for the OpenAPI document: what status 200 carries.
    pub answer: &'static str,
    /// Media types, without parameters, of the text that status 200 carries.
    pub content_types: &'static [&'static str],
}

/// An optional query parameter with a closed set of values.
#[derive(Debug, Clone, Copy)]
pub struct ExtraRouteParameter {
    /// Its name.
    pub name: &'static str,
    /// One line: what it does.
    pub about: &'static str,
    /// Its values.
    pub values: &'static [&'static str],
}

/// The answer of a [`RouteHandler`], once it is ready.
pub type RouteFuture = Pin<Box<dyn Future<Output = Result<Response<Vec<u8>>, ApiProblem>> + Send>>;

/// Answers the requests of an [`ExtraRoute`].
pub trait RouteHandler: fmt::Debug + Send + Sync + 'static {
    /// Answers one request. Runs on the runtime's only thread, so it must move work that blocks to a pool. The API has
    /// checked host, origin and token before, and drops the future when the client disconnects.
    fn respond(&self, request: &Parts) -> RouteFuture;
}

/// A route and the component that answers it.
#[derive(Debug, Clone)]
pub struct ExtraRoute {
    /// Path, access and description.
    pub spec: &'static ExtraRouteSpec,
    /// Answers the requests.
    pub handler: Arc<dyn RouteHandler>,
}

impl ExtraRoute {
    /// The route `spec`, answered by `handler`.
    pub fn new(spec: &'static ExtraRouteSpec, handler: impl RouteHandler) -> Self {
        Self { spec, handler: Arc::new(handler) }
    }
}
