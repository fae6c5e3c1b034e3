//! Which model answers: `/v1/models`, else `/props`.
//!
//! Older builds lack the one or the other, newer ones ask for the key: what cannot be read is unknown, not wrong.

use std::time::Duration;

use http::StatusCode;
use llama_warden_probe::{AskError, Question, Reply, Target, ask};
use serde_json::Value;

#[cfg(test)]
mod over_http;

/// Longest wait for an answer. Builds of mid 2024 take up to a second while they generate; until the model is loaded they
/// accept and say nothing.
pub(crate) const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Who answers at the server's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The model that was asked for.
    Same,
    /// Another one.
    Different {
        /// What answers, for people.
        found: String,
    },
    /// Nobody could tell.
    Unknown {
        /// Why, for people.
        because: String,
    },
    /// It says that it is not ready after all.
    NotReady,
}

/// Asks the server which model it serves. `names` are those under which the right one may answer.
pub(crate) async fn identify(target: &Target, names: &[String]) -> Identity {
    let key = match &target.key {
        Some(key) => key.read().await,
        None => None,
    };
    let about = |path| Question::get(path, ASK_TIMEOUT).with_key(key.as_deref());
    let models = ask(target, about("/v1/models")).await;
    let because = match read(models, |body| judge_models(body, names)) {
        ModelAnswer::Judged(identity) => return identity,
        ModelAnswer::Unclear(because) => because,
    };
    match read(ask(target, about("/props")).await, |body| judge_props(body, names)) {
        ModelAnswer::Judged(identity) => identity,
        ModelAnswer::Unclear(props) => Identity::Unknown { because: format!("/v1/models: {because}; /props: {props}") },
    }
}

enum ModelAnswer {
    Judged(Identity),
    /// It does not tell, for this reason.
    Unclear(String),
}

fn read(reply: Result<Reply, AskError>, judge: impl FnOnce(&Value) -> Option<Identity>) -> ModelAnswer {
    match reply {
        Ok(reply) if reply.status == StatusCode::OK => match serde_json::from_slice(&reply.body) {
            Ok(body) => judge(&body).map_or_else(|| ModelAnswer::Unclear("names no model".into()), ModelAnswer::Judged),
            Err(error) => ModelAnswer::Unclear(format!("unreadable: {error}")),
        },
        Ok(reply) if reply.status == StatusCode::SERVICE_UNAVAILABLE => ModelAnswer::Judged(Identity::NotReady),
        Ok(reply) => ModelAnswer::Unclear(format!("status {}", reply.status.as_u16())),
        Err(error) => ModelAnswer::Unclear(error.to_string()),
    }
}

fn judge_models(body: &Value, names: &[String]) -> Option<Identity> {
    let entries = |list: &str| body[list].as_array().map(Vec::as_slice).unwrap_or_default();
    let found: Vec<&str> = entries("data")
        .iter()
        .flat_map(|model| std::iter::once(&model["id"]).chain(model["aliases"].as_array().into_iter().flatten()))
        .chain(entries("models").iter().flat_map(|model| [&model["model"], &model["name"]]))
        .filter_map(Value::as_str)
        .collect();
    judge(&found, names)
}

fn judge_props(body: &Value, names: &[String]) -> Option<Identity> {
    if body["role"] == "router" {
        return Some(Identity::Different { found: "a router, not a server of one model".into() });
    }
    let found: Vec<&str> = [&body["model_path"], &body["model_alias"], &body["default_generation_settings"]["model"]]
        .into_iter()
        .filter_map(Value::as_str)
        .filter(|name| !name.is_empty())
        .collect();
    judge(&found, names)
}

fn judge(found: &[&str], names: &[String]) -> Option<Identity> {
    let shown = found.first()?;
    let same = found.iter().any(|found| names.iter().any(|name| name == found || name == file_name(found)));
    Some(if same { Identity::Same } else { Identity::Different { found: format!("`{shown}`") } })
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names() -> Vec<String> {
        ["qwen", "/models/tiny.gguf", "tiny.gguf"].map(String::from).to_vec()
    }

    fn is_same(identity: Option<Identity>) -> Option<bool> {
        identity.map(|identity| identity == Identity::Same)
    }

    #[test]
    fn the_model_is_known_by_alias_path_and_file_name() {
        let cases = [
            (json!({"data": [{"id": "qwen"}]}), Some(true)),
            (json!({"data": [{"id": "/models/tiny.gguf"}]}), Some(true)),
            (json!({"data": [{"id": "models/tiny.gguf"}]}), Some(true)),
            (json!({"data": [{"id": "x", "aliases": ["y", "qwen"]}]}), Some(true)),
            (json!({"models": [{"name": "", "model": "tiny.gguf"}]}), Some(true)),
            (json!({"data": [{"id": "other"}], "models": [{"model": "other.gguf"}]}), Some(false)),
            (json!({"data": [{"id": "qwen2"}]}), Some(false)),
            (json!({"data": []}), None),
            (json!([]), None),
            (json!({"data": "qwen"}), None),
        ];
        for (body, expected) in cases {
            assert_eq!(is_same(judge_models(&body, &names())), expected, "{body}");
        }
    }

    #[test]
    fn props_name_the_model_or_a_router() {
        let cases = [
            (json!({"model_path": "/models/tiny.gguf"}), Some(true)),
            (json!({"default_generation_settings": {"model": "/models/tiny.gguf"}}), Some(true)),
            (json!({"model_path": "/models/big.gguf"}), Some(false)),
            (json!({"role": "router", "max_instances": 4}), Some(false)),
            (json!({"default_generation_settings": {"n_ctx": 512}}), None),
        ];
        for (body, expected) in cases {
            assert_eq!(is_same(judge_props(&body, &names())), expected, "{body}");
        }
    }
}
