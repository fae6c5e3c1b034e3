//! Runs scripts in other languages, which check promises of their own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

/// Longest time of a script, whose own waits all end earlier.
const SCRIPT_LIMIT: Duration = Duration::from_secs(200);

/// A folder of the checkout.
pub fn checkout(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder)
}

/// Runs a script to its end. `perform` does what it asks for with a line `DO WHAT`.
pub async fn run(mut command: Command, mut perform: impl AsyncFnMut(&str)) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the interpreter runs");
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
