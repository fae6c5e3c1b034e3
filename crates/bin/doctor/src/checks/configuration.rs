//! The configuration: what `check` says of it.

use llama_warden_config::ConfigProblems;
use llama_warden_daemon::open_to_others;
use llama_warden_inventory::Inventory;

use crate::finding::{Area, Finding};

pub(crate) fn look(inventory: &Inventory, problems: &ConfigProblems) -> Vec<Finding> {
    let configuration = &inventory.loaded.configuration;
    let mut findings: Vec<Finding> =
        problems.0.iter().chain(&inventory.warnings()).map(|problem| Area::Configuration.problem(problem)).collect();
    if let Some(open) = configuration.daemon().token_file.as_deref().and_then(open_to_others) {
        findings.push(Area::Configuration.warning(open, "`chmod 600` it: whoever reads it can stop the servers"));
    }
    let servers = configuration.servers().count();
    let Some(path) = configuration.path() else {
        let next_step = "`llama-warden config init > llama-warden.toml` writes one, `llama-warden demo` needs none";
        findings.push(if servers == 0 {
            Area::Configuration.fault("there is none, so that there is no server to start", next_step)
        } else {
            Area::Configuration.good(format!("there is none; the model folders give {}", counted(servers)))
        });
        return findings;
    };
    findings.push(match servers {
        0 => Area::Configuration.fault(
            format!("{} has no server", path.display()),
            "add a `[[servers]]` with `id` and `model`; `llama-warden config init` prints an example",
        ),
        _ if problems.0.is_empty() => {
            Area::Configuration.good(format!("{}: valid, {}", path.display(), counted(servers)))
        }
        _ => return findings,
    });
    findings
}

fn counted(servers: usize) -> String {
    format!("{servers} server{}", if servers == 1 { "" } else { "s" })
}
