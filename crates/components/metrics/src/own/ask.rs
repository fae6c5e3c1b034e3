//! Asks one server once: which requests are sent, in which order, and what the answers mean.
//!
//! 1. `GET /props`, which neither wakes a server nor keeps it awake, says whether it sleeps.
//! 2. `GET /metrics`. It wakes a sleeping server and restarts its idle time on builds before [`HARMLESS_SINCE`].
//! 3. `GET /slots`, which does both on every build: only of a server that never sleeps, or computes right now.

use http::StatusCode;
use llama_warden_config::ServerSpec;
use llama_warden_events::ServerId;
use llama_warden_probe::{AskError, Question, Reply, Target, ask};
use llama_warden_state::ServerRecord;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::ScrapeOutcome;
use super::exposition::{OwnMetrics, parse};

/// The first build that was seen to answer `/metrics` without a task for its loop, which a sleeping server would wake up for.
const HARMLESS_SINCE: u64 = 11_434;

/// Most bytes of `/props`, which has the chat template, and of `/slots`, which has the sampling parameters of every slot.
const LONG_ANSWER: usize = 1 << 20;

/// A ready server, and how it may be asked.
#[derive(Debug)]
pub(super) struct AskedServer {
    pub(super) id: ServerId,
    target: Target,
    sleep: Sleep,
}

/// Whether a server goes to sleep when it is idle (`--sleep-idle-seconds`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sleep {
    Never,
    /// It does, and only a request to `/slots` disturbs it.
    Undisturbed,
    /// It does, and a request to `/metrics` would disturb it.
    Disturbed,
}

/// What a server answered.
#[derive(Debug)]
pub(super) struct ServerAnswer {
    pub(super) outcome: ScrapeOutcome,
    pub(super) metrics: OwnMetrics,
    /// How full its key-value cache is.
    pub(super) kv_used: Option<f64>,
}

impl AskedServer {
    /// The server of this record; `None` if it has no process.
    pub(super) fn of(id: &ServerId, record: &ServerRecord, spec: &ServerSpec) -> Option<Self> {
        let port = record.process.as_ref()?.port;
        Some(Self { id: id.clone(), target: Target::new(spec, port), sleep: Sleep::of(record, spec) })
    }

    /// Asks it. Takes no longer than until `deadline`.
    pub(super) async fn ask(&self, deadline: Instant) -> ServerAnswer {
        let mut answer =
            ServerAnswer { outcome: ScrapeOutcome::TimedOut, metrics: OwnMetrics::default(), kv_used: None };
        if self.target.encrypted {
            return ServerAnswer { outcome: ScrapeOutcome::Encrypted, ..answer };
        }
        // What has come by then stays.
        let _ = timeout_at(deadline, self.ask_all(deadline, &mut answer)).await;
        answer
    }

    async fn ask_all(&self, deadline: Instant, answer: &mut ServerAnswer) {
        let key = self.target.read_key().await;
        let questions = Questions { target: &self.target, key: key.as_deref(), deadline };
        if let Err(outcome) = questions.awake(self.sleep).await {
            answer.outcome = outcome;
            return;
        }
        let asked = questions.metrics().await;
        answer.outcome = asked.as_ref().map_or_else(|outcome| *outcome, |_| ScrapeOutcome::Ok);
        if let Ok(metrics) = asked {
            answer.metrics = metrics;
        }
        let goes_on = matches!(answer.outcome, ScrapeOutcome::Ok | ScrapeOutcome::NotOffered);
        if goes_on && (self.sleep == Sleep::Never || answer.metrics.is_busy()) {
            answer.kv_used = questions.kv_used().await;
        }
    }
}

impl Sleep {
    fn of(record: &ServerRecord, spec: &ServerSpec) -> Self {
        let seconds = record
            .argv
            .option("--sleep-idle-seconds")
            .or_else(|| spec.env.get("LLAMA_ARG_SLEEP_IDLE_SECONDS").map(String::as_str));
        let build = record.llama_version.as_deref().and_then(|version| version.strip_prefix('b')?.parse::<u64>().ok());
        match seconds.map(str::parse::<i64>) {
            // Below zero, the option is off, as it is by default.
            None | Some(Ok(i64::MIN..0)) => Self::Never,
            Some(_) if build.is_some_and(|build| build >= HARMLESS_SINCE) => Self::Undisturbed,
            Some(_) => Self::Disturbed,
        }
    }
}

