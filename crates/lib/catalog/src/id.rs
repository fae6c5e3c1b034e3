//! Ids of models: readable, and stable as long as the files and their places stay the same.
//!
//! An id is made of the file's name, because people know their models by it. The header adds only what the name lacks. If
//! several models would have the same id, each of them gets its directories as a suffix. So a new file never takes over
//! the id of another one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use llama_warden_events::ServerId;

use crate::name::{compact, holds_size, size_of, slug};

/// Longest suffix made of directories, in bytes.
const MAX_SUFFIX: usize = 24;

/// File names that do not describe the model, as slugs.
const EMPTY_NAMES: [&str; 6] = ["", "ggml", "ggml_model", "gguf", "gguf_model", "model"];

/// The parts of an id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdSource<'a> {
    pub(crate) path: &'a Path,
    /// The file's name without label and shard number.
    pub(crate) file_name: &'a str,
    /// The quantisation in the file's name.
    pub(crate) label: Option<&'a str>,
    pub(crate) header_name: Option<&'a str>,
    pub(crate) size_label: Option<&'a str>,
    pub(crate) parameters: u64,
    pub(crate) tier: Option<&'a str>,
}

impl IdSource<'_> {
    /// Name, size and quantisation, such as `qwen3_8b_q4km`. This is the id unless another model has the same stem.
    fn stem(&self) -> Stem {
        let mut name = self.name();
        let mut tail = String::new();
        if !holds_size(&name) {
            let said = self.size_label.map(slug).filter(|said| holds_size(said));
            tail = format!("_{}", said.unwrap_or_else(|| size_of(self.parameters)));
        }
        if let Some(quantisation) = self.label.or(self.tier) {
            tail.push('_');
            tail.push_str(&compact(quantisation));
        }
        tail.truncate(ServerId::MAX_LEN / 2);
        name.truncate(ServerId::MAX_LEN);
        Stem { name, tail }
    }

    fn name(&self) -> String {
        let directory = self.path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        [Some(self.file_name), self.header_name, directory]
            .into_iter()
            .flatten()
            .map(slug)
            .find(|name| !EMPTY_NAMES.contains(&name.as_str()))
            .unwrap_or_else(|| "model".to_owned())
    }
}

/// One id for each source, in their order.
pub(crate) fn ids(sources: &[IdSource<'_>]) -> Vec<Option<ServerId>> {
    let stems: Vec<Stem> = sources.iter().map(IdSource::stem).collect();
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, stem) in stems.iter().enumerate() {
        groups.entry(stem.with("")).or_default().push(index);
    }
    let mut ids = vec![None; sources.len()];
    let mut taken = BTreeSet::new();
    // Models with a stem of their own come first, so that a suffixed id cannot take theirs.
    let (alone, together): (Vec<_>, Vec<_>) = groups.into_values().partition(|group| group.len() == 1);
    for index in alone.into_iter().flatten() {
        ids[index] = first_free(&mut taken, &stems[index], String::new(), sources[index].path);
    }
    for group in together {
        let paths: Vec<&Path> = group.iter().map(|index| sources[*index].path).collect();
        for (index, suffix) in group.into_iter().zip(path_suffixes(&paths)) {
            ids[index] = first_free(&mut taken, &stems[index], suffix, sources[index].path);
        }
    }
    ids
}

/// The parts of an id. If it is too long, the name is cut, never the tail (size and quantisation).
#[derive(Debug)]
struct Stem {
    name: String,
    tail: String,
}

impl Stem {
    fn with(&self, suffix: &str) -> String {
        let room = ServerId::MAX_LEN.saturating_sub(self.tail.len() + suffix.len());
        let name = self.name.get(..room.min(self.name.len())).unwrap_or_default();
        format!("{name}{}{suffix}", self.tail)
    }
}

/// The first free id of: stem and suffix, stem and hash of the path, stem, hash and a number.
fn first_free(taken: &mut BTreeSet<ServerId>, stem: &Stem, suffix: String, path: &Path) -> Option<ServerId> {
    let hashed = hash_suffix(path);
    let numbered = (2_u64..).map(|number| format!("{hashed}_{number}"));
    let suffixes = [suffix, hashed.clone()].into_iter().chain(numbered);
    suffixes.filter_map(|suffix| ServerId::new(&stem.with(&suffix)).ok()).find(|id| taken.insert(id.clone()))
}

/// A suffix for each path: the fewest parent directories that make all suffixes different, or hashes if none do.
fn path_suffixes(paths: &[&Path]) -> Vec<String> {
    let depth = paths.iter().map(|path| path.components().count()).max().unwrap_or(0);
    let by_directories = (1..depth)
        .map(|levels| -> Vec<String> { paths.iter().map(|path| format!("_{}", directories(path, levels))).collect() });
    let tells_apart = |suffixes: &Vec<String>| {
        let different: BTreeSet<&String> = suffixes.iter().collect();
        different.len() == paths.len() && suffixes.iter().all(|suffix| (2..=MAX_SUFFIX).contains(&suffix.len()))
    };
    by_directories.into_iter().find(tells_apart).unwrap_or_else(|| paths.iter().map(|path| hash_suffix(path)).collect())
}

/// The last `levels` directories above a file.
fn directories(path: &Path, levels: usize) -> String {
    let above = path.parent().into_iter().flat_map(Path::components);
    let names: Vec<&str> = above
        .filter_map(|component| match component {
            Component::Normal(name) => name.to_str(),
            _ => None,
        })
        .collect();
    slug(&names[names.len().saturating_sub(levels)..].join("_"))
}

/// The FNV-1a hash of the path, which is the same on every machine and in every version.
fn hash_suffix(path: &Path) -> String {
    let fold = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    format!("_{:08x}", path.as_os_str().as_encoded_bytes().iter().fold(0x811C_9DC5, fold))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};

    use super::*;

    fn id_by_path<'a>(files: &[(&'a Path, &'a str)]) -> BTreeMap<&'a Path, ServerId> {
        let source = |(path, name): &(&'a Path, &'a str)| IdSource {
            path,
            file_name: name,
            label: None,
            header_name: Some(name),
            size_label: Some(name),
            parameters: name.len() as u64,
            tier: Some(name),
        };
        let sources: Vec<IdSource<'_>> = files.iter().map(source).collect();
        files.iter().zip(ids(&sources)).map(|((path, _), id)| (*path, id.expect("an id"))).collect()
    }

    /// Names of few words, so that many clash, and any names at all.
    fn name() -> impl Strategy<Value = String> {
        let word = prop_oneof![Just("a"), Just("8B"), Just("Q4_K"), Just("--"), Just("\u{e9}"), Just("/"), Just("x.1")];
        let clashing = prop::collection::vec(word, 0..3).prop_map(|words| words.join("-"));
        prop_oneof![clashing, any::<String>(), Just("long".repeat(40))]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn ids_are_unique_and_the_same_in_any_order(names in prop::collection::btree_set((name(), name()), 0..12)) {
            let paths: Vec<_> =
                names.iter().map(|(directory, name)| Path::new("/srv").join(directory).join(name)).collect();
            let files: Vec<_> =
                paths.iter().zip(&names).map(|(path, (_, name))| (path.as_path(), name.as_str())).collect();
            let files: Vec<_> = BTreeMap::from_iter(files).into_iter().collect();
            let forward = id_by_path(&files);
            assert_eq!(forward.values().collect::<BTreeSet<_>>().len(), files.len());
            let backward = id_by_path(&files.iter().rev().copied().collect::<Vec<_>>());
            assert_eq!(forward, backward);
        }
    }
}
