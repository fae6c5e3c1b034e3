//! Clients that people use ask real llama-servers through the router. The promises are in the scripts below `tests/clients`; a test
//! here fails with its script.

use llama_warden_events::{Event, StopReason};
use llama_warden_stand_in::Script;
use llama_warden_tests::{ExternalProgram, Port, Sandbox, TestFleet, external_program, sandbox, stand_in_program};
use tokio::process::Command;

use crate::fleet::{add, real_fleet};
use crate::scripts::{checkout, run};

/// Every token is `e`, which never ends an answer, and the context moves on under it, so that an answer is as long as it may be. Of
/// noise, the first token may be a part of a character, for which llama-server leaves out the first event of a stream.
const FLAGS: &str = "[flags]\nctx-size = 2048\nthreads = 1\nparallel = 2\ntemp = 0\nlogit-bias = \"260+100\"\n\
     context-shift = true";

/// A script in the interpreter's language, with the router and a new key in its environment; `None` without the clients.
async fn script(sandbox: &Sandbox, fleet: &mut TestFleet, router: &Port, name: &str) -> Option<Command> {
    let is_python = name.ends_with(".py");
    let (interpreter, clients, variable) = match is_python {
        true => ("python3", ExternalProgram::PythonClients, "PYTHONPATH"),
        false => ("node", ExternalProgram::NodeClients, "LLAMA_WARDEN_TEST_NODE_CLIENTS"),
    };
    let packages = external_program(clients)?;
    let keys = sandbox.file("keys.toml");
    fleet.section(&format!("keys-file = '{}'", keys.display()));
    let config = fleet.write();
    let new = async |options: &[&str]| {
        let run = sandbox.run(&config, ["key", "new"].iter().chain(options)).await.expect(0);
        run.stdout.trim().to_owned()
    };
    let (key, narrow) = (new(&["wide"]).await, new(&["narrow", "--models", "a", "--max-in-flight", "1"]).await);
    let mut command = sandbox.program(interpreter);
    command
        .arg(checkout("tests/clients").join(name))
        .env(variable, packages.parent().expect("a file in a folder"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("LLAMA_WARDEN_TEST_ROUTER", format!("http://127.0.0.1:{}", router.number()))
        .env("LLAMA_WARDEN_TEST_KEY", key)
        .env("LLAMA_WARDEN_TEST_NARROW_KEY", narrow);
    Some(command)
}

/// Runs a script beside a model, one for embeddings, one that is slow and has room for one request and one that waits, and one that a
/// person has stopped.
fn keeps_its_promises(name: &str) {
    sandbox(async |sandbox| {
        let Some(llama_server) = external_program(ExternalProgram::LlamaServer) else { return };
        let (mut fleet, router) = (real_fleet(sandbox, &llama_server), Port::lease());
        fleet.section(FLAGS);
        fleet.section(&format!("[router]\nlisten = \"127.0.0.1:{}\"\nmax-loaded = 0", router.number()));
        fleet.section("queue-timeout = \"5s\"");
        let Some(command) = script(sandbox, &mut fleet, &router, name).await else { return };
        add(&mut fleet, "a", "router = { aliases = [\"gpt-4o-mini\"] }");
        add(&mut fleet, "embed", "flags = { embeddings = true, pooling = \"mean\" }");
        let stand_in = format!("binary = '{}'", stand_in_program().display());
        let slow = Script { token_ms: 40, ..Script::default() };
        fleet.server_with("busy", slow, &format!("{stand_in}\nrouter = {{ concurrency = 1, queue = 1 }}"));
        fleet.server_with("stopped", Script::default(), &stand_in);
        let daemon = sandbox.up(&fleet).await;
        for id in ["a", "embed", "busy", "stopped"] {
            daemon.ready(id).await;
        }
        daemon.command("stopped", "stop?wait=20s").await.expect(200);
        run(command, async |what| panic!("nobody can {what}")).await;
    });
}

#[test]
fn openai_for_python_gets_what_it_asks_for() {
    keeps_its_promises("openai_client.py");
}

#[test]
fn anthropic_for_python_gets_what_it_asks_for() {
    keeps_its_promises("anthropic_client.py");
}

#[test]
fn langchain_gets_what_it_asks_for() {
    keeps_its_promises("langchain_client.py");
}

#[test]
fn openai_for_javascript_gets_what_it_asks_for() {
    keeps_its_promises("openai_client.mjs");
}

#[test]
fn anthropic_for_javascript_gets_what_it_asks_for() {
    keeps_its_promises("anthropic_client.mjs");
}

/// `LLAMA_WARDEN_TEST_SECONDS` makes it longer.
#[test]
fn twenty_threads_alternate_between_two_models_of_which_one_may_run_and_no_call_fails() {
    sandbox(async |sandbox| {
        let Some(llama_server) = external_program(ExternalProgram::LlamaServer) else { return };
        let (mut fleet, router) = (real_fleet(sandbox, &llama_server), Port::lease());
        fleet.section(FLAGS);
        fleet.section(&format!("[router]\nlisten = \"127.0.0.1:{}\"\nmax-loaded = 1", router.number()));
        let Some(mut command) = script(sandbox, &mut fleet, &router, "alternate.py").await else { return };
        let seconds = std::env::var("LLAMA_WARDEN_TEST_SECONDS").unwrap_or_else(|_| "10".to_owned());
        command.env("LLAMA_WARDEN_TEST_SECONDS", seconds);
        for id in ["a", "b"] {
            add(&mut fleet, id, "enabled = false");
        }
        let daemon = sandbox.up(&fleet).await;
        run(command, async |what| panic!("nobody can {what}")).await;
        for id in ["a", "b"] {
            let events = daemon.events_of(id).await;
            let is_evicted = |event: &Event| matches!(event, Event::StopBegan { reason: StopReason::Evicted, .. });
            assert!(events.iter().any(|event| is_evicted(&event.event)), "{id} never made room");
        }
    });
}
