//! Headers of models: a file is a model or has a problem, and an estimate of its memory is a number.

use std::fs;

use llama_warden_catalog::{DiscoveredModel, inspect};
use llama_warden_component_kit::fleet;
use llama_warden_memory::estimate;
use tempfile::TempDir;

thread_local! {
    /// The folder of the model, one for each thread: tests run side by side.
    static FOLDER: TempDir = tempfile::tempdir().expect("a temporary directory");
}

/// Reads the input as a model.
pub(crate) fn check(input: &[u8]) {
    let path = FOLDER.with(|folder| folder.path().join("model.gguf"));
    fs::write(&path, input).expect("writable");
    let found = inspect(&path);
    assert_eq!(found, inspect(&path), "the same file is the same model");
    match found {
        Ok(model) => {
            check_model(&model);
            let keys = format!("id = 'fuzz'\nport = 8001\nmodel = '{}'\nflags = {{ ctx-size = 0 }}", path.display());
            let fleet = fleet(&format!("[[servers]]\n{keys}\n"));
            let server = fleet.get("fuzz").expect("is configured");
            for has_gpus in [false, true] {
                assert!(estimate(server, has_gpus).is_some(), "a model that is read is estimated");
            }
        }
        Err(problem) => assert!(!problem.detail.is_empty() && !problem.help.is_empty(), "{problem:?}"),
    }
}

fn check_model(model: &DiscoveredModel) {
    let json = serde_json::to_string(model).expect("is JSON");
    let read: DiscoveredModel = serde_json::from_str(&json).expect("reads its own JSON");
    assert_eq!(&read, model);
    for shown in [&model.name, &model.architecture] {
        assert!(!shown.chars().any(char::is_control), "{shown:?} has control characters");
    }
    assert!(model.path.is_absolute());
}
