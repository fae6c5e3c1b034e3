//! Headers of models: a file is a model or has a problem, and an estimate of its memory is a number.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use llama_warden_catalog::{DiscoveredModel, inspect};
use llama_warden_component_kit::spec;
use llama_warden_memory::estimate;
use tempfile::TempDir;

/// The folder of the model, in memory where that can be.
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let made = tempfile::Builder::new().prefix("llama-warden-fuzz-").tempdir_in("/dev/shm");
    made.or_else(|_| tempfile::tempdir()).expect("a temporary directory")
});

thread_local! {
    /// One file for each thread: tests run side by side.
    static MODEL: PathBuf = FOLDER.path().join(format!("{:?}.gguf", std::thread::current().id()).replace(['(', ')'], "-"));
}

/// Reads the input as a model.
pub(crate) fn check(input: &[u8]) {
    MODEL.with(|path| {
        fs::write(path, input).expect("writable");
        let found = inspect(path);
        let again = inspect(path);
        assert_eq!(found, again, "the same file is the same model");
        match found {
            Ok(model) => {
                check_model(&model);
                let keys = format!("model = '{}'\nflags = {{ ctx-size = 0 }}", path.display());
                let server = spec_of(&keys);
                for has_gpus in [false, true] {
                    assert!(estimate(&server, has_gpus).is_some(), "a model that is read is estimated");
                }
            }
            Err(problem) => assert!(!problem.detail.is_empty() && !problem.help.is_empty(), "{problem:?}"),
        }
    });
}

fn spec_of(keys: &str) -> std::sync::Arc<llama_warden_config::ServerSpec> {
    let fleet = llama_warden_component_kit::fleet(&format!("[[servers]]\nid = 'fuzz'\nport = 8001\n{keys}\n"));
    fleet.get("fuzz").cloned().unwrap_or_else(|| spec("fuzz", ""))
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
