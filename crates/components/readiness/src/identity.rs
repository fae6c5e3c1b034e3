//! Finds out which model answers at a server's address, from `/v1/models`, else from `/props`.
//!
//! Older builds lack one of the two, and newer ones want the API key. So an answer that cannot be read makes the model
//! unknown, not wrong.

use std::io::ErrorKind;
use std::time::Duration;

use http::StatusCode;
use llama_warden_probe::{AskError, Question, Reply, Target, ask};
use serde_json::Value;

#[cfg(test)]
mod over_http;

/// Longest wait for an answer. Builds of mid 2024 take up to a second while they generate; until the model is loaded, they
/// accept the connection and say nothing.
pub(crate) const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Which model answers at a server's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The model that the server was launched with.
    Same,
    /// Another model, or no server of one model.
    Different {
        /// The model or server that answers, for people.
        found: String,
    },
    /// No answer named the model.
    Unknown {
        /// Why, for people.
        because: String,
    },
    /// The server answers that it is not ready after all, or nobody listens there any more.
    NotReady,
}

/// Asks the server which model it serves. `names` are the names under which the right one may answer.
pub(crate) async fn identify(target: &Target, names: &[String]) -> Identity {
    let key = target.read_key().await;
    let question = |path| Question::get(path, ASK_TIMEOUT).with_key(key.as_deref());
    let models = match read(ask(target, question("/v1/models")).await, |body| judge_models(body, names)) {
        Ok(identity) => return identity,
        Err(because) => because,
    };
    read(ask(target, question("/props")).await, |body| judge_props(body, names))
        .unwrap_or_else(|props| Identity::Unknown { because: format!("/v1/models: {models}; /props: {props}") })
}

/// The identity that a reply shows, or why it shows none.
fn read(reply: Result<Reply, AskError>, judge: impl FnOnce(&Value) -> Option<Identity>) -> Result<Identity, String> {
    let reply = match reply {
        // It answered our probe, and has closed its port since.
        Err(AskError::Refused(error)) if error.kind() == ErrorKind::ConnectionRefused => return Ok(Identity::NotReady),
        reply => reply.map_err(|error| error.to_string())?,
    };
    match reply.status {
        StatusCode::OK => {
            let body = serde_json::from_slice(&reply.body).map_err(|error| format!("unreadable: {error}"))?;
            judge(&body).ok_or_else(|| "names no model".to_owned())
        }
        StatusCode::SERVICE_UNAVAILABLE => Ok(Identity::NotReady),
        status => Err(format!("status {}", status.as_u16())),
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

/// Compares what a server calls its model. It may answer with the path of the file or with its name alone.
fn judge(found: &[&str], names: &[String]) -> Option<Identity> {
    let shown = found.first()?;
    let is_named = |found: &str| names.iter().any(|name| name == found);
    let same = found.iter().any(|found| is_named(found) || found.rsplit('/').next().is_some_and(is_named));
    Some(if same { Identity::Same } else { Identity::Different { found: format!("`{shown}`") } })
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
