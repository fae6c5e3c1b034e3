//! `router.keep-cache` with real builds: a conversation goes on after an eviction without its prompt being read again.

use llama_warden_state::SlotsState;
use llama_warden_tests::{
    Endpoint, ExternalProgram, Sandbox, TestDaemon, TestRequest, WAIT_LIMIT, eventually, external_program, sandbox,
};
use serde_json::{Value, json};

use crate::fleet::{add, real_fleet};

/// Longer than what is worth a file.
fn prompt(more: &str) -> String {
    format!("{}{more}", "once upon a time there was a llama ".repeat(16))
}

/// Room for one of two servers; `None` without the build.
async fn up(sandbox: &Sandbox, build: ExternalProgram) -> Option<(TestDaemon, Endpoint)> {
    let router = sandbox.file("router.sock");
    let mut fleet = real_fleet(sandbox, &external_program(build)?);
    fleet.section("[flags]\nctx-size = 2048\nthreads = 1\nparallel = 1");
    fleet.section(&format!("[router]\nlisten = '{}'\nmax-loaded = 1\nkeep-cache = true", router.display()));
    for id in ["a", "b"] {
        add(&mut fleet, id, "enabled = false");
    }
    Some((sandbox.up(&fleet).await, Endpoint::Unix(router)))
}

async fn complete(router: &Endpoint, model: &str, prompt: &str) -> Value {
    let body = json!({ "model": model, "prompt": prompt, "n_predict": 4, "temperature": 0, "cache_prompt": true });
    let request = TestRequest::post("/completion").header("content-type", "application/json").body(body.to_string());
    request.send(router).await.expect("the router answers").expect(200).json()
}

async fn becomes(daemon: &TestDaemon, state: SlotsState) -> String {
    let slots = async || daemon.report("a").await.slots.filter(|slots| slots.state == state);
    eventually("the slots are told of", WAIT_LIMIT, async || slots().await.is_some()).await;
    slots().await.and_then(|slots| slots.because).unwrap_or_default()
}

#[test]
fn a_real_build_continues_a_conversation_after_an_eviction_with_the_tokens_that_it_had_read() {
    for build in [ExternalProgram::LlamaServer0_3_16, ExternalProgram::LlamaServer] {
        sandbox(async |sandbox| {
            let Some((daemon, router)) = up(sandbox, build).await else { return };
            let cold = complete(&router, "a", &prompt("")).await;
            let all = cold["timings"]["prompt_n"].as_u64().expect("a number");
            assert!(all > 256, "{cold}");
            complete(&router, "b", "once").await;
            becomes(&daemon, SlotsState::Saved).await;
            let restored = complete(&router, "a", &prompt("and")).await;
            assert_eq!(daemon.count("a", "LaunchBegan").await, 2);
            let read = restored["timings"]["prompt_n"].as_u64().expect("a number");
            assert!(read < 16, "{read} of {all} tokens were read again: {restored}");
            becomes(&daemon, SlotsState::Used).await;
        });
    }
}

#[test]
fn a_build_of_2024_is_left_alone_and_says_why() {
    sandbox(async |sandbox| {
        let Some((daemon, router)) = up(sandbox, ExternalProgram::LlamaServer0_3_2).await else { return };
        complete(&router, "a", &prompt("")).await;
        let because = becomes(&daemon, SlotsState::Off).await;
        assert!(because.starts_with("its build does not save slots, or is one of those"), "{because}");
        complete(&router, "b", "once").await;
        complete(&router, "a", &prompt("and")).await;
        assert_eq!(daemon.count("a", "SlotsSaved").await, 0);
    });
}
