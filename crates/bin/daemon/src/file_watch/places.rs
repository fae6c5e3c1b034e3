//! Where a change of a file can be noticed: the file itself, and the folder of every link on the way to it.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The most links that are followed; the kernel follows as many.
const MAX_LINKS: usize = 40;

/// Where to watch, and what notices from there concern the file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Places {
    /// Folders and the file.
    pub watched: BTreeSet<PathBuf>,
    /// The file and the links on the way to it, in those folders.
    pub names: BTreeSet<PathBuf>,
}

impl Places {
    /// Whether a notice with these paths may be one of a change of the file. One without a path is of lost notices.
    pub fn concerns(&self, paths: &[PathBuf]) -> bool {
        paths.is_empty() || paths.iter().any(|path| self.names.contains(path) || self.watched.contains(path))
    }
}

/// The places to watch for the file at `path`, an absolute path.
///
/// * The folder that its name is in, since editors replace a file by renaming another one to its name.
/// * The folder of every symbolic link on the way, also of those in the middle of the path: a deployment that keeps
///   `current -> releases/7`, and Kubernetes with `..data`, replace such a link.
/// * The file itself: one that is mounted alone, or that has several names, can change without a notice in that folder.
///
/// What does not exist yet ends the way; its folder is the last place.
pub fn places_of(path: &Path) -> Places {
    let mut places = Places::default();
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
            places.watched.insert(reached.clone());
            places.names.insert(next.clone());
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
    if reached.is_file() {
        places.watched.insert(reached);
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
        let expected = ["etc/app", "releases", "releases/1", "releases/1/real.toml"].map(at);
        let names = ["etc/app/w.toml", "releases/current", "releases/1/w.toml", "releases/1/real.toml"].map(at);
        let places = places_of(&at("etc/app/w.toml"));
        assert_eq!(places, Places { watched: expected.into(), names: names.into() });
        assert!(places.concerns(&[at("releases/next"), at("releases/current")]), "a rename to the link");
        assert!(places.concerns(&[at("etc/app")]), "a folder itself");
        assert!(places.concerns(&[]), "lost notices");
        assert!(!places.concerns(&[at("etc/app/other.log")]));
    }

    #[test]
    fn a_way_that_ends_or_turns_in_a_circle_still_has_places() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let folder = folder.path().canonicalize().expect("it is there");
        assert_eq!(places_of(&folder.join("none.toml")).watched, [folder.clone()].into());
        symlink("round.toml", folder.join("round.toml")).expect("writable");
        assert_eq!(places_of(&folder.join("round.toml")).watched, [folder.clone()].into());
    }
}
