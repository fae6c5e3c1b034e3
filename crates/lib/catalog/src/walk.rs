//! Directories to candidates: every entry that is named like a model and may be opened.
//!
//! Nothing is opened here but directories. What is followed is a regular file, or a link to one, wherever it lies; a link to
//! a directory outside of the scanned ones only where that is asked for. Everything else that bears a model's name is
//! reported. Entries that begin with a dot are passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::report::{ModelProblem, ProblemReason, shown};

/// Bounds of a walk, so that a scan of `/` ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScanLimits {
    /// Directories below each other.
    pub(crate) depth: usize,
    /// Directory entries in all.
    pub(crate) entries: usize,
}

impl ScanLimits {
    pub(crate) const DEFAULT: Self = Self { depth: 32, entries: 1_000_000 };
}

/// Whether links to directories that are not scanned by themselves are followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DirectoryLinks {
    /// They are reported: what they lead to may be anything.
    #[default]
    Reported,
    /// They are followed, and what they lead to is scanned like a directory in their place.
    Followed,
}

/// A file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// As it is shown and given to llama-server: absolute, valid UTF-8.
    pub(crate) path: PathBuf,
    /// The same without symbolic links, to be opened.
    pub(crate) target: PathBuf,
}

/// The outcome of a walk.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    /// By path; one for each file, however many ways lead to it.
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) problems: Vec<ModelProblem>,
}

/// Walks through `roots` and everything below.
pub(crate) fn walk(roots: &[PathBuf], links: DirectoryLinks, limits: ScanLimits) -> Walked {
    let mut walk = Walk {
        limits,
        links,
        entries_left: limits.entries,
        roots: Vec::new(),
        visited: BTreeSet::new(),
        files: Vec::new(),
        linked: Vec::new(),
        problems: Vec::new(),
    };
    for root in roots {
        walk.add_root(root);
    }
    let mut pending: Vec<WalkedDirectory> = walk.roots.iter().rev().cloned().collect();
    while let Some(directory) = pending.pop() {
        if walk.visited.insert(directory.target.clone()) {
            walk.list(&directory, &mut pending);
        }
    }
    walk.finish()
}

/// Whether a file's name ends as a model's does.
pub(crate) fn is_named_gguf(name: &OsStr) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// A directory to list: as it is shown, and without links.
#[derive(Debug, Clone)]
struct WalkedDirectory {
    path: PathBuf,
    target: PathBuf,
    depth: usize,
}

#[derive(Debug)]
struct Walk {
    limits: ScanLimits,
    links: DirectoryLinks,
    entries_left: usize,
    roots: Vec<WalkedDirectory>,
    visited: BTreeSet<PathBuf>,
    files: Vec<Candidate>,
    linked: Vec<Candidate>,
    problems: Vec<ModelProblem>,
}

impl Walk {
    fn add_root(&mut self, root: &Path) {
        if !is_presentable(root.as_os_str()) {
            self.report(root, ProblemReason::NameUnusable, "the name cannot be passed on");
            return;
        }
        match std::path::absolute(root).and_then(|path| Ok((fs::canonicalize(&path)?, path))) {
            Ok((target, path)) => self.roots.push(WalkedDirectory { path, target, depth: 0 }),
            Err(error) => self.report(root, ProblemReason::DirectoryUnreadable, format!("cannot list it: {error}")),
        }
    }

    fn list(&mut self, directory: &WalkedDirectory, pending: &mut Vec<WalkedDirectory>) {
        let entries = match fs::read_dir(&directory.target) {
            Ok(entries) => entries,
            Err(error) => {
                let detail = format!("cannot list it: {error}");
                return self.report(&directory.path, ProblemReason::DirectoryUnreadable, detail);
            }
        };
        for entry in entries {
            if self.entries_left == 0 {
                let detail = format!("not all of it was looked at: {} entries are the limit", self.limits.entries);
                return self.report(&directory.path, ProblemReason::DirectoryTooLarge, detail);
            }
            self.entries_left -= 1;
            match entry.and_then(|entry| Ok((entry.file_type()?, entry))) {
                Ok((kind, entry)) => self.look_at(directory, &entry, kind, pending),
                Err(error) => {
                    let detail = format!("cannot list all of it: {error}");
                    return self.report(&directory.path, ProblemReason::DirectoryUnreadable, detail);
                }
            }
        }
    }

