//! The llama-servers of the fleet, each asked for its version and options as a launch does, and what they say of the options.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use llama_warden_builds::{executable, option_check};
use llama_warden_config::{Fleet, ServerSpec};
use llama_warden_daemon::models::Inventory;

use crate::finding::{Area, Finding};

pub(crate) async fn look(inventory: &Inventory, fleet: &Fleet) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut binaries: BTreeMap<&Path, &Arc<ServerSpec>> = BTreeMap::new();
    for spec in fleet.iter() {
        binaries.entry(&spec.binary).or_insert(spec);
    }
    for (binary, spec) in &binaries {
        findings.extend(of_binary(binary, spec).await);
    }
    match option_check::problems(inventory).await {
        Ok(problems) if problems.is_empty() && !binaries.is_empty() => {
            findings.push(Area::Options.good("each build takes what its servers are given"));
        }
        Ok(problems) => findings.extend(problems.iter().map(|problem| Area::Options.problem(problem))),
        Err(failure) => findings.extend(Area::Options.failure(&failure)),
    }
    findings
}

/// What an executable says of itself. One that is not there, or does not run, is among the problems of the configuration, with
/// the line that names it.
async fn of_binary(binary: &Path, spec: &ServerSpec) -> Option<Finding> {
    let path = executable::find(binary).ok().filter(|path| path.is_file())?;
    let profile = executable::ask(spec, &path).await.ok()?.ok()?;
    let version = profile.version.short_name().unwrap_or_else(|| "without a build number".to_owned());
    let options = profile.options.as_ref().map_or(0, |options| options.names().count());
    Some(Area::Executable.good(format!("{}: {version}, {options} options", path.display())))
}
