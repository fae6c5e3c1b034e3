//! `doctor`: looks for everything that keeps the servers of a configuration from running on this machine, and says what to do.
//!
//! Each module of `checks` looks at one thing and changes nothing. Whether a configuration is right is known to the same code as
//! `check` uses; what the machine lacks is known here alone.

mod checks;
mod finding;
mod report;

use std::collections::BTreeSet;

use llama_warden_builds::option_check;
use llama_warden_config::{Fleet, NeededFile};
use llama_warden_connect::GlobalArgs;
use llama_warden_exit::{CommandFailure, CommandResult, Exit};
use llama_warden_inventory::Inventory;
use llama_warden_memory::{MemoryProbe, Reading, SystemMemoryProbe};

use finding::Area;
pub use finding::{Finding, Gravity};

/// Looks, and prints what was found, the worst first.
///
/// # Errors
/// [`Exit::Failed`] if there is a fault; it is printed already.
pub async fn run(global: &GlobalArgs) -> CommandResult {
    let mut findings = examine(global).await;
    // Stable: within one gravity the order of the areas stays.
    findings.sort_by_key(|finding| (finding.gravity, finding.area));
    report::print(&findings, global.json)?;
    let has_fault = findings.iter().any(|finding| finding.gravity == Gravity::Fault);
    if has_fault { Err(CommandFailure::silent(Exit::Failed)) } else { Ok(Exit::Done) }
}

async fn examine(global: &GlobalArgs) -> Vec<Finding> {
    let mut findings = checks::kernel::look();
    let (inventory, problems) = match Inventory::examine(global.config.as_deref()) {
        Ok(examined) => examined,
        Err(failure) => {
            findings.extend(Area::Configuration.failure(&failure));
            return findings;
        }
    };
    findings.extend(checks::configuration::look(&inventory, &problems));
    let Ok(fleet) = inventory.loaded.fleet(None) else { return findings };
    let daemon = checks::daemon::look(global, &inventory.loaded).await;
    let options = match option_check::examine(&inventory).await {
        Ok(options) => options,
        Err(failure) => {
            findings.extend(Area::Options.failure(&failure));
            return findings;
        }
    };
    findings.extend(checks::executables::look(&options, &fleet));
    findings.extend(checks::models::look(&inventory.models));
    let Reading { host, gpus, .. } = SystemMemoryProbe::new().read(&[]);
    findings.extend(checks::memory::look(&inventory, host));
    findings.extend(checks::gpus::look(&fleet, gpus));
    // The ports and locks of a daemon that answers are its own.
    let names = (!daemon.answers).then_some(&options.names);
    if let Some(names) = names {
        findings.extend(checks::ports::of_daemon(&inventory.loaded, names));
        findings.extend(checks::state_directory::look(&inventory.loaded));
    }
    findings.extend(checks::ports::of_servers(&inventory.loaded, &fleet, names));
    findings.extend(checks::limits::of_fleet(&fleet));
    findings.extend(checks::environment::look(&fleet));
    findings.extend(daemon.findings);
    with_faults_of(&fleet, findings)
}

/// Makes a fault of each warning about a file without which a server of the fleet does not start, and keeps one of several. To `check` it
/// is a warning, since the file may come before the launch; now nothing would run.
fn with_faults_of(fleet: &Fleet, findings: Vec<Finding>) -> Vec<Finding> {
    let binaries = fleet.iter().map(|spec| NeededFile::Executable(spec.binary.to_path_buf()));
    let models = fleet.iter().map(|spec| NeededFile::Model(spec.model.clone()));
    let keys = fleet.iter().filter_map(|spec| spec.api_key_file.clone()).map(NeededFile::Keys);
    let needed: BTreeSet<NeededFile> = binaries.chain(models).chain(keys).collect();
    let mut told = BTreeSet::new();
    let fault = |finding: Finding| match &finding.keeps_from_starting {
        Some(file) if needed.contains(file) => {
            let area = Area::of(file);
            told.insert(file.clone()).then_some(Finding { area, gravity: Gravity::Fault, ..finding })
        }
        _ => Some(finding),
    };
    findings.into_iter().filter_map(fault).collect()
}
