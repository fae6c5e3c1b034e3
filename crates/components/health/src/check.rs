//! One check of one server: which requests are sent, in which order, and what the answers mean.
//!
//! 1. `GET /health`. A 200 proves that the server's loop runs. Without a due request for a token, the check ends here; a server that
//!    may sleep is asked for `GET /props`, which says whether it does.
//! 2. Without an answer, the processor time of its processes decides between busy and silent.
//! 3. Where a request for a token is due: `GET /props`, to find a sleeping server, then `POST /completion`.
//! 4. If that hangs, `GET /slots` and the processor time decide between busy and hung.
//!
//! A check takes four timeouts at most (health, props, one token, slots) and delays no other check.

use std::pin::pin;
use std::time::Duration;

use http::StatusCode;
use llama_warden_bus::Clock;
use llama_warden_probe::{AskError, ProbeAnswer, Question, Reply, Target, ask, connect, probe};
use llama_warden_procfs::RunState;
use llama_warden_support::blocking;
use serde_json::Value;

use crate::cpu::{CpuReading, Leader};
use crate::llama_json::{is_asleep, tokens_handled};

/// A request that goes through the whole server and asks for as little as possible: one token, without the prompt cache of
/// real requests as far as the build allows.
const ONE_TOKEN: &str = r#"{"prompt":"1","n_predict":1,"temperature":0,"cache_prompt":false,"stream":false}"#;

/// The server to check.
#[derive(Debug)]
pub(crate) struct CheckTarget {
    pub(crate) target: Target,
    pub(crate) leader: Leader,
    pub(crate) clock: Clock,
    /// Whether its options let it sleep.
    pub(crate) may_sleep: bool,
}

/// How to check it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CheckRequest {
    /// Longest wait for each answer.
    pub timeout: Duration,
    /// The processor time at the check before, if that failed: computing since then counts.
    pub cpu: Option<CpuReading>,
    /// The result of the last request for a token; `None` if no request is due.
    pub inference: Option<Inference>,
}

/// The result of the last request for a token.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Inference {
    /// The processor time after it.
    pub cpu: Option<CpuReading>,
    /// Tokens handled, from `/slots` after a request that hung.
    pub tokens: Option<u64>,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckReport {
    /// Its conclusion.
    pub outcome: CheckOutcome,
    /// Time until `/health` was answered or timed out.
    pub latency: Duration,
    /// The last processor time that was read.
    pub cpu: Option<CpuReading>,
    /// Tokens handled, where a request for a token hung and the build counts them.
    pub tokens: Option<u64>,
    /// Whether it says that it sleeps; `None` where it was not asked, or did not answer.
    pub is_sleeping: Option<bool>,
}

/// The conclusion of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckOutcome {
    /// It answers every request that was sent.
    Well,
    /// It does not answer, but computes.
    Busy,
    /// It answers, but not as a ready server does.
    NotReady {
        /// What it answered, or did not.
        detail: String,
    },
    /// It neither answers nor computes.
    Silent {
        /// What it answered, or did not.
        detail: String,
    },
    /// It answers, but a request for a token hangs while nothing is computed.
    Hung {
        /// What it answered, or did not.
        detail: String,
    },
    /// Its process is gone; the event of its exit is on the way.
    Gone,
}

/// Checks a server.
pub(crate) async fn check(server: &CheckTarget, request: CheckRequest) -> CheckReport {
    let began = server.clock.now();
    let (answer, before) = request_health(server, request).await;
    let latency = server.clock.now().since(began);
    let report = |outcome, cpu, tokens| CheckReport { outcome, latency, cpu, tokens, is_sleeping: None };
    match answer {
        // A build without `/health` (2023) answers 404 from the same loop that serves requests.
        ProbeAnswer::Ok | ProbeAnswer::NotFound => match request.inference {
            Some(inference) => {
                let report = request_token(server, request.timeout, inference).await;
                CheckReport { latency, ..report }
            }
            None => {
                let is_sleeping = ask_sleep(server, request.timeout).await;
                CheckReport { is_sleeping, ..report(CheckOutcome::Well, None, None) }
            }
        },
        ProbeAnswer::NotReady => report(not_ready("it says that it is not ready (503)"), None, None),
        ProbeAnswer::Other(status) => report(not_ready(format!("it answers with status {status}")), None, None),
        ProbeAnswer::Garbage => report(not_ready("it answers with something that is no HTTP"), None, None),
        ProbeAnswer::Refused | ProbeAnswer::NoAnswer => {
            let (outcome, cpu) = check_progress(server, request.timeout, answer, before).await;
            report(outcome, cpu, None)
        }
    }
}

fn not_ready(detail: impl Into<String>) -> CheckOutcome {
    CheckOutcome::NotReady { detail: detail.into() }
}

/// Requests `/health`. If the answer takes longer than a quarter of the timeout, reads the processor time meanwhile, so that
/// the rest of the timeout is the distance between two readings.
async fn request_health(server: &CheckTarget, request: CheckRequest) -> (ProbeAnswer, Option<CpuReading>) {
    let asked = async {
        if server.target.encrypted {
            connect(&server.target, request.timeout).await
        } else {
            probe(&server.target, "/health", request.timeout).await
        }
    };
    let mut asked = pin!(asked);
    tokio::select! {
        answer = &mut asked => (answer, request.cpu),
        () = tokio::time::sleep(request.timeout / 4), if request.cpu.is_none() => {
            let cpu = read_cpu(server).await;
            (asked.await, cpu)
        }
    }
}

