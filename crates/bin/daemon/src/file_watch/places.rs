//! Where a change of a file can be noticed: the file itself, and the folder of every link on the way to it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use llama_warden_support::WantedChanges;

/// The most links that are followed; the kernel follows as many.
const MAX_LINKS: usize = 40;

/// The places to watch for the file at `path`, an absolute path, and the changes that concern it there.
///
/// * The folder that its name is in, since editors replace a file by renaming another one to its name.
/// * The folder of every symbolic link on the way, also of those in the middle of the path: a deployment that keeps
///   `current -> releases/7`, and Kubernetes with `..data`, replace such a link.
/// * The file itself: one that is mounted alone, or that has several names, can change without a notice in that folder.
///
/// What does not exist yet ends the way; its folder is the last place.
pub fn places_of(path: &Path) -> BTreeMap<PathBuf, WantedChanges> {
    let mut folders = BTreeMap::<PathBuf, BTreeSet<OsString>>::new();
    let mut links = 0;
    let mut reached = PathBuf::from("/");
    let mut ahead: VecDeque<OsString> = names(path).collect();
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            reached.pop();
            continue;
        }
        let next = reached.join(&name);
        let target = fs::read_link(&next).ok().filter(|_| links < MAX_LINKS);
        if target.is_some() || ahead.is_empty() {
            folders.entry(reached.clone()).or_default().insert(name);
        }
        match target {
            Some(target) => {
                links += 1;
                if target.is_absolute() {
                    reached = PathBuf::from("/");
                }
                for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
                    ahead.push_front(name);
                }
            }
            None => reached = next,
        }
    }
    let mut places: BTreeMap<_, _> =
        folders.into_iter().map(|(folder, names)| (folder, WantedChanges::OfEntries(names))).collect();
    if reached.is_file() {
        places.insert(reached, WantedChanges::OfContent);
    }
    places
}

/// The components of a path, `..` included.
fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn entries(names: &[&str]) -> WantedChanges {
        WantedChanges::OfEntries(names.iter().map(OsString::from).collect())
    }

    #[test]
    fn the_folder_of_every_link_and_the_file_itself_are_places() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| folder.path().canonicalize().expect("it is there").join(name);
        for name in ["releases", "releases/1", "etc", "etc/app"] {
            fs::create_dir(at(name)).expect("writable");
        }
        fs::write(at("releases/1/real.toml"), "").expect("writable");
        symlink("real.toml", at("releases/1/w.toml")).expect("writable");
        symlink(at("releases/1"), at("releases/current")).expect("writable");
        symlink("../../releases/current/w.toml", at("etc/app/w.toml")).expect("writable");
        let expected = [
            (at("etc/app"), entries(&["w.toml"])),
            (at("releases"), entries(&["current"])),
            (at("releases/1"), entries(&["real.toml", "w.toml"])),
            (at("releases/1/real.toml"), WantedChanges::OfContent),
        ];
        assert_eq!(places_of(&at("etc/app/w.toml")), expected.into());
    }

    #[test]
    fn a_way_that_ends_or_turns_in_a_circle_still_has_places() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let folder = folder.path().canonicalize().expect("it is there");
        assert_eq!(places_of(&folder.join("none.toml")), [(folder.clone(), entries(&["none.toml"]))].into());
        symlink("round.toml", folder.join("round.toml")).expect("writable");
        assert_eq!(places_of(&folder.join("round.toml")), [(folder.clone(), entries(&["round.toml"]))].into());
    }
}
