//! `import`: prints a configuration made of one of another program, and lists what has no counterpart. Starts nothing.

use std::path::Path;

use llama_warden_config::{ConfigSource, Environment, values_in_force};
use llama_warden_connect::GlobalArgs;
use llama_warden_exit::{CommandFailure, CommandResult, Exit, FailureMessage, with_source};
use llama_warden_import::{ImportedConfig, LeftOut, from_llama_swap, from_presets};
use llama_warden_inventory::LoadedConfig;
use llama_warden_support::read_regular;
use llama_warden_terminal::output::{print_json, print_line};
use serde_json::json;

use crate::args::ImportCommand;

/// Most bytes of a file that are read: no person writes as many.
const LONGEST: u64 = 16 << 20;

pub fn run(global: &GlobalArgs, command: &ImportCommand) -> CommandResult {
    let defaults = own_options();
    let (file, imported) = match command {
        ImportCommand::LlamaSwap { file } => {
            let text = read(file)?;
            let variable = |name: &str| std::env::var(name).ok();
            (file, from_llama_swap(&text, &defaults, variable).map_err(|error| with_source(&error)))
        }
        ImportCommand::RouterPresets { file, binary } => {
            (file, from_presets(&read(file)?, binary, &defaults).map_err(|error| with_source(&error)))
        }
    };
    let imported = imported.map_err(|error| CommandFailure::usage(format!("{}: {error}", file.display())))?;
    let refused = problems_of(&imported);
    let exit = if refused.is_empty() { Exit::Done } else { Exit::Usage };
    if global.json {
        let left_out =
            imported.left_out.iter().map(|LeftOut { place, because }| json!({ "place": place, "because": because }));
        print_json(&json!({ "toml": imported.toml, "left_out": left_out.collect::<Vec<_>>(), "problems": refused }))?;
        return Ok(exit);
    }
    print_line(imported.toml.trim_end())?;
    if !imported.left_out.is_empty() {
        eprintln!("not converted:");
    }
    for LeftOut { place, because } in &imported.left_out {
        eprintln!("  {place}: {because}");
    }
    for problem in &refused {
        eprintln!("to be fixed by hand: {problem}");
    }
    eprintln!("next: write it to llama-warden.toml; `llama-warden check` looks whether this machine can run it");
    Ok(exit)
}

/// The options that a configuration sets by itself, and another program does not.
fn own_options() -> Vec<String> {
    let values = values_in_force(&ConfigSource::none("/"), &Environment::default()).unwrap_or_default();
    values.iter().filter_map(|value| value.key.strip_prefix("flags.").map(str::to_owned)).collect()
}

/// What this program refuses in the result.
fn problems_of(imported: &ImportedConfig) -> Vec<String> {
    let source = ConfigSource::text("/", imported.toml.as_str());
    let failure = LoadedConfig::parse(&source, Environment::default()).err();
    match failure.map(|failure| failure.message) {
        Some(FailureMessage::Configuration(problems)) => problems.0.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    }
}

fn read(file: &Path) -> Result<String, CommandFailure> {
    let failure = |error: std::io::Error| CommandFailure::usage(format!("cannot read {}: {error}", file.display()));
    let bytes = read_regular(file, LONGEST).map_err(failure)?;
    String::from_utf8(bytes).map_err(|_| CommandFailure::usage(format!("{} is no text in UTF-8", file.display())))
}
