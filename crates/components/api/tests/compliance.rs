//! What every component must do.

use std::sync::Arc;

use llama_warden_api::{Api, ApiParts, ListenSettings, Listeners, ModelsSource};
use llama_warden_component_kit::compliance;

/// A daemon without models.
struct NoModels;

impl ModelsSource for NoModels {
    fn models(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}

#[tokio::test(start_paused = true)]
async fn the_api_complies() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let mut count = 0;
    compliance::check(|bus| {
        count += 1;
        let control = folder.path().join(format!("{count}.sock"));
        Api::new(ApiParts {
            listeners: Listeners::bind(&ListenSettings { tcp: None, control }).expect("binds"),
            bus: bus.bus().clone(),
            lane: bus.lane().clone(),
            routes: Vec::new(),
            models: Arc::new(NoModels),
            description: "",
            token: None,
        })
    })
    .await;
}
