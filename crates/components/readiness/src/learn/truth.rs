//! Whether a server serves, asked as hard as it takes to be sure.

use std::time::Duration;

use http::StatusCode;
use llama_warden_config::ServerSpec;
use llama_warden_probe::{ProbeAnswer, Question, Target, ask, probe};
use tokio::time::Instant;

/// Longest wait for an answer. Builds of mid 2024 take a connection and answer it when the model is loaded.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// Longest wait for a token.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(30);

/// Asks one server.
#[derive(Debug, Clone)]
pub struct GroundTruth {
    target: Target,
    key: Option<String>,
}

/// A server serves.
#[derive(Debug, Clone, Copy)]
pub struct Served {
    /// When it was first seen to.
    pub at: Instant,
    /// How it was seen.
    pub serving: Serving,
}

/// How a server was seen to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serving {
    /// `/health` answers 200.
    Healthy,
    /// There is no `/health`, but it completes a prompt.
    Completing,
}

impl GroundTruth {
    /// Asks the server of `spec` at `port`.
    pub async fn of(spec: &ServerSpec, port: u16) -> Self {
        let target = Target::new(spec, port);
        let key = match &target.key {
            Some(key) => key.read().await,
            None => None,
        };
        Self { target, key }
    }

    /// Asks once; `None` if it does not serve yet.
    pub async fn ask(&self) -> Option<Served> {
        let answer = probe(&self.target, "/health", ANSWER_TIMEOUT).await;
        // Of a completion this is the beginning: the token itself takes its time.
        let at = Instant::now();
        match answer {
            ProbeAnswer::Ok => Some(Served { at, serving: Serving::Healthy }),
            // `/v1/models` would not do: some builds answer it while they load.
            ProbeAnswer::NotFound if self.completes().await => Some(Served { at, serving: Serving::Completing }),
            _ => None,
        }
    }

    async fn completes(&self) -> bool {
        let question = Question::post("/completion", r#"{"prompt":"a","n_predict":1}"#, TOKEN_TIMEOUT);
        let reply = ask(&self.target, question.with_key(self.key.as_deref())).await;
        reply.is_ok_and(|reply| reply.status == StatusCode::OK)
    }
}
