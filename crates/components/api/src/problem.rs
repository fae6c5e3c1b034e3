//! A [`ApiProblem`] as an HTTP response.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use llama_warden_api_types::{ApiProblem, PROBLEM_JSON};
use llama_warden_support::naming_program;

/// The error of handlers and extractors: answers with `application/problem+json` and the problem's status.
pub(crate) struct ProblemResponse(pub(crate) ApiProblem);

impl From<ApiProblem> for ProblemResponse {
    fn from(problem: ApiProblem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for ProblemResponse {
    fn into_response(self) -> Response {
        let Self(mut problem) = self;
        problem.detail = naming_program(problem.detail);
        problem.next_step = problem.next_step.map(|next_step| naming_program(next_step.into()).into());
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // A struct of strings always serializes; an empty body would still carry the right status.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        if response.status() == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
