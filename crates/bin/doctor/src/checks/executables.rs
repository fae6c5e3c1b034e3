//! The llama-servers of the fleet, each asked for its version and options as a launch does, and what they say of the options.

use llama_warden_builds::option_check::OptionReport;
use llama_warden_config::Fleet;
use llama_warden_dialects::BinaryProfile;

use crate::finding::{Area, Finding};

pub(crate) fn look(report: &OptionReport, fleet: &Fleet) -> Vec<Finding> {
    let OptionReport { problems, builds, .. } = report;
    // One that is not there, or does not run, is among the problems, with the line that names it.
    let mut findings: Vec<Finding> = builds.iter().map(|build| of_build(build)).collect();
    if problems.is_empty() && fleet.iter().next().is_some() {
        findings.push(Area::Options.good("each build takes what its servers are given"));
    }
    findings.extend(problems.iter().map(|problem| Area::Options.problem(problem)));
    findings
}

/// What an executable says of itself.
fn of_build(build: &BinaryProfile) -> Finding {
    let version = build.version.short_name().unwrap_or_else(|| "without a build number".to_owned());
    let options = build.options.as_ref().map_or(0, |options| options.names().count());
    Area::Executable.good(format!("{}: {version}, {options} options", build.path.display()))
}
