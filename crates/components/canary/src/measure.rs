//! Asks two builds for a few tokens, one after the other, and compares what is known of them.
//!
//! One token has no rate, so that each build is asked for [`TOKENS`]. A build without `/completion` is asked at
//! `/v1/completions`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use llama_warden_bus::OutputLane;
use llama_warden_config::ServerSpec;
use llama_warden_events::{BuildFigures, CompletionAnswer, FailureReason, OptionDifference};
use llama_warden_memory::{MemoryProbe as _, SystemMemoryProbe};
use llama_warden_probe::{Question, Reply, Target, ask};
use llama_warden_state::{ReadyRecord, ServerRecord};
use llama_warden_support::blocking;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::compare::{new_warnings, option_differences};

/// How many tokens a build is asked for.
const TOKENS: u64 = 16;

/// Longest time for an answer. A big model on a slow machine takes a second for each token, and the old build may be busy.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// What both builds complete where nobody names a prompt.
const PROMPT: &str = "Once upon a time";

/// Most lines of output that are compared, on each side.
const MOST_LINES: usize = 20_000;

/// A ready server.
#[derive(Debug, Clone)]
pub(crate) struct ReadyServer {
    pub(crate) spec: Arc<ServerSpec>,
    pub(crate) record: Arc<ServerRecord>,
}

/// The two builds, compared.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Comparison {
    pub(crate) old: Option<BuildFigures>,
    pub(crate) new: BuildFigures,
    pub(crate) options: Vec<OptionDifference>,
    pub(crate) warnings: Vec<String>,
}

impl Comparison {
    /// Why the new build cannot take the place of the old one.
    pub(crate) fn problem(&self) -> Option<(FailureReason, String)> {
        let completion = |figures: &BuildFigures| figures.completion.clone();
        match (completion(&self.new)?, self.old.as_ref().and_then(completion)) {
            (CompletionAnswer::Missing { detail }, _) => {
                Some((FailureReason::Wedged, format!("it is ready, and a request for tokens failed: {detail}")))
            }
            (CompletionAnswer::Declined { detail }, Some(CompletionAnswer::Tokens { .. })) => {
                Some((FailureReason::Unknown, format!("it writes no token where the old build does: {detail}")))
            }
            _ => None,
        }
    }
}

/// Compares a canary with its server, which has the name of the lane's output. `old` is `None` where it is not ready.
pub(crate) async fn compare(
    old: Option<ReadyServer>,
    new: ReadyServer,
    lane: OutputLane,
    prompt: Option<String>,
) -> Comparison {
    let prompt = prompt.as_deref().unwrap_or(PROMPT);
    let new_figures = figures(&new, prompt).await;
    let old_figures = match &old {
        Some(old) => Some(figures(old, prompt).await),
        None => None,
    };
    let notes = |server: &ReadyServer| Arc::clone(&server.record.notes);
    let options = option_differences(old.as_ref().map(notes).as_deref(), &notes(&new));
    let canary = &new.spec.id;
    let printed = lane.tail(canary, None, MOST_LINES).into_iter();
    let printed = printed.filter(|line| line.incarnation == new.record.incarnation).map(|line| line.bytes);
    let known = old.as_ref().map(|old| lane.tail(&old.spec.id, None, MOST_LINES)).unwrap_or_default();
    let warnings = new_warnings(printed, known.into_iter().map(|line| line.bytes));
    Comparison { old: old_figures, new: new_figures, options, warnings }
}

async fn figures(server: &ReadyServer, prompt: &str) -> BuildFigures {
    let ReadyServer { spec, record } = server;
    let process = record.process.as_ref();
    let completion = match process {
        Some(process) => complete(&Target::new(spec, process.port), prompt).await,
        None => None,
    };
    let pid = process.map(|process| process.pid);
    // After the answer: the first request makes some builds allocate.
    let memory = blocking(move || {
        let pid = pid?;
        SystemMemoryProbe::new().read(&[pid]).resident.remove(&pid)
    });
    let memory_bytes = memory.await.ok().flatten();
    BuildFigures { memory_bytes, completion, ..known_figures(record, &spec.binary) }
}

/// What is known of a build without asking it.
pub(crate) fn known_figures(record: &ServerRecord, binary: &Path) -> BuildFigures {
    let is_adopted = record.ready.is_some_and(ReadyRecord::is_adopted);
    let startup_seconds =
        if is_adopted { record.ready_seconds.mean() } else { record.ready.map(|ready| ready.startup_seconds) };
    BuildFigures {
        binary: binary.to_owned(),
        version: record.llama_version.clone(),
        dialect: record.dialect.clone(),
        detector: record.detector.clone(),
        is_adopted,
        startup_seconds,
        ..BuildFigures::default()
    }
}

