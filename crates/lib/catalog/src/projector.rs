//! Which projector belongs to which model of its directory.
//!
//! Nothing in a projector names its model, and llama-server refuses one of another width only at start. So models of
//! another width are left out, and three signs are tried, the surest first: a name in common; one family of models that
//! could be meant; an equal width.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::describe::{labelled, tier};
use crate::name::slug;
use crate::report::{ModelProblem, ProblemReason};
use crate::shards::Whole;

/// Of several projectors of one model the first of these is taken: what llama.cpp itself converts to comes first.
const PRECISIONS: [&str; 3] = ["F16", "BF16", "Q8_0"];

/// A model that a projector may belong to.
#[derive(Debug)]
struct ProjectorHost<'a> {
    index: usize,
    family: String,
    whole: &'a Whole,
}

/// The projector of each model, in the models' order, and the problems of those that fit none.
pub(crate) fn pair(models: &[&Whole], projectors: &[Whole]) -> (Vec<Option<PathBuf>>, Vec<ModelProblem>) {
    let mut problems = Vec::new();
    let mut pairs: Vec<Option<&Whole>> = vec![None; models.len()];
    for projector in projectors {
        let fitting = hosts_of(projector, models);
        if fitting.is_empty() {
            let detail = match projector.header.projection_width {
                Some(width) => format!("a projector of width {width} that fits none of the models beside it"),
                None => "a projector that fits none of the models beside it".to_owned(),
            };
            problems.push(ModelProblem::new(&projector.path, ProblemReason::ProjectorUnpaired, detail));
        }
        for index in fitting {
            let better = pairs[index].is_none_or(|other| rank(projector) < rank(other));
            if better {
                pairs[index] = Some(projector);
            }
        }
    }
    (pairs.into_iter().map(|pair| pair.map(|projector| projector.path.clone())).collect(), problems)
}

/// The models that a projector belongs to: all quantisations of one.
fn hosts_of(projector: &Whole, models: &[&Whole]) -> Vec<usize> {
    let directory = projector.path.parent();
    let beside = models.iter().enumerate().filter(|(_, model)| model.path.parent() == directory);
    let width = projector.header.projection_width;
    let is_as_wide = |host: &ProjectorHost<'_>| width.is_some() && host.whole.header.shape.embedding_length == width;
    let may_be_as_wide = |host: &ProjectorHost<'_>| {
        width.is_none() || host.whole.header.shape.embedding_length.is_none() || is_as_wide(host)
    };
    let hosts = beside.map(|(index, whole)| ProjectorHost { index, family: slug(labelled(&whole.path).name), whole });
    let hosts: Vec<ProjectorHost<'_>> = hosts.filter(may_be_as_wide).collect();
    let family = own_family(&projector.path);

    let namesakes = indices(&hosts, |host| is_namesake(&host.family, &family));
    if !namesakes.is_empty() {
        return namesakes;
    }
    if is_one_family(&hosts, |_| true) && (family.is_empty() || hosts.iter().all(is_as_wide)) {
        return indices(&hosts, |_| true);
    }
    if is_one_family(&hosts, is_as_wide) { indices(&hosts, is_as_wide) } else { Vec::new() }
}

fn indices(hosts: &[ProjectorHost<'_>], wanted: impl Fn(&ProjectorHost<'_>) -> bool) -> Vec<usize> {
    hosts.iter().filter(|host| wanted(host)).map(|host| host.index).collect()
}

fn is_one_family(hosts: &[ProjectorHost<'_>], wanted: impl Fn(&ProjectorHost<'_>) -> bool) -> bool {
    hosts.iter().filter(|host| wanted(host)).map(|host| &host.family).collect::<BTreeSet<_>>().len() == 1
}

/// The name of the model within a projector's name: empty for `mmproj-model-f16`.
fn own_family(path: &Path) -> String {
    let name = slug(labelled(path).name);
    let words: Vec<&str> = name.split('_').filter(|word| !matches!(*word, "mmproj" | "model")).collect();
    words.join("_")
}

/// Whether one name begins with all words of the other.
fn is_namesake(model: &str, projector: &str) -> bool {
    let begins =
        |long: &str, short: &str| long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
    !model.is_empty() && !projector.is_empty() && (begins(model, projector) || begins(projector, model))
}

fn rank(projector: &Whole) -> (usize, &Path) {
    let precision = tier(&projector.header, &projector.path);
    let place = PRECISIONS.iter().position(|known| Some(*known) == precision.as_deref());
    (place.unwrap_or(PRECISIONS.len()), &projector.path)
}
