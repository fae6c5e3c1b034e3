//! `models`: lists the models that discovery finds in folders. Needs no daemon.

use std::path::PathBuf;

use llama_warden_catalog::{DiscoveredModel, ProblemReason};
use llama_warden_config::{ConfigSource, Environment};
use llama_warden_connect::GlobalArgs;
use llama_warden_exit::{CommandFailure, CommandResult, Exit};
use llama_warden_inventory::LoadedConfig;
use llama_warden_inventory::{Inventory, ModelFolders, ModelsReport, PortFile, discover_servers, word};

use llama_warden_terminal::natural_order;
use llama_warden_terminal::output::{print_json, print_line};
use llama_warden_terminal::table::{self, Column, shrinks, spare, whole};

pub fn run(global: &GlobalArgs, folders: &[PathBuf]) -> CommandResult {
    let report = if folders.is_empty() { configured(global)? } else { named(global, folders)? };
    if global.json {
        print_json(&report)?;
    } else {
        print_line(listing(&report))?;
        report_problems(&report, usize::MAX);
    }
    let folder_lost = |folder: &String| {
        report
            .problems
            .iter()
            .any(|problem| problem.reason == ProblemReason::DirectoryUnreadable && problem.path == *folder)
    };
    let folders = report.directories.iter().map(|folder| folder.to_string_lossy().into_owned());
    Ok(if folders.into_iter().any(|folder| folder_lost(&folder)) { Exit::Failed } else { Exit::Done })
}

/// The models in the folders of the configuration.
fn configured(global: &GlobalArgs) -> Result<ModelsReport, CommandFailure> {
    let loaded = LoadedConfig::find(global.config.as_deref())?;
    if loaded.configuration.model_dirs().is_empty() {
        return Err(CommandFailure::usage("no folder is named")
            .next_step("write `llama-warden models DIR`, or name folders as models.dirs"));
    }
    Ok(Inventory::scan(loaded)?.models)
}

/// The models in the named folders, with the ids and ports that `up --models` would give them.
fn named(global: &GlobalArgs, folders: &[PathBuf]) -> Result<ModelsReport, CommandFailure> {
    let absolute = |folder| {
        std::path::absolute(folder).map_err(|error| CommandFailure::failed(format!("cannot use a folder: {error}")))
    };
    let enabled = folders.iter().map(absolute).collect::<Result<_, _>>()?;
    let loaded = LoadedConfig::find(global.config.as_deref()).or_else(|failure| match &global.config {
        Some(_) => Err(failure),
        // Models can be listed while the default configuration is invalid.
        None => LoadedConfig::parse(&ConfigSource::none("/"), Environment::current()),
    })?;
    let remembered = loaded.state_dir().map(|state| PortFile::new(&state).read()).unwrap_or_default();
    let folders = ModelFolders { enabled, ..ModelFolders::default() };
    Ok(discover_servers(&loaded.configuration, &folders, &remembered)?.report)
}

/// Prints the first `most` files that cannot be used, each with the reason and a next step, and how many more there are.
pub fn report_problems(report: &ModelsReport, most: usize) {
    for problem in report.problems.iter().take(most) {
        eprintln!("warning: {problem} ({})\n  next: {}", word(problem.reason), problem.help);
    }
    if let Some(more) = report.problems.len().checked_sub(most).filter(|more| *more > 0) {
        eprintln!("and {more} more; `llama-warden models` lists them");
    }
}

/// The columns of the list.
const COLUMNS: [Column; 9] = [
    shrinks("ID", 16),
    shrinks("FILE", 16),
    spare("ARCH", 2),
    whole("PARAMS"),
    whole("QUANT"),
    whole("SIZE"),
    spare("CONTEXT", 1),
    spare("THINKING", 3),
    whole("KIND"),
];

fn listing(report: &ModelsReport) -> String {
    let mut models: Vec<_> = report.models.iter().collect();
    models.sort_by(|left, right| natural_order::compare(left.model.id.as_str(), right.model.id.as_str()));
    let rows = models.into_iter().map(|known| {
        let model = &known.model;
        [
            model.id.to_string(),
            file(report, model),
            model.architecture.clone(),
            count(model.parameters),
            model.tier.clone().unwrap_or_default(),
            bytes(model.file_bytes),
            model.context_length.map_or_else(String::new, |tokens| tokens.to_string()),
            if model.thinking { "yes" } else { "no" }.to_owned(),
            word(model.kind),
        ]
    });
    let table = table::list(COLUMNS, rows);
    let found = report.models.len();
    let problems = report.problems.len();
    let noun = if found == 1 { "model" } else { "models" };
    format!("{table}\n{found} {noun}, {} passed over, {problems} with problems", report.skipped.len())
}

/// The path of a model below its folder; the whole path where that is `/`.
fn file(report: &ModelsReport, model: &DiscoveredModel) -> String {
    let mut folders = report.directories.iter().filter(|folder| folder.parent().is_some());
    let below = folders.find_map(|folder| model.path.strip_prefix(folder).ok());
    below.unwrap_or(&model.path).display().to_string()
}

/// A number such as `8.2B` or `123.2K`, in powers of 1000.
fn count(number: u64) -> String {
    scaled(number, 1000.0, &["", "K", "M", "B", "T"])
}

/// A size such as `4.7 GiB`.
fn bytes(number: u64) -> String {
    scaled(number, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

fn scaled(number: u64, step: f64, units: &[&str]) -> String {
    let mut value = number as f64;
    let mut unit = 0;
    // Compares the rounded value, so that 999 960 is 1.0M and not 1000.0K.
    while value >= step - 0.05 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let unit_text = units.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{number}{unit_text}") } else { format!("{value:.1}{unit_text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let counts: Vec<_> = [0, 999, 123_200, 999_960, 8_190_735_360].into_iter().map(count).collect();
        assert_eq!(counts, ["0", "999", "123.2K", "1.0M", "8.2B"]);
        assert_eq!([bytes(512), bytes(5 << 30)], ["512 B", "5.0 GiB"]);
    }
}
