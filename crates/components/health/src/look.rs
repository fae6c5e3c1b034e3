//! One look at one server: what is asked, in which order, and what it means.
//!
//! A look takes four time limits at most (health, props, one token, slots) and holds up nobody but itself.

use std::pin::pin;
use std::time::Duration;

use http::StatusCode;
use llama_warden_bus::Clock;
use llama_warden_probe::{AskError, ProbeAnswer, Question, Target, ask, connect, probe};
use llama_warden_procfs::RunState;
use llama_warden_support::blocking;
use serde_json::Value;

use crate::cpu::{CpuReading, Leader};
use crate::telling::{is_asleep, tokens_handled};

/// A request that goes through the whole server and asks it for as little as can be. The prompt cache is left alone as far
/// as the build lets us.
const ONE_TOKEN: &str = r#"{"prompt":"1","n_predict":1,"temperature":0,"cache_prompt":false,"stream":false}"#;

/// Whom to look at.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) target: Target,
    pub(crate) leader: Leader,
    pub(crate) clock: Clock,
}

/// How to look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Look {
    /// Longest wait for one answer.
    pub(crate) timeout: Duration,
    /// The processor time at the look before, if that failed: what was computed since then counts.
    pub(crate) cpu: Option<CpuReading>,
    /// Whether to ask for a token as well.
    pub(crate) inference: Option<Inference>,
}

/// What is known from the last time that a token was due.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Inference {
    pub(crate) cpu: Option<CpuReading>,
    /// Tokens handled, as `/slots` told after a request that hung.
    pub(crate) tokens: Option<u64>,
}

/// What a look brought.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Observation {
    pub(crate) finding: Finding,
    /// Until the answer to the first question, or until it was given up.
    pub(crate) latency: Duration,
    /// The last processor time that was read.
    pub(crate) cpu: Option<CpuReading>,
    pub(crate) tokens: Option<u64>,
}

/// What a look means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It answers, and does what it should as far as it was asked.
    Well,
    /// It does not answer, and computes.
    Busy,
    /// It answers, and not as a ready server does.
    NotReady { detail: String },
    /// It neither answers nor computes.
    Silent { detail: String },
    /// It answers, but a request for a token hangs while nothing is computed.
    Hung { detail: String },
    /// There is no such process any more; its end is on the way as an event.
    Gone,
}

/// Looks at a server.
pub(crate) async fn look(subject: &Subject, look: Look) -> Observation {
    let began = subject.clock.now();
    let (answer, before) = ask_for_health(subject, look).await;
    let latency = subject.clock.now().since(began);
    let observation = |finding, cpu, tokens| Observation { finding, latency, cpu, tokens };
    match answer {
        // A build without a health path (2023) answers 404 from the loop that serves requests.
        ProbeAnswer::Ok | ProbeAnswer::NotFound => match look.inference {
            Some(inference) => {
                let (finding, cpu, tokens) = ask_for_a_token(subject, look.timeout, inference).await;
                observation(finding, cpu, tokens)
            }
            None => observation(Finding::Well, None, None),
        },
        ProbeAnswer::NotReady => observation(not_ready("it says that it is not ready (503)"), None, None),
        ProbeAnswer::Other(status) => observation(not_ready(format!("it answers with status {status}")), None, None),
        ProbeAnswer::Garbage => observation(not_ready("it answers with something that is no HTTP"), None, None),
        ProbeAnswer::Refused | ProbeAnswer::NoAnswer => {
            let (finding, cpu) = judge_silence(subject, look.timeout, answer, before).await;
            observation(finding, cpu, None)
        }
    }
}

fn not_ready(detail: impl Into<String>) -> Finding {
    Finding::NotReady { detail: detail.into() }
}

/// Asks for health. When the answer takes long and nothing is known of the processor time, it is read meanwhile.
async fn ask_for_health(subject: &Subject, look: Look) -> (ProbeAnswer, Option<CpuReading>) {
    let asked = async {
        if subject.target.encrypted {
            connect(&subject.target, look.timeout).await
        } else {
            probe(&subject.target, "/health", look.timeout).await
        }
    };
    let mut asked = pin!(asked);
    tokio::select! {
        answer = &mut asked => (answer, look.cpu),
        () = tokio::time::sleep(look.timeout / 4), if look.cpu.is_none() => {
            let cpu = read_cpu(subject).await;
            (asked.await, cpu)
        }
    }
}

