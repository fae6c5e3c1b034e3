//! Variables that do not reach the servers, or that hide a GPU from them.

use std::collections::BTreeSet;
use std::env;

use llama_warden_builds::executable::shown_environment;
use llama_warden_config::Fleet;

use crate::finding::{Area, Finding};

/// Variables of llama-server that change how it runs.
const OPTIONS: &str = "LLAMA_ARG_";

/// Variables that choose among GPUs; without a value they choose none.
const VISIBLE: [&str; 3] = ["CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"];

pub(crate) fn look(fleet: &Fleet) -> Vec<Finding> {
    let mut findings = Vec::new();
    let passed: BTreeSet<String> =
        fleet.iter().filter_map(|spec| shown_environment(spec).ok()).flat_map(|set| set.into_keys()).collect();
    let lost: Vec<String> = env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with(OPTIONS) && !passed.contains(name))
        .collect();
    if !lost.is_empty() {
        findings.push(Area::Environment.warning(
            format!("{} is set here, and is passed to no server", lost.join(", ")),
            "write the option into `flags`, or name the variable in `env-pass`",
        ));
    }
    for name in VISIBLE.into_iter().filter(|name| passed.contains(*name)) {
        if env::var_os(name).is_some_and(|value| value.is_empty() || value == "-1") {
            findings.push(Area::Environment.warning(
                format!("{name} hides every GPU from the servers"),
                format!("`unset {name}`, or write the numbers of the GPUs"),
            ));
        }
    }
    findings
}
