//! `argv`: the exact command line of a server for a build, and what was translated and why. Needs no daemon.

use std::path::PathBuf;

use llama_warden_config::ServerSpec;
use llama_warden_daemon::models::Inventory;
use llama_warden_daemon::{CommandFailure, Exit, LoadedConfig};
use llama_warden_events::OptionTreatment;
use llama_warden_launcher::{
    BinaryProfile, CommandLine, Dialect, DialectSet, EnvironmentPolicy, Spawner, child_environment, choose_dialect,
    identify, plan, resolve,
};
use llama_warden_plugin_files::{Choice, PluginFile as _};
use serde_json::json;

use crate::args::{ArgvArgs, GlobalArgs};
use crate::output::{print_json, print_line};
use crate::plugin_files::load_set;

pub async fn run(global: &GlobalArgs, args: &ArgvArgs) -> Result<Exit, CommandFailure> {
    let inventory = Inventory::scan(LoadedConfig::find(global.config.as_deref())?)?;
    let fleet = inventory.loaded.fleet(None)?;
    let Some(spec) = fleet.get(args.id.as_str()) else {
        let known = fleet.iter().map(|spec| spec.id.as_str());
        return Err(CommandFailure::unknown_server(Exit::Usage, &args.id, known));
    };
    let mut spec = ServerSpec::clone(spec);
    if let Some(binary) = &args.binary {
        spec.binary = binary.as_path().into();
    }
    let profile = ask(&spec).await?;
    let dialects: DialectSet = load_set(&inventory.loaded);
    let choice = choose_dialect(&dialects, &profile)
        .ok_or_else(|| CommandFailure::new(Exit::Failed, "there is no flag dialect at all"))?;
    let line = plan(&spec, &profile, &choice.file).map_err(|error| {
        CommandFailure::new(Exit::Failed, error).next_step("mend the option in the configuration, or use another build")
    })?;
    show(global, &Answer { profile, choice, line, dialects })
}

/// Looks the executable up and asks it, in the environment that the server would get.
async fn ask(spec: &ServerSpec) -> Result<BinaryProfile, CommandFailure> {
    let search_path = std::env::var_os("PATH");
    let path: PathBuf = resolve(&spec.binary, search_path.as_deref()).map_err(|error| {
        CommandFailure::new(Exit::Failed, error)
            .next_step("install llama.cpp, set llama-server.binary, or try another build with --binary")
    })?;
    let policy = EnvironmentPolicy { pass: &spec.env_pass, set: &spec.env };
    let environment = child_environment(std::env::vars_os(), policy, None)
        .map_err(|error| CommandFailure::new(Exit::Usage, error))?;
    let spawner = Spawner::start().map_err(|error| CommandFailure::new(Exit::Failed, error))?;
    match identify(&spawner, &path, &environment).await {
        Ok(profile) => Ok(profile),
        Err(error) => {
            eprintln!("warning: {error}; options are shown as they are written");
            Ok(BinaryProfile::unknown(path))
        }
    }
}

/// What is shown.
struct Answer {
    profile: BinaryProfile,
    choice: Choice<Dialect>,
    line: CommandLine,
    dialects: DialectSet,
}

fn show(global: &GlobalArgs, answer: &Answer) -> Result<Exit, CommandFailure> {
    let Answer { profile, choice, line, dialects } = answer;
    let (name, origin) = (choice.file.name(), choice.file.origin());
    let argv = line.redacted();
    if global.json {
        print_json(&json!({
            "build": profile.version.short_name(),
            "dialect": { "name": name, "file": origin.path(), "because": choice.because },
            "argv": argv,
            "options": line.notes,
            "warnings": line.warnings,
        }))?;
        return Ok(Exit::Done);
    }
    print_line(shell_words(&argv))?;
    let changed: Vec<_> = line.notes.iter().filter(|note| note.treatment != OptionTreatment::Kept).collect();
    if !changed.is_empty() {
        let build =
            profile.version.short_name().map_or_else(|| "this build".to_owned(), |build| format!("build {build}"));
        print_line(format!("\nfor {build}, by the dialect {name} ({origin}: {}):", choice.because))?;
    }
    for note in changed {
        let spelled = if note.spelled.is_empty() { "nothing".to_owned() } else { note.spelled.to_vec().join(" ") };
        let rule_of = note.dialect.as_deref().and_then(|dialect| dialects.get(dialect));
        let rule_of = rule_of.map(|dialect| format!(" [{}, {}]", dialect.name(), dialect.origin())).unwrap_or_default();
        print_line(format!("  {} -> {spelled}: {}{rule_of}", note.option, note.because))?;
    }
    for warning in &line.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(Exit::Done)
}

/// The command line as a shell would take it, an option and its value per line.
fn shell_words(argv: &[String]) -> String {
    let mut text = String::new();
    for (index, word) in argv.iter().enumerate() {
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
