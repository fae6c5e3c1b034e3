//! What every component must do.

use std::sync::Arc;

use llama_warden_api::{Api, ApiResources, Listeners};
use llama_warden_component_kit::compliance;

#[tokio::test(start_paused = true)]
async fn the_api_complies() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let mut count = 0;
    compliance::check(|bus| {
        count += 1;
        let control = folder.path().join(format!("{count}.sock"));
        let resources = ApiResources {
            listeners: Listeners::bind(None, &control, Vec::new()).expect("binds"),
            token: Default::default(),
            routes: Vec::new(),
            peers: Default::default(),
            models: Arc::new(|| serde_json::Value::Null),
            memory: Arc::new(llama_warden_memory::SystemMemoryProbe::new()),
            configuration: Default::default(),
            description: "",
        };
        Api::build(&bus.context(""), resources)
    })
    .await;
}
