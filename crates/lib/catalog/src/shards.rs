//! Files to models: shards of one split are joined, everything else stands for itself.
//!
//! llama-server finds the shards of a split by their names and checks `split.count`; so does this.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::describe::stem;
use crate::gguf::GgufHeader;
use crate::name::ShardName;
use crate::read::Sound;
use crate::report::{ModelProblem, ProblemReason};

/// A model with all its shards.
#[derive(Debug)]
pub(crate) struct Whole {
    /// The file to load: the only one, or the first shard.
    pub(crate) path: PathBuf,
    /// All shards in order; empty for a model of one file.
    pub(crate) shards: Vec<PathBuf>,
    /// All shards together.
    pub(crate) bytes: u64,
    /// The first shard's header, with the tensors of all.
    pub(crate) header: GgufHeader,
}

/// The shards of one split.
#[derive(Debug, Default)]
struct Split {
    sound: BTreeMap<u32, (PathBuf, Sound)>,
    broken: BTreeSet<u32>,
}

/// Joins what was read. The problems given are those of broken files, and are all in the outcome again.
pub(crate) fn join(
    files: impl Iterator<Item = (PathBuf, Result<Sound, ModelProblem>)>,
) -> (Vec<Whole>, Vec<ModelProblem>) {
    let (mut wholes, mut problems) = (Vec::new(), Vec::new());
    let mut splits: BTreeMap<(PathBuf, u32), Split> = BTreeMap::new();
    for (path, outcome) in files {
        let shard = ShardName::parse(stem(&path)).filter(|shard| shard.count > 1);
        let Some(shard) = shard else {
            match outcome.and_then(|sound| single(path, sound)) {
                Ok(whole) => wholes.push(whole),
                Err(problem) => problems.push(problem),
            }
            continue;
        };
        let split = splits.entry((path.with_file_name(shard.prefix), shard.count)).or_default();
        let number = shard.number;
        match outcome {
            Ok(sound) => drop(split.sound.insert(number, (path, sound))),
            Err(problem) => {
                split.broken.insert(number);
                problems.push(problem);
            }
        }
    }
    for ((prefix, count), split) in splits {
        match split.join(&prefix, count) {
            Ok(whole) => wholes.extend(whole),
            Err(problem) => problems.push(problem),
        }
    }
    (wholes, problems)
}

/// The paths of all shards of the split that `path` is a shard of, in order.
pub(crate) fn siblings(path: &Path) -> Vec<PathBuf> {
    match ShardName::parse(stem(path)) {
        Some(shard) => (1..=shard.count)
            .map(|number| shard_path(&path.with_file_name(shard.prefix), number, shard.count))
            .collect(),
        None => vec![path.to_owned()],
    }
}

fn single(path: PathBuf, sound: Sound) -> Result<Whole, ModelProblem> {
    match sound.header.split_count {
        Some(count) if count > 1 => {
            let detail = format!("one of {count} shards, which its name does not say");
            Err(ModelProblem::new(&path, ProblemReason::ShardMismatched, detail))
        }
        _ => Ok(Whole { path, shards: Vec::new(), bytes: sound.bytes, header: sound.header }),
    }
}

impl Split {
    /// `Ok(None)` if only a broken shard is the obstacle, whose problem is reported already.
    fn join(self, prefix: &Path, count: u32) -> Result<Option<Whole>, ModelProblem> {
        let is_missing = |number: &u32| !self.sound.contains_key(number) && !self.broken.contains(number);
        let missing: Vec<u32> = (1..=count).filter(is_missing).collect();
        if let Some(first) = missing.first() {
            let known = self.sound.keys().chain(&self.broken).min().copied().unwrap_or(*first);
            let detail = match missing.len() {
                1 => format!("shard {first} of {count} is missing"),
                more => format!("{more} of {count} shards are missing, the first is {first}"),
            };
            return Err(ModelProblem::new(&shard_path(prefix, known, count), ProblemReason::ShardMissing, detail));
        }
        if !self.broken.is_empty() {
            return Ok(None);
        }
        let shards: Vec<PathBuf> = self.sound.values().map(|(path, _)| path.clone()).collect();
        let mut whole: Option<Whole> = None;
        for (number, (path, sound)) in self.sound {
            check_place(&path, &sound.header, number, count)?;
            match &mut whole {
                None => whole = Some(Whole { path, shards: shards.clone(), bytes: sound.bytes, header: sound.header }),
                Some(whole) => {
                    whole.bytes = whole.bytes.saturating_add(sound.bytes);
                    whole.header.tensors.add(&sound.header.tensors);
                }
            }
        }
        Ok(whole)
    }
}

/// Whether a shard's header says of its place what its name says.
fn check_place(path: &Path, header: &GgufHeader, number: u32, count: u32) -> Result<(), ModelProblem> {
    let said_count = header.split_count.unwrap_or(1);
    let said_number = header.split_number.map_or(number.into(), |number| number.saturating_add(1));
    if (said_number, said_count) == (number.into(), count.into()) {
        return Ok(());
    }
    let detail = format!("shard {number} of {count} by its name, {said_number} of {said_count} by its header");
    Err(ModelProblem::new(path, ProblemReason::ShardMismatched, detail))
}

fn shard_path(prefix: &Path, number: u32, count: u32) -> PathBuf {
    let name = prefix.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    prefix.with_file_name(format!("{name}-{number:05}-of-{count:05}.gguf"))
}
