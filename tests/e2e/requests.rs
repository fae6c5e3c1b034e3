//! Requests are counted from the lines of real builds, without `--metrics` and without a question to the server.

use llama_warden_tests::{
    Endpoint, ExternalProgram, Sandbox, TestDaemon, TestRequest, WAIT_LIMIT, eventually, external_program, sample,
    sandbox,
};
use serde_json::{Value, json};

use crate::fleet::{SMALL, add, real_fleet};

const BUILDS: [ExternalProgram; 3] =
    [ExternalProgram::LlamaServer0_3_2, ExternalProgram::LlamaServer0_3_16, ExternalProgram::LlamaServer];

/// The sums of the answers of a server.
#[derive(Debug, Default)]
struct AnswerSums {
    requests: f64,
    prompt_tokens: f64,
    decode_tokens: f64,
    prompt_seconds: f64,
    decode_seconds: f64,
}

impl AnswerSums {
    fn add(&mut self, answer: &Value) {
        let number = |key: &str| answer["timings"][key].as_f64().unwrap_or_else(|| panic!("no {key} in {answer}"));
        self.requests += 1.0;
        self.prompt_tokens += number("prompt_n");
        self.decode_tokens += number("predicted_n");
        self.prompt_seconds += number("prompt_ms") / 1e3;
        self.decode_seconds += number("predicted_ms") / 1e3;
    }
}

async fn generate(port: u16, tokens: u32) -> Value {
    let body = json!({ "prompt": format!("once upon {tokens} times"), "n_predict": tokens }).to_string();
    let request = TestRequest::post("/completion").header("content-type", "application/json").body(body);
    request.send(&Endpoint::Tcp(port)).await.expect("an answer").expect(200).json()
}

/// A daemon with one server `a` of this build; `None` without the build.
async fn up(sandbox: &Sandbox, build: ExternalProgram, flags: &str) -> Option<(TestDaemon, u16)> {
    let mut fleet = real_fleet(sandbox, &external_program(build)?);
    fleet.section(&format!("{SMALL}\n{flags}"));
    add(&mut fleet, "a", "");
    let daemon = sandbox.up(&fleet).await;
    daemon.ready("a").await;
    Some((daemon, fleet.port("a")))
}

/// The sample of the server `a`.
fn of_a(metrics: &str, name: &str) -> Option<f64> {
    sample(metrics, name, &[("server", "a")])
}

/// Waits until the daemon has read the lines of `requests` requests, and returns the metrics.
async fn counted(daemon: &TestDaemon, requests: f64) -> String {
    let mut metrics = String::new();
    eventually("every request is counted", WAIT_LIMIT, async || {
        metrics = daemon.metrics().await;
        of_a(&metrics, "llama_warden_requests_total") == Some(requests)
            && of_a(&metrics, "llama_warden_server_slots_busy") == Some(0.0)
    })
    .await;
    metrics
}

#[test]
fn the_metrics_of_requests_are_what_the_answers_say() {
    for build in BUILDS {
        sandbox(async |sandbox| {
            let Some((daemon, port)) = up(sandbox, build, "").await else { return };
            let mut sums = AnswerSums::default();
            for tokens in [1, 2, 8, 16, 16] {
                sums.add(&generate(port, tokens).await);
            }
            let (one, other) = tokio::join!(generate(port, 12), generate(port, 13));
            sums.add(&one);
            sums.add(&other);
            let metrics = counted(&daemon, sums.requests).await;
            let value = |name: &str| of_a(&metrics, name).unwrap_or_else(|| panic!("no {name} in {metrics}"));
            assert_eq!(value("llama_warden_request_prompt_tokens_total"), sums.prompt_tokens, "{build:?}");
            assert_eq!(value("llama_warden_request_decode_tokens_total"), sums.decode_tokens, "{build:?}");
            assert_eq!(value("llama_warden_request_decode_seconds_count"), sums.requests, "{build:?}");
            // Of one token there is no time per token.
            let timed = value("llama_warden_request_time_per_output_token_seconds_count");
            assert_eq!(timed, sums.requests - 1.0, "{build:?}");
            let rounding = 0.005e-3 * sums.requests + 1e-9;
            for (name, sum) in [("prompt", sums.prompt_seconds), ("decode", sums.decode_seconds)] {
                let printed = value(&format!("llama_warden_request_{name}_seconds_sum"));
                assert!((printed - sum).abs() <= rounding, "{build:?}: {name} took {sum}, counted as {printed}");
            }
            assert_eq!(value("llama_warden_server_request_metrics"), 1.0);
            let requests = daemon.report("a").await.requests.expect("this build prints requests");
            assert_eq!((requests.count as f64, requests.decode_tokens as f64), (sums.requests, sums.decode_tokens));
            assert!(requests.decode_tokens_per_second.is_some_and(|speed| speed > 0.0), "{requests:?}");
            assert!(requests.last_at.is_some());
        });
    }
}

#[test]
fn counters_go_on_after_a_restart_of_the_server() {
    sandbox(async |sandbox| {
        let Some((daemon, port)) = up(sandbox, ExternalProgram::LlamaServer, "").await else { return };
        generate(port, 4).await;
        counted(&daemon, 1.0).await;
        daemon.command("a", "restart?wait=50s").await.expect(200);
        counted(&daemon, 1.0).await;
        generate(port, 4).await;
        counted(&daemon, 2.0).await;
    });
}

#[test]
fn a_server_that_is_told_to_be_silent_has_no_zeros() {
    sandbox(async |sandbox| {
        let Some((daemon, port)) = up(sandbox, ExternalProgram::LlamaServer, "log-disable = true").await else {
            return;
        };
        generate(port, 4).await;
        let metrics = daemon.metrics().await;
        assert_eq!(of_a(&metrics, "llama_warden_server_request_metrics"), Some(0.0));
        assert_eq!(of_a(&metrics, "llama_warden_requests_total"), None);
        assert_eq!(daemon.report("a").await.requests, None);
    });
}
