//! The models in the folders that are searched.

use llama_warden_inventory::ModelsReport;

use crate::finding::{Area, Finding};

pub(crate) fn look(report: &ModelsReport) -> Vec<Finding> {
    let problems = report.problems.iter();
    let mut findings: Vec<Finding> =
        problems.map(|problem| Area::Models.warning(problem.to_string(), problem.help.as_str())).collect();
    let folders = &report.directories;
    if report.models.is_empty() && !folders.is_empty() {
        let folders: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        findings.push(Area::Models.warning(
            format!("no model was found in {}", folders.join(", ")),
            "put a .gguf file there, or name another folder in `models.dirs`",
        ));
    } else if !report.models.is_empty() {
        findings.push(Area::Models.good(format!("{} found in the folders of models", report.models.len())));
    }
    findings
}
