//! What a request to the router is for: by its path, and by the name of its model.
//!
//! * `paths`: whether a request takes a slot, where its model is named, and in which dialect its errors are written.
//! * `names`: which server a name means.

mod names;
mod paths;

pub use names::{Directory, Named, NoServer};
pub use paths::{
    ErrorDialect, ModelChange, OwnPath, PathMeaning, RequestClass, StreamQuestion, changes_servers, find, query_value,
    traffic_route,
};
