//! A real browser opens the dashboard. The promises are in the scripts below `tests/browser`; a test here fails with its script.

use std::path::PathBuf;

use llama_warden_stand_in::Script;
use llama_warden_tests::{ExternalProgram, Port, Sandbox, external_program, sandbox};
use nix::sys::signal::Signal;
use tokio::process::Command;

use crate::scripts::{checkout, run};

/// A command that runs a script in a browser; `None` where there is no browser.
pub fn script(sandbox: &Sandbox, name: &str) -> Option<Command> {
    let browser = external_program(ExternalProgram::Browser)?;
    let mut command = sandbox.program("node");
    command.arg(checkout("tests/browser").join(name)).env("LLAMA_WARDEN_TEST_BROWSER", browser);
    for variable in ["LLAMA_WARDEN_TEST_BROWSER_FONTS", "LLAMA_WARDEN_TEST_NODE_MODULES", "LLAMA_WARDEN_TEST_ONLY"] {
        command.envs(std::env::var_os(variable).map(|value| (variable, value)));
    }
    // The pictures of the documentation are made by naming `docs/pictures`.
    let pictures =
        std::env::var_os("LLAMA_WARDEN_TEST_PICTURES").map_or_else(|| sandbox.file("pictures"), PathBuf::from);
    command
        .env("LLAMA_WARDEN_TEST_PICTURES", pictures)
        .env("LLAMA_WARDEN_TEST_PAGE", checkout("crates/lib/dashboard/page"));
    Some(command)
}

#[test]
fn the_page_looks_right_and_keeps_up_with_a_stub_of_the_daemon() {
    sandbox(async |sandbox| {
        let Some(command) = script(sandbox, "stub_page.mjs") else { return };
        run(command, async |what| panic!("a stub has no {what}")).await;
    });
}

#[test]
fn the_page_starts_stops_switches_and_comes_back_after_the_daemon_was_killed() {
    sandbox(async |sandbox| {
        let Some(mut command) = script(sandbox, "daemon_page.mjs") else { return };
        let mut fleet = sandbox.fleet();
        std::fs::write(sandbox.file("token"), "s3cret-t0ken\n").expect("written");
        fleet.daemon(&format!("token-file = \"{}\"", sandbox.file("token").display()));
        fleet.section(
            "[profiles.all]\nservers = [\"a\", \"b\"]\n[profiles.alone]\ndescription = \"only b\"\nservers = [\"b\"]\n",
        );
        let router = Port::lease();
        fleet.section(&format!("[router]\nlisten = \"127.0.0.1:{}\"", router.number()));
        fleet.server_with("a", Script::default(), "display-name = \"<img src=x onerror=alert(1)>\"");
        fleet.server("b", Script { load_ms: 300, ..Script::default() });
        fleet.server_of("broken", &sandbox.file("missing.gguf"), "enabled = false");
        let mut daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        daemon.ready("b").await;
        command.env("LLAMA_WARDEN_TEST_URL", format!("http://127.0.0.1:{}/", fleet.listen()));
        command.env("LLAMA_WARDEN_TEST_TOKEN", "s3cret-t0ken");
        run(command, async |what| match what {
            "kill" => {
                daemon.signal(Signal::SIGKILL);
                daemon.exit().await;
            }
            "up" => daemon = sandbox.up(&fleet).await,
            other => panic!("nobody can {other}"),
        })
        .await;
    });
}
