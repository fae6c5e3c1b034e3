//! A real browser opens the dashboard. The promises are in the scripts below `tests/browser`; a test here fails with its script.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use llama_warden_stand_in::Script;
use llama_warden_tests::{ExternalProgram, Port, Sandbox, external_program, sandbox};
use nix::sys::signal::Signal;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

/// Longest time of a script, whose own waits all end earlier.
const SCRIPT_LIMIT: Duration = Duration::from_secs(200);

/// A folder of the checkout.
fn checkout(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder)
}

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
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(command)
}

/// Runs a script to its end. `perform` does what it asks for with a line `DO WHAT`.
pub async fn run(mut command: Command, mut perform: impl AsyncFnMut(&str)) {
    let mut child = command.spawn().expect("node runs");
    let (mut input, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let mut errors = child.stderr.take().expect("piped");
    let mut text = String::new();
    let run = async {
        let mut lines = BufReader::new(output).lines();
        while let Some(line) = lines.next_line().await.expect("UTF-8") {
            match line.strip_prefix("DO ") {
                Some(what) => {
                    perform(what).await;
                    input.write_all(b"done\n").await.expect("it waits for the answer");
                }
                None => text.push_str(&format!("{line}\n")),
            }
        }
        let mut said = String::new();
        errors.read_to_string(&mut said).await.expect("UTF-8");
        (child.wait().await.expect("it ends"), said)
    };
    let ended = tokio::time::timeout(SCRIPT_LIMIT, run).await;
    println!("{text}");
    let (status, said) = ended.unwrap_or_else(|_| panic!("the script does not end:\n{text}"));
    assert!(status.success(), "{status}\n{text}{said}");
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
