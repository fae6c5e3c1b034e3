//! `check`: validates the configuration, its plug-in files, command lines, models and memory, and prints every problem at once.
//! Needs no daemon.

use llama_warden_config::{
    ConfigProblem, ConfigProblems, Configuration, Location, RouterAddress, RouterSettings, Severity,
};
use llama_warden_connect::GlobalArgs;
use llama_warden_daemon::{Extensions, open_to_others};
use llama_warden_detectors::Pack;
use llama_warden_dialects::Dialect;
use llama_warden_exit::{CommandFailure, CommandResult, Exit, FailureMessage};
use llama_warden_inventory::Inventory;
use llama_warden_inventory::{print_problems, print_warnings};
use llama_warden_telemetry::{ExportSettings, LogError, LoggingSettings, VariableProblem};
use serde_json::json;

use super::models;
use super::up::searched;
use llama_warden_builds::memory_report::MemoryReport;
use llama_warden_builds::option_check;
use llama_warden_builds::plugin_files;
use llama_warden_keys::read_keys;
use llama_warden_terminal::output::{print_json, print_line};

/// Most files, and most servers without enough memory, that are listed.
const MOST_FILES: usize = 20;

/// Everything that was found.
struct Findings {
    inventory: Inventory,
    problems: ConfigProblems,
    warnings: Vec<ConfigProblem>,
    /// Plug-in files and a file of keys that the daemon would refuse.
    refused_files: Vec<String>,
    memory: Option<MemoryReport>,
}

pub async fn run(global: &GlobalArgs, extensions: &Extensions) -> CommandResult {
    let examined = Inventory::examine(global.config.as_deref());
    let (inventory, mut problems) = match examined {
        Ok(examined) => examined,
        Err(CommandFailure { message: FailureMessage::Configuration(problems), .. }) if global.json => {
            print_json(&json!({ "valid": false, "problems": problems, "warnings": [], "not_in_force": [] }))?;
            return Err(CommandFailure::silent(Exit::Usage));
        }
        Err(failure) => return Err(failure),
    };
    let loaded = &inventory.loaded;
    let mut warnings = inventory.warnings();
    warnings.extend(loaded.configuration.unknown_extensions(&extensions.names()));
    warnings.extend(export_warnings());
    let options = option_check::examine(&inventory).await?;
    warnings.extend(options.names.listen_warnings(&loaded.configuration));
    problems.0.extend(logging_problem());
    let mut refused_files = [plugin_files::refused::<Pack>(loaded), plugin_files::refused::<Dialect>(loaded)].concat();
    refused_files.extend(refused_keys(loaded.configuration.router()));
    for problem in options.problems {
        match problem.severity {
            Severity::Error => problems.0.push(problem),
            Severity::Warning => warnings.push(problem),
        }
    }
    let memory = MemoryReport::of(&inventory);
    let findings = Findings { inventory, problems, warnings, refused_files, memory };
    if global.json { findings.print_json() } else { findings.print() }
}

impl Findings {
    const fn is_valid(&self) -> bool {
        self.problems.0.is_empty() && self.refused_files.is_empty()
    }

    fn exit(&self) -> CommandResult {
        if self.is_valid() { Ok(Exit::Done) } else { Err(CommandFailure::silent(Exit::Usage)) }
    }

    fn print_json(&self) -> CommandResult {
        print_json(&json!({
            "valid": self.is_valid(),
            "problems": self.problems,
            "warnings": self.warnings,
            "not_in_force": [],
            "refused_files": self.refused_files,
            "models": self.inventory.models,
            "memory": self.memory,
        }))?;
        self.exit()
    }

    fn print(self) -> CommandResult {
        if !self.problems.0.is_empty() {
            print_problems(&self.problems);
        }
        for refused in &self.refused_files {
            eprintln!("error: {refused}");
        }
        let exit = self.exit();
        let configuration = &self.inventory.loaded.configuration;
        print_warnings(self.warnings);
        models::report_problems(&self.inventory.models, MOST_FILES);
        let peers = configuration.peers().iter().filter_map(|peer| peer.token_file.as_deref());
        let open = configuration.daemon().token_file.as_deref().into_iter().chain(peers).filter_map(open_to_others);
        let memory = self.memory.iter().flat_map(MemoryReport::warnings).take(MOST_FILES);
        for warning in open.chain(memory) {
            eprintln!("warning: {warning}");
        }
        let name = configuration
            .path()
            .map_or_else(|| format!("the built-in defaults{}", searched(false)), |path| path.display().to_string());
        match self.problems.0.len() + self.refused_files.len() {
            0 => print_line(format_args!("{name}: valid, {} configured", count_servers(configuration)))?,
            1 => eprintln!("{name}: not valid, 1 error"),
            errors => eprintln!("{name}: not valid, {errors} errors"),
        }
        exit
    }
}

/// Why the router cannot listen with its file of keys, and what to do.
fn refused_keys(router: &RouterSettings) -> Option<String> {
    let path = router.keys_file.as_deref().filter(|_| router.listen != RouterAddress::Off)?;
    read_keys(path).err().map(|error| format!("{error}\n  next: {}", error.next_step()))
}

/// What `up` warns of in the variables of OpenTelemetry.
fn export_warnings() -> Vec<ConfigProblem> {
    let warning = |problem: &VariableProblem| {
        let location = Location::Variable(problem.variable.into());
        let message = format!("`{}`: {}", problem.value, problem.problem);
        ConfigProblem::warning(&location, message, "fix or unset it; the daemon starts all the same")
    };
    ExportSettings::from_env().problems().iter().map(warning).collect()
}

/// What `up` refuses in the variables of its log.
fn logging_problem() -> Option<ConfigProblem> {
    match LoggingSettings::from_env().err()? {
        LogError::Value { variable, value, takes } => {
            let message = format!("`{value}` is none of {}", takes.join(", "));
            let location = Location::Variable(variable.into());
            Some(ConfigProblem::error(&location, message, "unset it, or give it one of these values"))
        }
        LogError::Writer(_) | LogError::Twice(_) => None,
    }
}

fn count_servers(configuration: &Configuration) -> String {
    match configuration.servers().count() {
        1 => "1 server".to_owned(),
        count => format!("{count} servers"),
    }
}