async fn check_progress(
    server: &CheckTarget,
    timeout: Duration,
    answer: ProbeAnswer,
    before: Option<CpuReading>,
) -> (CheckOutcome, Option<CpuReading>) {
    let before = match before {
        Some(before) => before,
        None => {
            let Some(before) = read_cpu(server).await else { return (CheckOutcome::Gone, None) };
            // The connection was refused at once, before `request_health` read the processor time. Two readings need
            // some time between them.
            tokio::time::sleep(timeout / 4).await;
            before
        }
    };
    let Some(after) = read_cpu(server).await else { return (CheckOutcome::Gone, None) };
    if after.computed_since(before) {
        return (CheckOutcome::Busy, Some(after));
    }
    let what = match answer {
        ProbeAnswer::Refused => "nobody listens".to_owned(),
        _ => format!("no answer within {} s", timeout.as_secs_f64()),
    };
    (CheckOutcome::Silent { detail: format!("{what}, and {}", no_progress(after)) }, Some(after))
}

fn no_progress(cpu: CpuReading) -> &'static str {
    match cpu.state {
        RunState::Live | RunState::Zombie => "it computes nothing",
        RunState::Stopped => "its process is stopped by a signal or a debugger",
    }
}

/// Asks a server that may sleep whether it does. It neither wakes up nor stays awake by that.
async fn ask_sleep(server: &CheckTarget, timeout: Duration) -> Option<bool> {
    if !server.may_sleep || server.target.encrypted {
        return None;
    }
    let key = server.target.read_key().await;
    let props = ask(&server.target, Question::get("/props", timeout).with_key(key.as_deref())).await.ok()?;
    is_sleeping(&props)
}

/// What an answer of `/props` says of its sleep; nothing where the build cannot sleep.
fn is_sleeping(props: &Reply) -> Option<bool> {
    (props.status == StatusCode::OK).then(|| serde_json::from_slice(&props.body).ok().map(|props| is_asleep(&props)))?
}

/// Requests one token. The latency of the report is not that of the request.
async fn request_token(server: &CheckTarget, timeout: Duration, known: Inference) -> CheckReport {
    let report = |outcome, cpu| CheckReport { outcome, latency: Duration::ZERO, cpu, tokens: None, is_sleeping: None };
    let Some(before) = read_cpu(server).await else { return report(CheckOutcome::Gone, None) };
    // A server that computed since the last request handles real ones, and needs none of ours.
    if known.cpu.is_some_and(|earlier| before.computed_since(earlier)) {
        return report(CheckOutcome::Well, Some(before));
    }
    let key = server.target.read_key().await;
    let props = ask(&server.target, Question::get("/props", timeout).with_key(key.as_deref())).await;
    let is_sleeping = props.as_ref().ok().and_then(is_sleeping);
    let asked = match props {
        Ok(props) if is_awake(props.status, &props.body) => {
            ask(&server.target, Question::post("/completion", ONE_TOKEN, timeout).with_key(key.as_deref())).await
        }
        // Asleep, or no answer: `/props` is the last request of this check.
        other => other,
    };
    // Any answer proves that requests get through, also an error: an embedding model cannot complete a prompt.
    let Err(error) = asked else {
        return CheckReport { is_sleeping, ..report(CheckOutcome::Well, Some(before)) };
    };
    let tokens = read_tokens(server, timeout, key.as_deref()).await;
    let Some(after) = read_cpu(server).await else { return report(CheckOutcome::Gone, None) };
    let progressed = matches!((known.tokens, tokens), (Some(earlier), Some(now)) if earlier != now);
    let outcome = if progressed || after.computed_since(before) {
        CheckOutcome::Busy
    } else {
        let what = match error {
            AskError::TimedOut(_) => {
                format!("a request for one token got no answer within {} s", timeout.as_secs_f64())
            }
            other => format!("a request for one token failed: {other}"),
        };
        CheckOutcome::Hung { detail: format!("{what}, and {}", no_progress(after)) }
    };
    CheckReport { tokens, is_sleeping, ..report(outcome, Some(after)) }
}

/// Whether a request for a token is known not to wake a sleeping server. Builds that can sleep say in `/props` whether they
/// do; `/props` itself wakes none (llama.cpp's own tests request it from a sleeping server). Builds without `/props` cannot
/// sleep.
fn is_awake(status: StatusCode, props: &[u8]) -> bool {
    match status {
        StatusCode::OK => serde_json::from_slice::<Value>(props).is_ok_and(|props| !is_asleep(&props)),
        StatusCode::NOT_FOUND => true,
        _ => false,
    }
}

async fn read_tokens(server: &CheckTarget, timeout: Duration, key: Option<&str>) -> Option<u64> {
    let reply = ask(&server.target, Question::get("/slots", timeout).with_key(key)).await.ok()?;
    tokens_handled(&serde_json::from_slice(&reply.body).ok()?)
}

/// Reads the processor time on the blocking pool: `/proc` may list thousands of processes.
async fn read_cpu(server: &CheckTarget) -> Option<CpuReading> {
    let (leader, now) = (server.leader, server.clock.now());
    blocking(move || CpuReading::of(leader, now)).await.ok().flatten()
}