async fn judge_silence(
    subject: &Subject,
    timeout: Duration,
    answer: ProbeAnswer,
    before: Option<CpuReading>,
) -> (Finding, Option<CpuReading>) {
    let before = match before {
        Some(before) => before,
        None => {
            let Some(before) = read_cpu(subject).await else { return (Finding::Gone, None) };
            // The time between two readings is what is measured here.
            tokio::time::sleep(timeout / 4).await;
            before
        }
    };
    let Some(after) = read_cpu(subject).await else { return (Finding::Gone, None) };
    if after.computed_since(before) {
        return (Finding::Busy, Some(after));
    }
    let what = match answer {
        ProbeAnswer::Refused => "nobody listens".to_owned(),
        _ => format!("no answer within {} s", timeout.as_secs_f64()),
    };
    (Finding::Silent { detail: format!("{what}, and {}", standstill(after)) }, Some(after))
}

fn standstill(cpu: CpuReading) -> &'static str {
    match cpu.state {
        RunState::Live | RunState::Zombie => "it computes nothing",
        RunState::Stopped => "its process is stopped by a signal or a debugger",
    }
}

async fn ask_for_a_token(
    subject: &Subject,
    timeout: Duration,
    known: Inference,
) -> (Finding, Option<CpuReading>, Option<u64>) {
    let Some(before) = read_cpu(subject).await else { return (Finding::Gone, None, None) };
    if known.cpu.is_some_and(|earlier| before.computed_since(earlier)) {
        return (Finding::Well, Some(before), None);
    }
    let key = match &subject.target.key {
        Some(key) => key.read().await,
        None => None,
    };
    let asked = match ask(&subject.target, Question::get("/props", timeout).with_key(key.as_deref())).await {
        Ok(props) if is_awake(props.status, &props.body) => {
            ask(&subject.target, Question::post("/completion", ONE_TOKEN, timeout).with_key(key.as_deref())).await
        }
        Ok(props) => Ok(props),
        Err(error) => Err(error),
    };
    // Any answer proves that requests get through; a model that cannot complete says so.
    let Err(error) = asked else { return (Finding::Well, Some(before), None) };
    let tokens = read_tokens(subject, timeout, key.as_deref()).await;
    let Some(after) = read_cpu(subject).await else { return (Finding::Gone, None, None) };
    let progressed = matches!((known.tokens, tokens), (Some(earlier), Some(now)) if earlier != now);
    let finding = if progressed || after.computed_since(before) {
        Finding::Busy
    } else {
        let what = match error {
            AskError::TimedOut(_) => {
                format!("a request for one token got no answer within {} s", timeout.as_secs_f64())
            }
            other => format!("a request for one token failed: {other}"),
        };
        Finding::Hung { detail: format!("{what}, and {}", standstill(after)) }
    };
    (finding, Some(after), tokens)
}

/// Whether a request is known to wake nobody. Builds that can sleep say in `/props` whether they do, which is not such a
/// request itself (their own tests ask for it in their sleep); builds without `/props` cannot sleep.
fn is_awake(status: StatusCode, props: &[u8]) -> bool {
    match status {
        StatusCode::OK => serde_json::from_slice::<Value>(props).is_ok_and(|props| !is_asleep(&props)),
        StatusCode::NOT_FOUND => true,
        _ => false,
    }
}

async fn read_tokens(subject: &Subject, timeout: Duration, key: Option<&str>) -> Option<u64> {
    let reply = ask(&subject.target, Question::get("/slots", timeout).with_key(key)).await.ok()?;
    tokens_handled(&serde_json::from_slice(&reply.body).ok()?)
}

/// Reads beside the runtime: there may be thousands of processes.
async fn read_cpu(subject: &Subject) -> Option<CpuReading> {
    let (leader, now) = (subject.leader, subject.clock.now());
    blocking(move || CpuReading::of(leader, now)).await.ok().flatten()
}