/// Requests tokens; `None` from a server that speaks TLS, which we do not.
async fn complete(target: &Target, prompt: &str) -> Option<CompletionAnswer> {
    if target.encrypted {
        return None;
    }
    let key = target.read_key().await;
    let body = json!({
        "prompt": prompt, "n_predict": TOKENS, "max_tokens": TOKENS, "temperature": 0, "cache_prompt": false, "stream": false,
    });
    let body = body.to_string();
    for path in ["/completion", "/v1/completions"] {
        let began = Instant::now();
        match ask(target, Question::post(path, &body, ANSWER_TIMEOUT).with_key(key.as_deref())).await {
            Ok(reply) if reply.status == StatusCode::NOT_FOUND => {}
            Ok(reply) => return Some(read(&reply, began.elapsed())),
            Err(error) => return Some(CompletionAnswer::Missing { detail: error.to_string() }),
        }
    }
    Some(CompletionAnswer::Declined { detail: "it has neither /completion nor /v1/completions".to_owned() })
}

/// Reads an answer of a build from 2023 on, or one in the format of OpenAI.
fn read(reply: &Reply, elapsed: Duration) -> CompletionAnswer {
    let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let number = |pointers: &[&str]| pointers.iter().find_map(|pointer| answer.pointer(pointer)?.as_f64());
    let tokens = number(&["/tokens_predicted", "/timings/predicted_n", "/usage/completion_tokens"]);
    match tokens {
        Some(tokens) if reply.status == StatusCode::OK && tokens >= 1.0 => {
            let seconds = elapsed.as_secs_f64();
            // For a single token, the build measures no time at all.
            let measured = number(&["/timings/predicted_per_second"]).filter(|rate| tokens > 1.0 && rate.is_finite());
            let tokens_per_second = measured.unwrap_or(tokens / seconds.max(f64::EPSILON));
            CompletionAnswer::Tokens { tokens: tokens as u64, seconds, tokens_per_second }
        }
        _ => {
            let told = answer.pointer("/error/message").and_then(Value::as_str);
            let told = told.map_or(String::new(), |told| format!(": {}", told.chars().take(300).collect::<String>()));
            CompletionAnswer::Declined { detail: format!("status {}{told}", reply.status.as_u16()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use llama_warden_events::ReadyVia;

    use super::*;

    fn answered(status: u16, body: &Value) -> CompletionAnswer {
        let reply = Reply { status: StatusCode::from_u16(status).expect("valid"), body: body.to_string().into() };
        read(&reply, Duration::from_secs(2))
    }

    #[test]
    fn the_rate_is_the_build_s_own_where_it_measures_one() {
        let timed = json!({ "tokens_predicted": 16, "timings": { "predicted_n": 16, "predicted_per_second": 50.5 } });
        let untimed = json!({ "usage": { "completion_tokens": 8 } });
        let single = json!({ "tokens_predicted": 1, "timings": { "predicted_per_second": 1e6 } });
        for (body, count, rate) in [(timed, 16, 50.5), (untimed, 8, 4.0), (single, 1, 0.5)] {
            let expected = CompletionAnswer::Tokens { tokens: count, seconds: 2.0, tokens_per_second: rate };
            assert_eq!(answered(200, &body), expected);
        }
    }

    #[test]
    fn a_process_that_was_adopted_has_the_load_time_of_its_server() {
        let ready = |via, startup_seconds| Some(ReadyRecord { via, startup_seconds });
        let mut record = ServerRecord { ready: ready(ReadyVia::Adopted, 0.01), ..ServerRecord::default() };
        let figures = |record: &ServerRecord| {
            let figures = known_figures(record, Path::new("llama-server"));
            (figures.is_adopted, figures.startup_seconds)
        };
        assert_eq!(figures(&record), (true, None));
        record.ready_seconds.observe(1.0);
        record.ready_seconds.observe(2.0);
        assert_eq!(figures(&record), (true, Some(1.5)));
        record.ready = ready(ReadyVia::Stderr, 3.0);
        assert_eq!(figures(&record), (false, Some(3.0)));
    }

    #[test]
    fn an_answer_without_a_token_says_why() {
        let error = json!({ "error": { "code": 501, "message": "This server does not support completions" } });
        for (status, body, detail) in [
            (501, error, "status 501: This server does not support completions"),
            (200, json!({ "tokens_predicted": 0 }), "status 200"),
            (200, json!("text"), "status 200"),
        ] {
            assert_eq!(answered(status, &body), CompletionAnswer::Declined { detail: detail.to_owned() });
        }
    }

    #[test]
    fn a_build_that_writes_no_token_is_a_problem_where_the_old_one_writes_some() {
        let tokens = CompletionAnswer::Tokens { tokens: 1, seconds: 1.0, tokens_per_second: 1.0 };
        let declined = CompletionAnswer::Declined { detail: "status 501".to_owned() };
        let missing = CompletionAnswer::Missing { detail: "no answer".to_owned() };
        let figures = |completion: &CompletionAnswer| BuildFigures {
            completion: Some(completion.clone()),
            ..BuildFigures::default()
        };
        for (old, new, reason) in [
            (Some(&tokens), &tokens, None),
            (None, &declined, None),
            (Some(&declined), &declined, None),
            (Some(&tokens), &declined, Some(FailureReason::Unknown)),
            (None, &missing, Some(FailureReason::Wedged)),
        ] {
            let (old, new) = (old.map(figures), figures(new));
            let comparison = Comparison { old, new, options: Vec::new(), warnings: Vec::new() };
            assert_eq!(comparison.problem().map(|(reason, _)| reason), reason, "{comparison:?}");
        }
    }
}
