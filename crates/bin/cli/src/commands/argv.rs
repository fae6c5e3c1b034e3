//! `argv`: the exact command line of a server for a build, and why its options were translated. Needs no daemon.

use std::path::Path;

use llama_warden_config::ServerSpec;
use llama_warden_daemon::models::Inventory;
use llama_warden_daemon::{CommandFailure, CommandResult, Exit, LoadedConfig};
use llama_warden_dialects::{BinaryProfile, DialectSet, OptionErrors, build_command_line, choose_dialect};
use llama_warden_events::{OptionTreatment, ServerId};
use llama_warden_plugin_files::PluginFile as _;
use serde_json::json;

use crate::args::GlobalArgs;
use crate::executable;
use crate::output::print_either;
use crate::plugin_files::load_set;

pub async fn run(global: &GlobalArgs, id: &ServerId, binary: Option<&Path>) -> CommandResult {
    let inventory = Inventory::scan(LoadedConfig::find(global.config.as_deref())?)?;
    let fleet = inventory.loaded.fleet(None)?;
    let Some(spec) = fleet.get(id.as_str()) else {
        let known = fleet.iter().map(|spec| spec.id.as_str());
        return Err(CommandFailure::unknown_server(Exit::Usage, id, known));
    };
    let mut spec = ServerSpec::clone(spec);
    if let Some(binary) = binary {
        spec.binary = binary.into();
    }
    let profile = profile(&spec).await?;
    let dialects: DialectSet = load_set(&inventory.loaded);
    let choice = choose_dialect(&dialects, &profile, spec.dialect.as_deref())
        .ok_or_else(|| CommandFailure::failed("no flag dialect is available"))?;
    let line = build_command_line(&spec, &profile, &choice.file).map_err(|OptionErrors(errors)| {
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        CommandFailure::failed(errors.join("\nerror: ")).next_step(
            "fix the options in the configuration, or use another build; `llama-warden check` shows their places",
        )
    })?;
    let (name, origin) = (choice.file.name(), choice.file.origin());
    let argv = line.redacted();
    let warnings: Vec<String> =
        line.warnings.iter().cloned().chain(line.doubts.iter().map(ToString::to_string)).collect();
    let data = json!({
        "build": profile.version.short_name(),
        "dialect": { "name": name, "file": origin.path(), "because": choice.because },
        "argv": argv,
        "options": line.notes,
        "warnings": warnings,
    });
    print_either(global, &data, || {
        let mut lines = vec![shell_words(&argv)];
        let changed: Vec<_> = line.notes.iter().filter(|note| note.treatment != OptionTreatment::Kept).collect();
        if !changed.is_empty() {
            let build = profile.version.short_name();
            let build = build.map_or_else(|| "this build".to_owned(), |build| format!("build {build}"));
            lines.push(format!("\nfor {build}, by the dialect {name} ({origin}: {}):", choice.because));
        }
        for note in changed {
            let rule_of = note.dialect.as_deref().and_then(|dialect| dialects.get(dialect));
            let rule_of = rule_of.map(|rule| format!(" [{}, {}]", rule.name(), rule.origin())).unwrap_or_default();
            lines.push(format!("  {}{rule_of}", executable::describe_note(note)));
        }
        lines.join("\n")
    })?;
    if !global.json {
        warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    }
    Ok(Exit::Done)
}

/// The version and options of the server's executable. One that cannot be asked gets what is written, as at a launch.
async fn profile(spec: &ServerSpec) -> Result<BinaryProfile, CommandFailure> {
    let path = executable::find(&spec.binary).map_err(|error| {
        CommandFailure::failed(error)
            .next_step("install llama.cpp, set llama-server.binary, or try another build with --binary")
    })?;
    Ok(executable::ask(spec, &path).await?.unwrap_or_else(|error| {
        eprintln!("warning: {error}; only the options that are written are passed, and no defaults");
        BinaryProfile::unknown(path)
    }))
}

/// The command line, quoted for a shell, with one option and its value per line.
fn shell_words(argv: &[String]) -> String {
    let mut text = String::new();
    for (index, word) in argv.iter().enumerate() {
        // A number such as `-1` is a value.
        let starts_option = word.starts_with('-') && word.parse::<f64>().is_err();
        match index {
            0 => {}
            _ if starts_option => text.push_str(" \\\n  "),
            _ => text.push(' '),
        }
        text.push_str(&quoted(word));
    }
    text
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_shown_as_a_shell_takes_it() {
        let argv = ["/opt/my llama/llama-server", "--model", "/m/it's.gguf", "--temp", "-1", "--jinja"];
        assert_eq!(
            shell_words(&argv.map(str::to_owned)),
            "'/opt/my llama/llama-server' \\\n  --model '/m/it'\\''s.gguf' \\\n  --temp -1 \\\n  --jinja"
        );
    }
}
