//! The router's own questions to servers: to one what it is like, once it is ready, and to all what only some can tell.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use http_body_util::{BodyExt, Limited};
use llama_warden_events::ServerId;
use serde_json::Value as Json;
use tokio::task::JoinSet;

use crate::answer::AnswerBody;
use crate::caller::Caller;
use crate::models::{ModelFacts, modalities};
use crate::request::RouterService;
use llama_warden_held_body::HeldBody;
use llama_warden_upstream::Upstream;

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Longest answer that is read.
const LIMIT: usize = 4 << 20;

/// What a launch says of itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LaunchFacts {
    pub(crate) slots: Option<NonZeroU32>,
    pub(crate) model: Arc<ModelFacts>,
}

/// The answer of a server as JSON; `None` where it does not answer, or refuses.
pub(crate) async fn ask(upstream: Arc<Upstream>, method: Method, target: &str, body: HeldBody) -> Option<Json> {
    let no_headers = HeaderMap::new();
    let asked = async {
        let sent = AnswerBody::relay(upstream, (&method, target), &no_headers, &body, None);
        let answer = sent.await.ok().filter(|answer| answer.status().is_success())?;
        let body = Limited::new(answer.into_body(), LIMIT).collect().await.ok()?.to_bytes();
        serde_json::from_slice(&body).ok()
    };
    tokio::time::timeout(TIMEOUT, asked).await.ok().flatten()
}

impl RouterService {
    /// The launches that can be asked and that the caller may use.
    pub(crate) fn reachable(&self, caller: &Caller) -> Vec<Arc<Upstream>> {
        let directory = self.shared.directory();
        let may_use = |upstream: &Arc<Upstream>| caller.find(&directory, upstream.server.as_str()).is_some();
        self.shared.reachable().into_iter().filter(may_use).collect()
    }

    /// The answers of those that answer, side by side, by id.
    pub(crate) async fn ask_each(
        &self,
        upstreams: Vec<Arc<Upstream>>,
        method: Method,
        target: &str,
        body: &HeldBody,
    ) -> Vec<(ServerId, Json)> {
        let mut asked = JoinSet::new();
        for upstream in upstreams {
            let (method, target, body) = (method.clone(), target.to_owned(), body.clone());
            asked.spawn(async move {
                let server = upstream.server.clone();
                ask(upstream, method, &target, body).await.map(|answer| (server, answer))
            });
        }
        let mut answers: Vec<(ServerId, Json)> = asked.join_all().await.into_iter().flatten().collect();
        answers.sort_by(|(left, _), (right, _)| left.cmp(right));
        answers
    }
}

/// Asks a launch what it is like.
pub(crate) async fn learn(upstream: Arc<Upstream>) -> LaunchFacts {
    let question = |target| ask(upstream.clone(), Method::GET, target, HeldBody::default());
    let (props, models) = tokio::join!(question("/props"), question("/v1/models"));
    facts(&props.unwrap_or_default(), &models.unwrap_or_default())
}

fn facts(props: &Json, models: &Json) -> LaunchFacts {
    let slots = props["total_slots"].as_u64().and_then(|slots| NonZeroU32::new(u32::try_from(slots).ok()?));
    let model = &models["data"][0];
    let architecture = match &model["architecture"] {
        // Builds until 2026 say it in their properties, if at all.
        Json::Null => modalities(|name| props["modalities"][name].as_bool().unwrap_or_default()),
        known => known.clone(),
    };
    let mut meta = model["meta"].as_object().cloned();
    if let (Some(meta), Some(n_ctx)) = (&mut meta, props["default_generation_settings"]["n_ctx"].as_u64()) {
        meta.entry("n_ctx").or_insert_with(|| n_ctx.into());
    }
    LaunchFacts { slots, model: Arc::new(ModelFacts { architecture, meta: meta.map(Json::Object) }) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_launch_is_like_is_read_from_builds_of_every_year() {
        let props = json!({ "total_slots": 4, "modalities": { "vision": true, "audio": false },
            "default_generation_settings": { "n_ctx": 512 } });
        let old = facts(&props, &json!({ "data": [{ "meta": { "n_ctx_train": 2048 } }] }));
        assert_eq!(old.slots.map(NonZeroU32::get), Some(4));
        assert_eq!(old.model.architecture["input_modalities"], json!(["text", "image"]));
        assert_eq!(old.model.meta, Some(json!({ "n_ctx_train": 2048, "n_ctx": 512 })));
        let architecture = json!({ "input_modalities": ["text", "audio"], "output_modalities": ["text"] });
        let new = facts(&props, &json!({ "data": [{ "architecture": architecture, "meta": { "n_ctx": 2048 } }] }));
        assert_eq!(
            (new.model.architecture.clone(), new.model.meta.clone()),
            (architecture, Some(json!({ "n_ctx": 2048 })))
        );
        let silent = facts(&Json::Null, &Json::Null);
        assert_eq!((silent.slots, silent.model.meta.clone()), (None, None));
        assert_eq!(silent.model.architecture["input_modalities"], json!(["text"]));
    }
}
