//! The routes of the dashboard.
//!
//! A browser keeps the files and asks each time whether they have changed (`ETag`, `no-cache`): a daemon of another version has other
//! files at the same paths.

use std::hash::{DefaultHasher, Hash, Hasher};

use http::request::Parts;
use http::response::Builder;
use http::{Response, StatusCode, header};
use llama_warden_api_types::{ApiProblem, ExtraRoute, RouteFuture, RouteHandler};

use crate::files::{INDEX, LOADED, PageFile};

/// What a browser lets the page do: load from its own origin, and nothing else. `frame-ancestors` keeps other sites from showing it in a
/// frame, where clicks can be stolen.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     object-src 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// The routes of the page and of every file that it loads.
pub fn dashboard_routes() -> Vec<ExtraRoute> {
    [INDEX].iter().chain(LOADED).map(|file| ExtraRoute::new(file.spec, EmbeddedFile::of(*file))).collect()
}

/// Answers with one file.
#[derive(Debug)]
struct EmbeddedFile {
    file: PageFile,
    etag: String,
}

impl EmbeddedFile {
    fn of(file: PageFile) -> Self {
        let mut hasher = DefaultHasher::new();
        file.content.hash(&mut hasher);
        Self { file, etag: format!("\"{:016x}\"", hasher.finish()) }
    }

    fn response(&self, request: &Parts) -> Result<Response<Vec<u8>>, http::Error> {
        let asked = request.headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let is_known =
            asked.flat_map(|value| value.split(',')).any(|etag| etag.trim().trim_start_matches("W/") == self.etag);
        let response = self.head(Response::builder());
        match is_known {
            true => response.status(StatusCode::NOT_MODIFIED).body(Vec::new()),
            false => response.body(self.file.content.to_vec()),
        }
    }

    fn head(&self, response: Builder) -> Builder {
        let media_type = self.file.spec.content_types.first().copied().unwrap_or_default();
        response
            .header(header::CONTENT_TYPE, format!("{media_type}; charset=utf-8"))
            .header(header::ETAG, &self.etag)
            .header(header::CACHE_CONTROL, "no-cache")
            .header(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY)
            .header(header::REFERRER_POLICY, "no-referrer")
            .header("cross-origin-opener-policy", "same-origin")
            .header("cross-origin-resource-policy", "same-origin")
    }
}

impl RouteHandler for EmbeddedFile {
    fn respond(&self, request: &Parts) -> RouteFuture {
        let response = self.response(request);
        Box::pin(async move {
            response.map_err(|error| ApiProblem::internal(format!("the page could not be answered: {error}")))
        })
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn answer(etag: Option<&str>) -> Response<Vec<u8>> {
        let mut request = Request::builder().uri("/");
        if let Some(etag) = etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        EmbeddedFile::of(INDEX).response(&request.body(()).expect("valid").into_parts().0).expect("valid")
    }

    #[test]
    fn a_file_that_the_browser_has_is_not_sent_again() {
        let first = answer(None);
        let etag = first.headers()[header::ETAG].to_str().expect("text").to_owned();
        assert_eq!((first.status(), first.body().as_slice()), (StatusCode::OK, INDEX.content));
        for known in [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}")] {
            let second = answer(Some(&known));
            assert_eq!((second.status(), second.body().len()), (StatusCode::NOT_MODIFIED, 0), "{known}");
            assert_eq!(second.headers()[header::ETAG], first.headers()[header::ETAG]);
        }
        assert_eq!(answer(Some("\"other\"")).status(), StatusCode::OK);
    }

    #[test]
    fn no_file_may_run_what_its_own_origin_does_not_serve() {
        for route in dashboard_routes() {
            let request = Request::builder().uri(route.spec.path).body(()).expect("valid").into_parts().0;
            let mut future = route.handler.respond(&request);
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let std::task::Poll::Ready(answer) = future.as_mut().poll(&mut context) else { panic!("it waits") };
            let answer = answer.expect("an answer");
            let policy = answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().expect("text");
            assert!(policy.starts_with("default-src 'self';") && !policy.contains("unsafe"), "{policy}");
        }
    }

    #[test]
    fn two_files_have_two_tags() {
        let mut tags: Vec<_> = [INDEX].iter().chain(LOADED).map(|file| EmbeddedFile::of(*file).etag).collect();
        let all = tags.len();
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), all);
    }
}
