//! The result of discovery as `models` and `/api/v1/models` show it.

use std::path::PathBuf;

use llama_warden_catalog::{DiscoveredModel, ModelProblem, Skipped};
use llama_warden_events::ServerId;
use serde::Serialize;

/// Discovered models and their servers.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ModelsReport {
    /// The folders that were searched.
    pub directories: Vec<PathBuf>,
    /// The models, by id.
    pub models: Vec<KnownModel>,
    /// Valid files that are not models to serve.
    pub skipped: Vec<Skipped>,
    /// Files and folders that cannot be used.
    pub problems: Vec<ModelProblem>,
}

/// A model and the server that runs it.
#[derive(Debug, Clone, Serialize)]
pub struct KnownModel {
    /// The model, with its server's `port` and `enabled`.
    #[serde(flatten)]
    pub model: DiscoveredModel,
    /// Its server. `None` if a configured server has the model's id and runs another model.
    pub server: Option<ServerId>,
}

impl ModelsReport {
    /// With another port for a server.
    #[must_use]
    pub fn with_port(mut self, server: &ServerId, port: u16) -> Self {
        let of_server = self.models.iter_mut().filter(|known| known.server.as_ref() == Some(server));
        of_server.for_each(|known| known.model.port = Some(port));
        self
    }

    /// Logs a warning for each file and model that cannot be used.
    pub fn log(&self) {
        for problem in &self.problems {
            tracing::warn!(
                path = problem.path,
                reason = word(problem.reason),
                detail = problem.detail,
                "model file left out"
            );
        }
        for model in self.models.iter().filter(|model| model.server.is_none()) {
            let (id, path) = (&model.model.id, model.model.path.display());
            tracing::warn!(%id, %path, "model left out: a configured server has its id and runs another model");
        }
    }
}

/// `Qwen3 8B (Q4_K_M)`.
pub fn display_name(model: &DiscoveredModel) -> String {
    match &model.tier {
        Some(tier) if !model.name.contains(tier.as_str()) => format!("{} ({tier})", model.name),
        _ => model.name.clone(),
    }
}

/// The word that stands for a value in JSON.
pub fn word(value: impl Serialize) -> String {
    let text = serde_json::to_value(value).ok();
    text.as_ref().and_then(|text| text.as_str()).unwrap_or_default().to_owned()
}
