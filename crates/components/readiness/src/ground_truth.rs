//! Asks a server whether it serves, in the way that is certain for every build. `detector learn` compares lines with it.
//!
//! `/health` is certain where it exists. A build without it has to complete a prompt.

use std::time::Duration;

use http::StatusCode;
use llama_warden_config::ServerSpec;
use llama_warden_probe::{ProbeAnswer, Question, Target, ask, probe};
use tokio::time::Instant;

/// Longest wait for an answer. Builds of mid 2024 accept a connection and answer once the model is loaded.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// Longest wait for a token.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(30);

/// Asks one server whether it serves.
#[derive(Debug, Clone)]
pub struct GroundTruth {
    target: Target,
    key: Option<String>,
}

/// The answer of a server that serves.
#[derive(Debug, Clone, Copy)]
pub struct Served {
    /// When the answer came.
    pub at: Instant,
    /// Which question it answered.
    pub serving: Serving,
}

/// Which question a server answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serving {
    /// `/health` answers 200.
    Healthy,
    /// There is no `/health`, and it completes a prompt.
    Completing,
}

impl GroundTruth {
    /// For the server of `spec` on `port`. Reads the API key once.
    pub async fn of(spec: &ServerSpec, port: u16) -> Self {
        let target = Target::new(spec, port);
        let key = target.read_key().await;
        Self { target, key }
    }

    /// Asks once. `None` if the server does not serve yet.
    pub async fn ask(&self) -> Option<Served> {
        let answer = probe(&self.target, "/health", ANSWER_TIMEOUT).await;
        // Taken before the completion, which takes time of its own.
        let at = Instant::now();
        match answer {
            ProbeAnswer::Ok => Some(Served { at, serving: Serving::Healthy }),
            // Not `/v1/models`: some builds answer it while they load.
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
