//! Models that were inspected, for a command that asks about each more than once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::discover::inspect;
use crate::model::DiscoveredModel;
use crate::report::ModelProblem;

/// What [`inspect`] said of each model. Cheap to clone; clones share it. It never asks again, so that it is for one look at the files
/// and no longer.
#[derive(Debug, Clone, Default)]
pub struct Inspections(Arc<Mutex<HashMap<PathBuf, Inspected>>>);

/// A model, or why it cannot be served.
type Inspected = Arc<Result<DiscoveredModel, ModelProblem>>;

impl Inspections {
    /// What the file at `path` is. Reads it the first time.
    pub fn of(&self, path: &Path) -> Inspected {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inspected) = known.get(path) {
            return Arc::clone(inspected);
        }
        let inspected = Arc::new(inspect(path));
        known.insert(path.to_owned(), Arc::clone(&inspected));
        inspected
    }
}
