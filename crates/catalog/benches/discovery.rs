//! Prints what discovery finds as JSON, and how long it took.
//!
//! `cargo run --release -p llama-warden-catalog --example discover -- DIRECTORY...` looks at directories.
//! Without any, it looks at 1 000 generated models, whose tokenizers have the number of words in `WORDS`
//! (150 000 by default, as in a current model), and prints the time alone.

#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/support/gguf.rs"]
mod support;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use llama_warden_catalog::{Report, discover};
use support::{Gguf, Value};

/// Models looked at.
const MODELS: usize = 1000;

/// Files with content of their own; the others are further names of these, which saves disk space.
const DISTINCT: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let directories: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if !directories.is_empty() {
        println!("{}", serde_json::to_string_pretty(&timed(&directories))?);
        return Ok(());
    }
    let words = std::env::var("WORDS").map_or(Ok(150_000), |words| words.parse())?;
    let directory = tempfile::tempdir()?;
    generate(directory.path(), words)?;
    for _ in 0..3 {
        let report = timed(&[directory.path().to_owned()]);
        assert_eq!((report.models.len(), report.problems.len()), (MODELS, 0));
    }
    Ok(())
}

fn timed(directories: &[PathBuf]) -> Report {
    let begun = Instant::now();
    let report = discover(directories);
    let elapsed = begun.elapsed().as_secs_f64() * 1e3;
    let Report { models, skipped, problems } = &report;
    eprintln!("{} models, {} skipped, {} problems in {elapsed:.0} ms", models.len(), skipped.len(), problems.len());
    report
}

fn generate(directory: &Path, words: usize) -> Result<(), Box<dyn Error>> {
    let texts = |length: usize| Value::Texts((0..words).map(|word| format!("{word:0length$}")).collect());
    let model = Gguf::model("qwen3")
        .with("qwen3.context_length", 40_960)
        .with("tokenizer.ggml.tokens", texts(6))
        .with("tokenizer.ggml.token_type", Value::I32s(vec![1; words]))
        .with("tokenizer.ggml.merges", texts(9))
        .with("tokenizer.chat_template", "x".repeat(4000).as_str());
    let model = (0..400).fold(model, |model, _| model.tensor(&[4096], 0));
    for index in 0..MODELS {
        let path = directory.join(format!("{index}/Model-{index}-8B-Q4_K_M.gguf"));
        if index < DISTINCT {
            model.write(&path)?;
        } else {
            std::fs::create_dir(directory.join(index.to_string()))?;
            let first = index % DISTINCT;
            std::fs::hard_link(directory.join(format!("{first}/Model-{first}-8B-Q4_K_M.gguf")), path)?;
        }
    }
    Ok(())
}