/// The questions to one server.
struct Questions<'a> {
    target: &'a Target,
    key: Option<&'a str>,
    deadline: Instant,
}

impl Questions<'_> {
    /// Fails where the server sleeps, or a look at its metrics might disturb its sleep.
    async fn awake(&self, sleep: Sleep) -> Result<(), ScrapeOutcome> {
        let props = self.get("/props", LONG_ANSWER).await?;
        let says = match props.status {
            StatusCode::OK => serde_json::from_slice::<Value>(&props.body).ok().and_then(|props| {
                // Builds that can sleep say whether they do.
                props["is_sleeping"].as_bool()
            }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(ScrapeOutcome::Unauthorized),
            _ => None,
        };
        match (says, sleep) {
            (Some(true), _) => Err(ScrapeOutcome::Asleep),
            (_, Sleep::Never) | (Some(false), Sleep::Undisturbed) => Ok(()),
            (None, _) | (_, Sleep::Disturbed) => Err(ScrapeOutcome::MightWake),
        }
    }

    async fn metrics(&self) -> Result<OwnMetrics, ScrapeOutcome> {
        let reply = self.get("/metrics", Question::BODY_LIMIT).await?;
        match reply.status {
            StatusCode::OK => {
                let text = std::str::from_utf8(&reply.body).map_err(|_| ScrapeOutcome::NotMetrics)?;
                parse(text).ok_or(ScrapeOutcome::NotMetrics)
            }
            StatusCode::NOT_IMPLEMENTED | StatusCode::NOT_FOUND => Err(ScrapeOutcome::NotOffered),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(ScrapeOutcome::Unauthorized),
            _ => Err(ScrapeOutcome::BadStatus),
        }
    }

    /// `None` where the build does not say how many tokens are in its slots.
    async fn kv_used(&self) -> Option<f64> {
        let reply = self.get("/slots", LONG_ANSWER).await.ok().filter(|reply| reply.status == StatusCode::OK)?;
        kv_used(&serde_json::from_slice(&reply.body).ok()?)
    }

    async fn get(&self, path: &str, limit: usize) -> Result<Reply, ScrapeOutcome> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let question = Question::get(path, left).with_key(self.key).with_limit(limit);
        ask(self.target, question).await.map_err(|error| match error {
            AskError::Refused(_) => ScrapeOutcome::Refused,
            AskError::TimedOut(_) => ScrapeOutcome::TimedOut,
            AskError::BrokenOff(_) => ScrapeOutcome::BrokenOff,
            AskError::TooLarge(_) => ScrapeOutcome::TooLarge,
            AskError::NotHttp(_) | AskError::BadPath(_) => ScrapeOutcome::NotMetrics,
        })
    }
}

/// Tokens in all slots to those that fit. A slot that has not been used yet says nothing of tokens, and has none.
fn kv_used(slots: &Value) -> Option<f64> {
    let slots = slots.as_array()?;
    let sum = |key: &str| slots.iter().filter_map(|slot| slot[key].as_f64()).sum::<f64>();
    let counts_tokens = slots.iter().any(|slot| slot["n_prompt_tokens"].is_number());
    let ratio = sum("n_prompt_tokens") / sum("n_ctx");
    (counts_tokens && ratio.is_finite()).then_some(ratio)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_use_of_the_cache_is_that_of_all_slots() {
        for (slots, expected) in [
            (json!([{ "n_ctx": 100, "n_prompt_tokens": 30 }, { "n_ctx": 100, "n_prompt_tokens": 20 }]), Some(0.25)),
            (json!([{ "n_ctx": 100, "n_prompt_tokens": 30 }, { "n_ctx": 100 }]), Some(0.15)),
            (json!([{ "n_ctx": 100 }]), None),
            (json!([{ "n_prompt_tokens": 1 }]), None),
            (json!([{ "n_ctx": 0, "n_prompt_tokens": 0 }]), None),
            (json!([]), None),
            (json!({ "error": 501 }), None),
            (json!([null, 7, { "n_ctx": "many", "n_prompt_tokens": "all" }]), None),
        ] {
            assert_eq!(kv_used(&slots), expected, "{slots}");
        }
    }
}
