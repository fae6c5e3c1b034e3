//! Looks through the bodies of requests while they come, and changes members in them, without parsing them: a body may be a hundred
//! megabytes.
//!
//! * [`BodyScanner`] finds the model in a JSON text or a form, and the first place at which llama-server would refuse it.
//! * [`edited`] removes and sets members of the top level; the rest stays byte for byte.

mod blocks;
mod edit;
mod form;
mod grammar;
mod scan;
mod stream;
mod text;
mod utf8;

use http::HeaderMap;

use form::FormScanner;
use scan::Scanner;

pub use edit::{BodyPart, edited};
pub use scan::member;
pub use stream::asks_for_stream;

/// Members of a JSON object.
type Members = serde_json::Map<String, serde_json::Value>;

/// Longest name of a model, in bytes as they are written.
const LONGEST: usize = 4096;

/// Why llama-server would refuse a body, whatever it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// There is nothing to read.
    #[error("it is empty")]
    Empty,
    /// A byte that the grammar of JSON does not allow in its place, counted from 0.
    #[error("it is no JSON: byte {0} is not allowed in its place")]
    NotJson(usize),
    /// Bytes that are no UTF-8. Builds of 2024 end with an abort when they report them.
    #[error("its text is no UTF-8 at byte {0}")]
    NotUtf8(usize),
    /// The JSON text breaks off.
    #[error("it ends amid its JSON, after {0} bytes")]
    CutJson(usize),
    /// The form has no boundary that ends it.
    #[error("the form ends without its last boundary")]
    CutForm,
    /// A part of the form has no head, or its boundary goes on.
    #[error("part {0} of the form has no head")]
    BadPart(usize),
}

/// Looks through one body.
#[derive(Debug)]
pub struct BodyScanner(Kind);

#[derive(Debug)]
enum Kind {
    Json(Box<Scanner>),
    Form(Box<FormScanner>),
}

impl BodyScanner {
    /// For a body with these headers. JSON is not told by its content type, as llama-server does not: a form is.
    pub fn new(headers: &HeaderMap) -> Self {
        Self(match form::boundary(headers) {
            Some(boundary) => Kind::Form(Box::new(FormScanner::new(&boundary, "model"))),
            None => Kind::Json(Box::default()),
        })
    }

    /// Looks at the next bytes.
    pub fn feed(&mut self, chunk: &[u8]) {
        match &mut self.0 {
            Kind::Json(scanner) => scanner.feed(chunk),
            Kind::Form(scanner) => scanner.feed(chunk),
        }
    }

    /// The model, if the bytes so far name one. The first of two counts.
    pub fn model(&self) -> Option<&str> {
        match &self.0 {
            Kind::Json(scanner) => scanner.model(),
            Kind::Form(scanner) => scanner.value(),
        }
    }

    /// Whether the bytes begin a JSON object.
    pub const fn is_object(&self) -> bool {
        match &self.0 {
            Kind::Json(scanner) => scanner.is_object(),
            Kind::Form(_) => false,
        }
    }

    /// What is wrong with the bytes so far, whatever follows them.
    pub const fn broken(&self) -> Option<BodyFault> {
        match &self.0 {
            Kind::Json(scanner) => scanner.broken(),
            Kind::Form(scanner) => scanner.broken(),
        }
    }

    /// What is wrong with the body if it ends here.
    pub fn fault(&self) -> Option<BodyFault> {
        match &self.0 {
            Kind::Json(scanner) => scanner.fault(),
            Kind::Form(scanner) => scanner.fault(),
        }
    }
}
