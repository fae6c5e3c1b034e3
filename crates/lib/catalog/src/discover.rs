//! The discovery from end to end: walk, read, join, describe, name.

use std::path::{Path, PathBuf};

use llama_warden_events::ServerId;

use crate::describe::{self, ModelFileRole};
use crate::id::{self, IdSource};
use crate::model::DiscoveredModel;
use crate::projector;
use crate::read;
use crate::report::{CatalogReport, ModelProblem, ProblemReason, Skipped, shown};
use crate::shards::{self, Whole};
use crate::walk::{self, Candidate, DirectoryLinks, ScanLimits};

/// Finds the models in `directories` and everything below them.
///
/// Never fails: what cannot be used is in the report's problems. Reads a prefix of each file, 64 MiB at the most, on
/// as many threads as there are usable CPUs, and returns when all is read.
pub fn discover(directories: &[PathBuf], links: DirectoryLinks) -> CatalogReport {
    let walked = walk::walk(directories, links, ScanLimits::DEFAULT);
    let outcomes = read::read_all(&walked.candidates);
    let paths = walked.candidates.into_iter().map(|candidate| candidate.path);
    let (wholes, broken) = shards::join(paths.zip(outcomes));
    let mut report = report(wholes);
    report.problems.extend(walked.problems);
    report.problems.extend(broken);
    report.problems.sort_by(|a, b| (&a.path, a.reason).cmp(&(&b.path, b.reason)));
    report
}

/// Reads the one model at `path`, with its other shards, whatever its extension; links are followed.
///
/// Projectors are not searched, and the id is the one that the model gets if no other model shares it.
///
/// # Errors
/// The [`ModelProblem`] because of which the model cannot be served, also if the file is not a model, or not the first shard
/// of one.
pub fn inspect(path: &Path) -> Result<DiscoveredModel, ModelProblem> {
    if !walk::is_presentable(path.as_os_str()) {
        return Err(ModelProblem::new(path, ProblemReason::NameUnusable, "the name cannot be passed on"));
    }
    let path = std::path::absolute(path).map_err(|error| unreadable(path, &error))?;
    let mut files = Vec::new();
    for shard in shards::siblings(&path) {
        match std::fs::canonicalize(&shard) {
            Ok(target) if target.is_file() => files.push(Candidate { path: shard, target }),
            Ok(_) => return Err(ModelProblem::new(&shard, ProblemReason::NotAFile, "not a regular file")),
            Err(error) if shard == path => return Err(unreadable(&shard, &error)),
            // The other shards show that this one is missing.
            Err(_) => {}
        }
    }
    let outcomes = read::read_all(&files);
    let (wholes, broken) = shards::join(files.into_iter().map(|file| file.path).zip(outcomes));
    let CatalogReport { mut models, problems, skipped } = report(wholes);
    let Some(model) = models.pop() else {
        let role = skipped.first().map_or("a projector", |skipped| skipped.role.name());
        let not_a_model =
            || ModelProblem::new(&path, ProblemReason::NotAModel, format!("{role}, not a model to serve"));
        // That a projector has no model beside it says less here than what it is.
        let problem =
            broken.into_iter().chain(problems).find(|problem| problem.reason != ProblemReason::ProjectorUnpaired);
        return Err(problem.unwrap_or_else(not_a_model));
    };
    match model.shards.iter().position(|shard| *shard == path) {
        Some(index) if index > 0 => {
            let detail =
                format!("shard {} of {}: llama-server loads a model by its first", index + 1, model.shards.len());
            let help = format!("name {}", shown(&model.path));
            Err(ModelProblem { help, ..ModelProblem::new(&path, ProblemReason::ShardNotFirst, detail) })
        }
        _ => Ok(model),
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> ModelProblem {
    ModelProblem::new(path, ProblemReason::FileUnreadable, format!("cannot read it: {error}"))
}

/// Sorts sound files into models, projectors and others.
fn report(wholes: Vec<Whole>) -> CatalogReport {
    let mut report = CatalogReport::default();
    let (mut models, mut projectors) = (Vec::new(), Vec::new());
    for whole in wholes {
        match describe::role(&whole.header, &whole.path) {
            ModelFileRole::Projector => projectors.push(whole),
            ModelFileRole::Other(role) => report.skipped.push(Skipped { path: shown(&whole.path), role }),
            ModelFileRole::Model => match whole.header.architecture.clone() {
                Some(architecture) => {
                    models.push(Sorted { tier: describe::tier(&whole.header, &whole.path), whole, architecture });
                }
                None => {
                    let detail = "the header names no architecture";
                    report.problems.push(ModelProblem::new(&whole.path, ProblemReason::HeaderMalformed, detail));
                }
            },
        }
    }
    let wholes: Vec<&Whole> = models.iter().map(|model| &model.whole).collect();
    let (paired, unpaired) = projector::pair(&wholes, &projectors);
    let ids = id::ids(&models.iter().map(Sorted::id_source).collect::<Vec<_>>());
    let named = models.into_iter().zip(ids).zip(paired);
    report.models = named.filter_map(|((model, id), projector)| Some(model.describe(id?, projector))).collect();
    report.models.sort_by(|a, b| a.id.cmp(&b.id));
    report.skipped.sort_by(|a, b| a.path.cmp(&b.path));
    report.problems.extend(unpaired);
    report
}

/// A model whose kind of file is known, yet without a name.
struct Sorted {
    whole: Whole,
    architecture: String,
    tier: Option<String>,
}

impl Sorted {
    fn id_source(&self) -> IdSource<'_> {
        let Whole { path, header, .. } = &self.whole;
        let labelled = describe::labelled(path);
        IdSource {
            path,
            file_name: labelled.name,
            label: labelled.label,
            header_name: header.name.as_deref(),
            size_label: header.size_label.as_deref(),
            parameters: header.tensors.elements,
            tier: self.tier.as_deref(),
        }
    }

    fn describe(self, id: ServerId, projector: Option<PathBuf>) -> DiscoveredModel {
        let Self { whole: Whole { path, shards, bytes, header }, architecture, tier } = self;
        DiscoveredModel {
            id,
            port: None,
            enabled: true,
            tier,
            thinking: describe::is_thinking(&header, &path),
            kind: describe::kind(&header, &path),
            name: header.name.unwrap_or_else(|| describe::stem(&path).to_owned()),
            architecture,
            parameters: header.tensors.elements,
            file_bytes: bytes,
            context_length: header.context_length,
            chat_template: header.chat_template.is_some_and(|template| !template.is_empty()),
            experts: header.experts,
            experts_used: header.experts_used,
            shape: header.shape,
            path,
            shards,
            projector,
        }
    }
}
