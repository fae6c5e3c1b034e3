//! `argv`: the exact command line of a server for a build, and why its options were translated.
//!
//! The daemon knows how it launched the server, and where its configuration is. Without a daemon, the configuration is the
//! one that every command finds.

use std::collections::BTreeMap;
use std::path::Path;

use llama_warden_api_types::ServerDetail;
use llama_warden_client::{Client, DaemonAddress};
use llama_warden_config::ServerSpec;
use llama_warden_connect::{self as connect, GlobalArgs};
use llama_warden_dialects::{BinaryProfile, DialectSet, OptionErrors, build_command_line, choose_dialect};
use llama_warden_events::{Incarnation, OptionNote, OptionTreatment, ServerId};
use llama_warden_exit::{CommandFailure, CommandResult, Exit};
use llama_warden_inventory::Inventory;
use llama_warden_inventory::LoadedConfig;
use llama_warden_plugin_files::PluginFile as _;
use serde_json::{Value, json};

use super::up::searched;
use llama_warden_builds::executable;
use llama_warden_builds::plugin_files::load_set;
use llama_warden_terminal::advice::shell_word;
use llama_warden_terminal::output::print_either;

pub async fn run(global: &GlobalArgs, id: &ServerId, binary: Option<&Path>, profile: Option<&str>) -> CommandResult {
    let client = match connect::to_daemon(global).await {
        Ok(client) => Some(client),
        Err(failure) if failure.exit == Exit::NoDaemon && global.address.is_none() => None,
        Err(failure) => return Err(failure),
    };
    let Some(client) = client else {
        return from_file(global, LoadedConfig::find(global.config.as_deref())?, id, binary, profile).await;
    };
    let report = client.status().await.map_err(connect::request_failure)?;
    if report.servers.iter().all(|server| server.model_id != *id) {
        let known = report.servers.iter().map(|server| server.model_id.as_str());
        return Err(CommandFailure::unknown_server(id.as_str(), known));
    }
    let detail = client.server(id).await.map_err(connect::request_failure)?;
    if binary.is_none() && profile.is_none() && !detail.argv.is_empty() {
        return print(global, &ShownLine::of_launch(detail, &client));
    }
    // No launch, or not the one that is asked for: what the daemon would launch follows from its configuration.
    let place = client.configuration().await.map_err(connect::request_failure)?;
    let profile = profile.unwrap_or(report.profile.as_deref().unwrap_or_default());
    from_file(global, LoadedConfig::of_daemon(&place)?, id, binary, Some(profile)).await
}

/// A command line, and what was translated for its build.
struct ShownLine {
    argv: Vec<String>,
    /// Empty if it is not known.
    environment: BTreeMap<String, String>,
    /// The build as its version names it, or the number of its launch.
    build: Option<String>,
    dialect: Value,
    /// The dialect in words, and where the name of a rule's dialect leads.
    because: String,
    options: Vec<OptionNote>,
    rules: BTreeMap<String, String>,
    warnings: Vec<String>,
    launch: Option<Incarnation>,
}

impl ShownLine {
    /// The line of the latest launch, as the daemon reports it.
    fn of_launch(detail: ServerDetail, client: &Client) -> Self {
        let dialect = detail.dialect.unwrap_or_default();
        // The process id means nothing on another machine.
        let is_here = matches!(client.address(), DaemonAddress::Unix(_));
        let process = detail.report.pid.filter(|_| is_here);
        Self {
            argv: detail.argv,
            environment: process.map(executable::environment_of).unwrap_or_default(),
            build: detail.report.llama_version,
            dialect: json!({ "name": dialect }),
            because: format!("the dialect {dialect}"),
            options: detail.options,
            rules: BTreeMap::new(),
            warnings: detail.warnings.into_iter().map(|warning| warning.detail).collect(),
            launch: Some(detail.report.incarnation),
        }
    }
}

