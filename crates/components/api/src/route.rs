//! A route: one method of one path, with its handler and with what the OpenAPI document says of it.

use axum::routing::{MethodFilter, MethodRouter};
use llama_warden_api_types::{Access, ApiProblem, PROBLEM_JSON};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::app::App;

/// A route of this crate. The constant stands beside its handler; `endpoints` lists all of them.
pub(crate) struct Route {
    /// The `operationId`: the function's name in generated clients, in camel case and unique.
    pub(crate) operation: &'static str,
    /// The method in lower case, as a key of OpenAPI.
    pub(crate) method: &'static str,
    /// In the syntax of axum and of OpenAPI, which is the same. `{id}` is a server, `{name}` a profile.
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    /// One line: what the route does.
    pub(crate) summary: &'static str,
    /// The schema of the type that the handler reads the query into; `None` if it reads none.
    pub(crate) query: Option<fn() -> Schema>,
    /// Answers other than the general problem, which every route can give.
    pub(crate) answers: &'static [RouteAnswer],
    pub(crate) filter: MethodFilter,
    pub(crate) handler: RouterOf,
}

/// Makes a router of one handler: `|method| on(method, HANDLER)`.
pub(crate) type RouterOf = fn(MethodFilter) -> MethodRouter<App>;

/// The part of a [`Route`] that a daemon needs.
///
/// The schemas stay out of it: the code that generates them is 400 KiB, and the linker leaves it out of a program in which
/// nothing refers to it.
pub(crate) struct ServedRoute {
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    pub(crate) filter: MethodFilter,
    pub(crate) handler: RouterOf,
}

impl Route {
    /// GET, and HEAD with it.
    pub(crate) const fn get(operation: &'static str, path: &'static str, handler: RouterOf) -> Self {
        Self::new("get", MethodFilter::GET, operation, path, handler)
    }

    pub(crate) const fn post(operation: &'static str, path: &'static str, handler: RouterOf) -> Self {
        Self::new("post", MethodFilter::POST, operation, path, handler)
    }

    pub(crate) const fn delete(operation: &'static str, path: &'static str, handler: RouterOf) -> Self {
        Self::new("delete", MethodFilter::DELETE, operation, path, handler)
    }

    /// A guarded route without a query.
    const fn new(
        method: &'static str,
        filter: MethodFilter,
        operation: &'static str,
        path: &'static str,
        handler: RouterOf,
    ) -> Self {
        let (access, summary, query, answers) = (Access::Guarded, "", None, &[]);
        Self { operation, method, path, access, summary, query, answers, filter, handler }
    }

    pub(crate) const fn served(&self) -> ServedRoute {
        ServedRoute { path: self.path, access: self.access, filter: self.filter, handler: self.handler }
    }
}

/// A status that a route answers with.
pub(crate) struct RouteAnswer {
    pub(crate) status: u16,
    pub(crate) about: &'static str,
    /// The forms of the body; the client chooses one of them with `Accept`.
    pub(crate) content: &'static [BodyForm],
}

/// One form of a body.
pub(crate) struct BodyForm {
    pub(crate) media_type: &'static str,
    /// The schema of the body, or of one record of a stream; `None` is text.
    pub(crate) schema: Option<fn(&mut SchemaGenerator) -> Schema>,
}

pub(crate) const fn answer(status: u16, about: &'static str, content: &'static [BodyForm]) -> RouteAnswer {
    RouteAnswer { status, about, content }
}

/// A body of this media type that consists of values of type `T`.
pub(crate) const fn body<T: JsonSchema>(media_type: &'static str) -> BodyForm {
    BodyForm { media_type, schema: Some(SchemaGenerator::subschema_for::<T>) }
}

/// A `T` as JSON.
pub(crate) const fn json_body<T: JsonSchema>() -> BodyForm {
    body::<T>("application/json")
}

pub(crate) const TEXT_BODY: BodyForm = BodyForm { media_type: "text/plain", schema: None };
pub(crate) const PROBLEM_BODY: BodyForm = body::<ApiProblem>(PROBLEM_JSON);

pub(crate) const UNKNOWN_SERVER: RouteAnswer = answer(404, "No such server.", &[PROBLEM_BODY]);
pub(crate) const UNKNOWN_PROFILE: RouteAnswer = answer(404, "No such profile.", &[PROBLEM_BODY]);
