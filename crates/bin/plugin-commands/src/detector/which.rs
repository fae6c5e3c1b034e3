//! `detector which`: prints the pack and the dialect of a build, and why they fit.

use std::path::Path;

use llama_warden_connect::GlobalArgs;
use llama_warden_detectors::Pack;
use llama_warden_dialects::{Dialect, build_command_line, choose_dialect};
use llama_warden_exit::{CommandFailure, CommandResult};
use llama_warden_inventory::LoadedConfig;
use llama_warden_launcher::IdentifyError;
use llama_warden_plugin_files::{Choice, PluginFile};
use serde_json::{Value, json};

use llama_warden_builds::executable;
use llama_warden_builds::plugin_files::load_set;
use llama_warden_terminal::output::print_either;

/// Placeholders: nothing is started.
const PORT: u16 = 8001;
const MODEL: &str = "/model.gguf";

pub async fn run(global: &GlobalArgs, binary: &Path) -> CommandResult {
    let loaded = LoadedConfig::find(global.config.as_deref())?;
    let (packs, dialects) = (load_set::<Pack>(&loaded), load_set::<Dialect>(&loaded));
    let binary = executable::locate(binary)?;
    let spec = executable::default_spec("which", &binary, Path::new(MODEL), PORT)?;
    let profile = executable::ask(&spec, &binary).await?.map_err(|error| {
        let (what, next_step) = match &error {
            IdentifyError::Broken { .. } => {
                (error.to_string(), "install what is missing, or use a build for this machine")
            }
            IdentifyError::NoOptions { path } => {
                (format!("{} is no llama-server: {error}", path.display()), "name a llama-server")
            }
            _ => (error.to_string(), "see that `BINARY --help` works by hand; its output says which options there are"),
        };
        CommandFailure::failed(what).next_step(next_step)
    })?;
    let none = |word: &str| CommandFailure::failed(format!("no {word} is available"));
    let pack =
        packs.choose(profile.version.build, &profile.identity.options, None).ok_or_else(|| none("detector pack"))?;
    let dialect = choose_dialect(&dialects, &profile, None).ok_or_else(|| none("flag dialect"))?;
    let line = build_command_line(&spec, &profile, &dialect.file).map_err(CommandFailure::failed)?;
    let (build, options) = (profile.version.short_name(), profile.identity.options.len());
    let mut spelling = as_data(&dialect);
    spelling["defaults"] = json!(line.notes);
    let data = json!({
        "binary": profile.path,
        "build": build,
        "options": options,
        "detector": as_data(&pack),
        "dialect": spelling,
    });
    print_either(global.json, &data, || {
        let build = build.unwrap_or_else(|| "its version names none".to_owned());
        let mut lines = vec![
            format!("binary    {}", profile.path.display()),
            format!("build     {build}"),
            format!("options   {options} in its help"),
            format!("detector  {}", in_words(&pack)),
            format!("dialect   {}", in_words(&dialect)),
        ];
        lines.extend(line.notes.iter().map(|note| format!("          {}", executable::describe_note(note))));
        lines.join("\n")
    })
}

fn as_data<F: PluginFile>(choice: &Choice<F>) -> Value {
    json!({ "name": choice.file.name(), "file": choice.file.origin().path(), "because": choice.because })
}

fn in_words<F: PluginFile>(choice: &Choice<F>) -> String {
    format!("{} ({}): {}", choice.file.name(), choice.file.origin(), choice.because)
}
