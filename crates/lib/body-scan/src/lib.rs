//! Finds and changes members in the bodies of requests, without parsing them: a body may be a hundred megabytes.
//!
//! * [`Scanner`] finds the model in a JSON object while its bytes come.
//! * [`edited`] removes and sets members of the top level; the rest stays byte for byte.
//! * [`multipart`] finds a field of a form.

mod edit;
pub mod multipart;
mod scan;
mod stream;

pub use edit::edited;
pub use scan::{Scanner, member};
pub use stream::asks_for_stream;

/// Members of a JSON object.
type Members = serde_json::Map<String, serde_json::Value>;