    fn look_at(
        &mut self,
        parent: &WalkedDirectory,
        entry: &DirEntry,
        kind: fs::FileType,
        pending: &mut Vec<WalkedDirectory>,
    ) {
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") || !(kind.is_dir() || kind.is_symlink() || is_named_gguf(&name)) {
            return;
        }
        let (path, target) = (parent.path.join(&name), parent.target.join(&name));
        if kind.is_symlink() {
            self.follow(parent, &name, path, &target, pending);
        } else if !is_presentable(&name) {
            self.report(&path, ProblemReason::NameUnusable, "the name cannot be passed on");
        } else if kind.is_dir() {
            self.descend(parent, path, target, pending);
        } else if kind.is_file() {
            self.files.push(Candidate { path, target });
        } else {
            self.report(&path, ProblemReason::NotAFile, "not a regular file");
        }
    }

    fn descend(
        &mut self,
        parent: &WalkedDirectory,
        path: PathBuf,
        target: PathBuf,
        pending: &mut Vec<WalkedDirectory>,
    ) {
        if parent.depth == self.limits.depth {
            let detail = format!("not looked at: {} directories in each other are the limit", self.limits.depth);
            self.report(&path, ProblemReason::DirectoryTooLarge, detail);
        } else {
            pending.push(WalkedDirectory { path, target, depth: parent.depth + 1 });
        }
    }

    /// Looks where a link leads. A link to a directory within the roots is not followed: that is scanned anyway.
    fn follow(
        &mut self,
        parent: &WalkedDirectory,
        name: &OsStr,
        path: PathBuf,
        link: &Path,
        pending: &mut Vec<WalkedDirectory>,
    ) {
        let named = is_named_gguf(name);
        let target = match fs::canonicalize(link) {
            Ok(target) => target,
            // A broken link that is not named like a model is ignored.
            Err(_) if !named => return,
            Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => {
                return self.report(&path, ProblemReason::LinkLoop, "the link leads to itself");
            }
            Err(error) => return self.report(&path, ProblemReason::LinkBroken, format!("cannot follow it: {error}")),
        };
        // A target that vanishes meanwhile is found when it is opened.
        let kind = fs::symlink_metadata(&target).map(|metadata| metadata.file_type()).ok();
        let leads_to_directory = kind.is_some_and(|kind| kind.is_dir());
        if !named && !leads_to_directory {
            return;
        }
        let inside = self.roots.iter().any(|root| target.starts_with(&root.target));
        if leads_to_directory && parent.target.starts_with(&target) {
            self.report(&path, ProblemReason::LinkLoop, "the link leads to a directory that it lies in");
        } else if leads_to_directory && !inside && self.links == DirectoryLinks::Reported {
            let detail = format!("the link leads to the directory {}, which is not scanned", shown(&target));
            self.report(&path, ProblemReason::LinkOutside, detail);
        } else if leads_to_directory {
            if !inside && is_presentable(name) {
                self.descend(parent, path, target, pending);
            }
        } else if kind.is_some_and(|kind| !kind.is_file()) {
            self.report(&path, ProblemReason::NotAFile, "the link leads to something that is not a regular file");
        } else if !is_presentable(name) {
            self.report(&path, ProblemReason::NameUnusable, "the name cannot be passed on");
        } else {
            self.linked.push(Candidate { path, target });
        }
    }

    fn report(&mut self, path: &Path, reason: ProblemReason, detail: impl Into<String>) {
        self.problems.push(ModelProblem::new(path, reason, detail));
    }

    fn finish(mut self) -> Walked {
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        self.linked.sort_by(|a, b| a.path.cmp(&b.path));
        let mut by_target = BTreeMap::new();
        // A file's own name wins over those of links to it.
        for candidate in self.files.into_iter().chain(self.linked) {
            by_target.entry(candidate.target.clone()).or_insert(candidate);
        }
        let mut candidates: Vec<Candidate> = by_target.into_values().collect();
        candidates.sort_by(|a, b| a.path.cmp(&b.path));
        Walked { candidates, problems: self.problems }
    }
}

/// Whether a name can be used in an argument, in JSON and on a terminal.
pub(crate) fn is_presentable(name: &OsStr) -> bool {
    name.to_str().is_some_and(|text| !text.chars().any(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_ends_at_the_limit_of_entries_and_says_so() {
        let directory = tempfile::tempdir().expect("directory");
        for index in 0..20 {
            fs::write(directory.path().join(format!("{index}.gguf")), "").expect("written");
        }
        let walked =
            walk(&[directory.path().to_owned()], DirectoryLinks::Reported, ScanLimits { depth: 1, entries: 10 });
        assert_eq!(walked.candidates.len(), 10);
        let reasons: Vec<_> = walked.problems.iter().map(|problem| problem.reason).collect();
        assert_eq!(reasons, [ProblemReason::DirectoryTooLarge]);
    }
}
