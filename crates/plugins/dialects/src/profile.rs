//! The profile of a llama-server executable, from its own output: build number and options.

use std::path::PathBuf;
use std::sync::Arc;

use llama_warden_events::BinaryIdentity;

use crate::help::OptionList;

/// An executable with its build number and its options. Running the executable is the launcher's job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BinaryProfile {
    /// The absolute path of the executable.
    pub path: PathBuf,
    /// The build number, if `--version` printed one.
    pub version: BuildVersion,
    /// The options that `--help` lists; `None` if its output could not be read.
    pub options: Option<OptionList>,
    /// The environment variables that `--help` names.
    pub variables: Vec<String>,
    /// Whether it certainly ends with an error for an option that its help does not list.
    pub refuses_unlisted: bool,
    /// The same data as events carry it, shared by every launch of the executable.
    pub identity: Arc<BinaryIdentity>,
}

impl BinaryProfile {
    /// The profile of the executable at `path` (absolute).
    pub fn new(path: PathBuf, version: BuildVersion, options: Option<OptionList>) -> Self {
        let identity = BinaryIdentity {
            binary: path.clone(),
            version: version.short_name().map(Arc::from),
            build: version.build,
            options: options.as_ref().map(OptionList::shared_names).unwrap_or_default(),
        };
        Self { path, version, options, variables: Vec::new(), refuses_unlisted: false, identity: identity.into() }
    }

    /// The profile of an executable whose output could not be read: options are passed to it as they are written.
    pub fn unknown(path: PathBuf) -> Self {
        Self::new(path, BuildVersion::default(), None)
    }
}

/// The version that an executable prints on `--version`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildVersion {
    /// The build number. Every llama-server inside llama-cpp-python prints 1, whatever its age.
    pub build: Option<u64>,
    /// The beginning of the commit that it was made of.
    pub commit: Option<String>,
}

impl BuildVersion {
    /// Reads `version: 0.7.0 (build 11669, commit Debian)`, `version: 9093 (unknown)` or `version: 1 (4227c9b)`. Lines that a
    /// device library prints before it are skipped.
    pub fn parse(text: &str) -> Self {
        let line = text.lines().find_map(|line| line.trim().strip_prefix("version: "));
        let build = line.and_then(|line| leading_number(line.split_once("(build ").map_or(line, |(_, after)| after)));
        let words = line.unwrap_or_default().split(|c: char| c.is_whitespace() || "(),".contains(c));
        let is_commit =
            |word: &&str| (7..=40).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        // A number of seven digits is a commit only behind the build's own number.
        let commit = words.skip(1).find(is_commit).map(str::to_owned);
        Self { build, commit }
    }

    /// The build in short form, `b11669`; with its commit, as llama.cpp calls itself, where the number names no build (0 and 1):
    /// `b1-4227c9b`. `None` if there is neither.
    pub fn short_name(&self) -> Option<String> {
        let build = self.build?;
        match &self.commit {
            _ if build > 1 => Some(format!("b{build}")),
            commit => commit.as_ref().map(|commit| format!("b{build}-{commit}")),
        }
    }
}

/// The number that `text` starts with. `0.7.0` is a release, not a build number, and gives `None`.
fn leading_number(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let is_whole_word = !text[end..].starts_with('.');
    text[..end].parse().ok().filter(|_| is_whole_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_is_read_from_every_wording_of_the_version() {
        let cases = [
            ("version: 0.7.0 (build 11669, commit Debian)\nbuilt with GNU 16.2.0", Some(11669), Some("b11669")),
            ("version: 0.6.0-dev (build 11434, commit unknown)", Some(11434), Some("b11434")),
            ("ggml_cuda_init: found 1 device\nversion: 9093 (unknown)\n", Some(9093), Some("b9093")),
            ("version: 1 (4227c9b)", Some(1), Some("b1-4227c9b")),
            ("version: 1 (unknown)", Some(1), None),
            ("version: 0 (unknown)", Some(0), None),
            ("version: 0.7.0", None, None),
            ("error: unknown argument: --version", None, None),
            ("version: 99999999999999999999999", None, None),
            ("", None, None),
        ];
        for (text, build, short_name) in cases {
            let version = BuildVersion::parse(text);
            assert_eq!((version.build, version.short_name().as_deref()), (build, short_name), "{text:?}");
        }
    }
}