/// Shows the line that a launch by this configuration would have.
async fn from_file(
    global: &GlobalArgs,
    loaded: LoadedConfig,
    id: &ServerId,
    binary: Option<&Path>,
    profile: Option<&str>,
) -> CommandResult {
    let inventory = Inventory::scan(loaded)?;
    let fleet = inventory.loaded.fleet(profile)?;
    let Some(spec) = fleet.get(id.as_str()) else {
        if fleet.iter().next().is_none() && inventory.loaded.configuration.path().is_none() {
            let message = format!("there is no server `{id}`: no daemon answers{}", searched(false));
            return Err(CommandFailure::usage(message)
                .next_step("name the configuration with --config, or the daemon with --address"));
        }
        let known = fleet.iter().map(|spec| spec.id.as_str());
        return Err(CommandFailure::unknown_server(id.as_str(), known));
    };
    let mut spec = ServerSpec::clone(spec);
    if let Some(binary) = binary {
        spec.binary = binary.into();
    }
    let profile = build_of(&spec).await?;
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
    let rules = line.notes.iter().filter_map(|note| {
        let rule_of = dialects.get(note.dialect.as_deref()?)?;
        Some((rule_of.name().to_owned(), format!("{}, {}", rule_of.name(), rule_of.origin())))
    });
    print(
        global,
        &ShownLine {
            argv: line.redacted(),
            environment: executable::shown_environment(&spec)?,
            build: profile.version.short_name(),
            dialect: json!({ "name": name, "file": origin.path(), "because": choice.because }),
            because: format!("the dialect {name} ({origin}: {})", choice.because),
            rules: rules.collect(),
            options: line.notes,
            warnings: line.warnings.into_iter().chain(line.doubts.iter().map(ToString::to_string)).collect(),
            launch: None,
        },
    )
}

fn print(global: &GlobalArgs, shown: &ShownLine) -> CommandResult {
    let ShownLine { argv, environment, build, dialect, because, options, rules, warnings, launch } = shown;
    let data = json!({
        "launch": launch,
        "build": build,
        "dialect": dialect,
        "argv": argv,
        "environment": environment,
        "options": options,
        "warnings": warnings,
    });
    print_either(global.json, &data, || {
        let mut lines = vec![shell_words(argv)];
        let changed: Vec<_> = options.iter().filter(|note| note.treatment != OptionTreatment::Kept).collect();
        if !changed.is_empty() {
            let build = build.as_ref().map_or_else(|| "this build".to_owned(), |build| format!("build {build}"));
            lines.push(format!("\nfor {build}, by {because}:"));
        }
        for note in changed {
            let rule_of = note.dialect.as_deref().map(|dialect| rules.get(dialect).map_or(dialect, String::as_str));
            let rule_of = rule_of.map(|rule| format!(" [{rule}]")).unwrap_or_default();
            lines.push(format!("  {}{rule_of}", executable::describe_note(note)));
        }
        match launch {
            Some(_) if environment.is_empty() => {}
            Some(launch) => lines.push(format!("\nwith this environment, in launch {launch}:")),
            None => {
                lines.push("\nwith this environment, as far as a daemon started from here has it:".to_owned());
            }
        }
        lines.extend(environment.iter().map(|(name, value)| format!("  {name}={value}")));
        lines.join("\n")
    })?;
    if !global.json {
        warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    }
    Ok(Exit::Done)
}

/// The version and options of the server's executable. One that cannot be asked gets what is written, as at a launch.
async fn build_of(spec: &ServerSpec) -> Result<BinaryProfile, CommandFailure> {
    let path = executable::find(&spec.binary).map_err(|error| {
        let elsewhere = "install llama.cpp, set llama-server.binary, or try another build with --binary";
        let next_step = error.next_step(&spec.directory, elsewhere);
        CommandFailure::failed(error).next_step(next_step)
    })?;
    Ok(executable::ask(spec, &path).await?.unwrap_or_else(|error| {
        eprintln!("warning: {error}; only the options that are written are passed, and no defaults");
        eprintln!("  {}", error.next_step());
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
        text.push_str(&shell_word(word));
    }
    text
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
