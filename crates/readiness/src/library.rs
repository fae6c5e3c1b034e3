//! All detector packs, and which of them fits a build.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::pack::PackOrigin;
use crate::{Pack, PackError, Pattern, PatternVerdict};

/// The name of the pack that fits every build.
pub const GENERIC: &str = "generic";

const GENERIC_TEXT: &str = include_str!("../../../config/detectors/generic.toml");

/// Newest era first.
const BUILT_IN: [&str; 6] = [
    include_str!("../../../config/detectors/llama-server-b11xxx.toml"),
    include_str!("../../../config/detectors/llama-server-b9xxx.toml"),
    include_str!("../../../config/detectors/llama-server-2024-08.toml"),
    include_str!("../../../config/detectors/llama-server-2024-02.toml"),
    include_str!("../../../config/detectors/llama-server-2024-01.toml"),
    include_str!("../../../config/detectors/llama-server-2023-12.toml"),
];

/// The packs in force, those of a directory before the built-in ones, the generic one last. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PackLibrary {
    packs: Arc<[Pack]>,
}

/// Why the packs could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// The directory exists and cannot be read.
    #[error("cannot read the detector directory `{}`", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file cannot be read, or is no text.
    #[error("cannot read the detector pack `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A pack is not valid.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// Two files define packs of one name.
    #[error("`{}` and `{}` both define the pack `{name}`: rename one", first.display(), second.display())]
    SameName {
        /// The name.
        name: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
}

/// A pack that was chosen, and why.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The pack.
    pub pack: Pack,
    /// Why this one, for people.
    pub because: String,
}

impl PackLibrary {
    /// The built-in packs alone.
    pub fn built_in() -> Self {
        // The built-in packs are valid: a test reads each of them.
        Self::assemble(Vec::new()).unwrap_or_else(|_| Self { packs: Arc::default() })
    }

    /// The packs of a directory (`*.toml`, by file name) before the built-in ones. A missing directory is empty.
    pub fn load(directory: &Path) -> Result<Self, LibraryError> {
        let mut texts = Vec::new();
        for path in pack_files(directory)? {
            match std::fs::read_to_string(&path) {
                Ok(text) => texts.push((path, text)),
                // An editor replaced it between listing and reading; the next load sees what is there then.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(LibraryError::File { path, source }),
            }
        }
        Self::assemble(texts)
    }

    fn assemble(texts: Vec<(PathBuf, String)>) -> Result<Self, LibraryError> {
        let mut generic = Pack::parse(PackOrigin::BuiltIn, GENERIC_TEXT, &[])?;
        // A generic pack in the directory replaces the built-in one, also behind the others.
        for (path, text) in &texts {
            if let Ok(pack) = Pack::parse(PackOrigin::File(path.clone()), text, &[])
                && pack.name() == GENERIC
            {
                generic = pack;
            }
        }
        let shared = shared_patterns(&generic);
        let mut packs: Vec<Pack> = Vec::new();
        for (path, text) in texts {
            let pack = Pack::parse(PackOrigin::File(path.clone()), &text, &shared)?;
            if let Some(other) = packs.iter().find(|other| other.name() == pack.name()) {
                let first = match other.origin() {
                    PackOrigin::File(path) => path.clone(),
                    PackOrigin::BuiltIn => PathBuf::new(),
                };
                return Err(LibraryError::SameName { name: pack.name().to_owned(), first, second: path });
            }
            packs.push(pack);
        }
        for text in BUILT_IN {
            let pack = Pack::parse(PackOrigin::BuiltIn, text, &shared)?;
            if packs.iter().all(|other| other.name() != pack.name()) {
                packs.push(pack);
            }
        }
        packs.retain(|pack| pack.name() != GENERIC);
        packs.push(generic);
        Ok(Self { packs: packs.into() })
    }

    /// Every pack, in order of precedence.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Pack> {
        self.packs.iter()
    }

    /// The pack of that name.
    pub fn get(&self, name: &str) -> Option<&Pack> {
        self.iter().find(|pack| pack.name() == name)
    }

    /// The pack for a build: the one that is named, else the most specific one that fits. `None` only for an empty
    /// library.
    pub fn choose(&self, build: Option<u64>, options: &[String], forced: Option<&str>) -> Option<Choice> {
        choose(&self.packs, build, options, forced)
    }
}

impl Default for PackLibrary {
    fn default() -> Self {
        Self::built_in()
    }
}

/// Every pack knows what failures, echoes and percentages look like; only hints are the generic pack's own.
fn shared_patterns(generic: &Pack) -> Vec<Pattern> {
    let shared = |pattern: &&Pattern| !matches!(pattern.verdict, PatternVerdict::NearlyReady | PatternVerdict::Ready);
    generic.patterns().iter().filter(shared).cloned().collect()
}

fn pack_files(directory: &Path) -> Result<Vec<PathBuf>, LibraryError> {
    let failed = |source| LibraryError::Directory { path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        // Only regular files: a FIFO of that name would block the daemon.
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// How well a pack fits: bounds of the build number, then options. More is more specific.
type Specificity = (usize, usize);

/// The pack for a build: the one that `forced` names, else the most specific one that fits; of equally specific ones the
/// first. `options` are the long options of the build's help, without dashes. `None` only without packs.
pub fn choose(packs: &[Pack], build: Option<u64>, options: &[String], forced: Option<&str>) -> Option<Choice> {
    let mut unknown = String::new();
    if let Some(name) = forced {
        if let Some(pack) = packs.iter().find(|pack| pack.name() == name) {
            return Some(Choice { pack: pack.clone(), because: "the configuration names it".into() });
        }
        unknown = format!("there is no pack `{name}`; ");
    }
    let mut best: Option<(Specificity, &Pack, String)> = None;
    for pack in packs {
        let Some((specificity, because)) = fit(pack, build, options) else { continue };
        if best.as_ref().is_none_or(|(other, ..)| specificity > *other) {
            best = Some((specificity, pack, because));
        }
    }
    best.map(|(_, pack, because)| Choice { pack: pack.clone(), because: unknown + &because })
}

/// Whether a pack fits, how well, and why. Each condition that can be judged has to hold, and one has to be judged
/// unless the pack has none.
fn fit(pack: &Pack, build: Option<u64>, options: &[String]) -> Option<(Specificity, String)> {
    // The builds inside llama-cpp-python all say 1.
    let build = build.filter(|build| *build > 1);
    let lists = |option: &String| options.iter().any(|listed| listed == option);
    let mut specificity = (0, 0);
    let mut reasons = Vec::new();
    if let (Some(range), Some(build)) = (pack.builds(), build) {
        if range.min.is_some_and(|min| build < min) || range.max.is_some_and(|max| build > max) {
            return None;
        }
        specificity.0 = usize::from(range.min.is_some()) + usize::from(range.max.is_some());
        reasons.push(format!("it is build {build}"));
    }
    let names_options = !pack.help_lists().is_empty() || !pack.help_lacks().is_empty();
    if names_options && !options.is_empty() {
        if !pack.help_lists().iter().all(lists) || pack.help_lacks().iter().any(lists) {
            return None;
        }
        specificity.1 = pack.help_lists().len();
        reasons.push(describe_options(pack));
    }
    if reasons.is_empty() && (names_options || pack.builds().is_some()) {
        return None;
    }
    let because = if reasons.is_empty() { "nothing more specific fits".into() } else { reasons.join(", and ") };
    Some((specificity, because))
}

fn describe_options(pack: &Pack) -> String {
    let dashed = |options: &[String]| options.iter().map(|option| format!("--{option}")).collect::<Vec<_>>().join(", ");
    let mut parts = Vec::new();
    if !pack.help_lists().is_empty() {
        parts.push(format!("lists {}", dashed(pack.help_lists())));
    }
    if !pack.help_lacks().is_empty() {
        parts.push(format!("lacks {}", dashed(pack.help_lacks())));
    }
    format!("its help {}", parts.join(" and "))
}

#[cfg(test)]
mod tests {
    use llama_warden_events::StreamName;

    use super::*;
    use crate::Verdict;

    fn library_of(files: &[(&str, &str)]) -> Result<PackLibrary, LibraryError> {
        let directory = tempfile::tempdir().expect("makes a directory");
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).expect("writes");
        }
        PackLibrary::load(directory.path())
    }

    fn chosen(library: &PackLibrary, build: Option<u64>, options: &[&str]) -> String {
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        library.choose(build, &options, None).expect("a pack").pack.name().to_owned()
    }

    #[test]
    fn every_built_in_example_is_taken_for_what_it_claims() {
        let library = PackLibrary::built_in();
        assert_eq!(library.iter().len(), BUILT_IN.len() + 1);
        for pack in library.iter() {
            assert!(!pack.examples().is_empty(), "{} has no example", pack.name());
            let mut matcher = pack.matcher(None);
            for example in pack.examples() {
                let verdict = crate::Matcher::on_line(&mut matcher, example.stream, example.line.as_bytes());
                assert!(example.agrees_with(verdict), "{}: {example:?} was taken for {verdict:?}", pack.name());
            }
        }
    }

    #[test]
    fn an_unknown_build_gets_the_generic_pack() {
        let library = PackLibrary::built_in();
        assert_eq!(chosen(&library, None, &[]), GENERIC);
        assert_eq!(chosen(&library, Some(99_999), &["listen", "weights"]), GENERIC);
    }

    #[test]
    fn a_missing_directory_is_empty() {
        let library = PackLibrary::load(Path::new("/nonexistent/detectors")).expect("loads");
        assert_eq!(library.iter().len(), PackLibrary::built_in().iter().len());
    }

    #[test]
    fn a_pack_of_the_directory_wins_by_name_and_at_equal_fit() {
        let files = [
            ("a.toml", "name = 'mine'\nhelp-lists = ['--load-mode']"),
            ("b.toml", "name = 'llama-server-b9xxx'\nhelp-lists = ['--models-dir']"),
            ("c.toml", "name = 'exact'\nbuilds = { min = 11669, max = 11669 }"),
        ];
        let library = library_of(&files).expect("loads");
        assert_eq!(library.iter().len(), PackLibrary::built_in().iter().len() + 2);
        assert_eq!(chosen(&library, Some(11_434), &["models-dir", "load-mode"]), "mine");
        assert_eq!(chosen(&library, Some(11_669), &["models-dir", "load-mode"]), "exact");
        let replaced = library.get("llama-server-b9xxx").expect("there");
        assert!(matches!(replaced.origin(), PackOrigin::File(_)));
    }

    #[test]
    fn a_pack_that_asks_for_what_nobody_knows_does_not_fit() {
        let files =
            [("a.toml", "name = 'ranged'\nbuilds = { min = 1 }\n"), ("b.toml", "name = 'x'\nhelp-lists = ['--y']")];
        let library = library_of(&files).expect("loads");
        assert_eq!(chosen(&library, Some(1), &[]), GENERIC, "1 is what llama-cpp-python says");
        assert_eq!(chosen(&library, None, &[]), GENERIC);
        assert_eq!(chosen(&library, Some(2), &[]), "ranged");
    }

    #[test]
    fn a_named_pack_is_taken_whatever_fits() {
        let library = PackLibrary::built_in();
        let choice = library.choose(Some(11_669), &["load-mode".into()], Some("llama-server-2023-12")).expect("a pack");
        assert_eq!((choice.pack.name(), &*choice.because), ("llama-server-2023-12", "the configuration names it"));
        let choice = library.choose(Some(11_669), &["load-mode".into()], Some("nope")).expect("a pack");
        assert_eq!(choice.pack.name(), "llama-server-b11xxx");
        assert_eq!(choice.because, "there is no pack `nope`; its help lists --load-mode");
    }

    #[test]
    fn failures_and_percentages_are_known_to_every_pack() {
        let library = library_of(&[("a.toml", "name = 'bare'\nbuilds = { min = 5 }")]).expect("loads");
        for pack in library.iter() {
            let mut matcher = pack.matcher(None);
            let mut judge = |line: &[u8]| crate::Matcher::on_line(&mut matcher, StreamName::Stderr, line);
            let verdict = judge(b"error: invalid argument: --x");
            assert!(matches!(verdict, Verdict::Failure { .. }), "{}: {verdict:?}", pack.name());
            for (line, percent) in [(&b"0.01.002.003 I loading 42 %"[..], 42.0), (b"load_model: loaded 7.5%", 7.5)] {
                assert_eq!(judge(line), Verdict::Progress { percent: Some(percent) }, "{}", pack.name());
            }
        }
    }

    #[test]
    fn two_files_of_one_name_are_refused() {
        let error = library_of(&[("a.toml", "name = 'x'"), ("b.toml", "name = 'x'")]).expect_err("refused");
        assert!(error.to_string().contains("both define the pack `x`"), "{error}");
    }

    #[test]
    fn a_faulty_pack_is_refused_with_its_place_and_a_next_step() {
        let huge = format!("name = 'x'\n[[pattern]]\nverdict = 'ready'\nregex = '{}'", "a".repeat(1100));
        let cases = [
            ("name = 'x'\nbuild = 3", "2:1:", "unknown field `build`"),
            (
                "name = 'x'\n[[pattern]]\nverdict = 'failure'\nreason = 'gremlins'\nregex = 'x'",
                "4:10:",
                "unknown variant `gremlins`",
            ),
            ("name = 'x'\n[[pattern]]\nverdict = 'failure'\nregex = 'x'", "4:9:", "add reason"),
            ("name = 'x'\n[[pattern]]\nverdict = 'ready'\nreason = 'crashed'\nregex = 'x'", "5:9:", "only failures"),
            ("name = 'x'\n[[pattern]]\nverdict = 'ready'\nregex = '('", "4:9:", "unclosed group"),
            ("name = 'x'\n[[pattern]]\nverdict = 'ready'\nregex = '(?P<prot>x)'", "4:9:", "not `prot`"),
            ("name = 'x'\n[[pattern]]\nverdict = 'ready'\nregex = '((a{100}){100}){100}'", "4:9:", "too large"),
            (&huge, "4:9:", "longer than 1024"),
            ("name = 'no name'", "1:8:", "is no name"),
            ("name = 'x'\nprobe = 'none'", "2:9:", "nothing could prove"),
            ("name = 'x'\nprobe = { path = 'health' }", "2:9:", "begin with a slash"),
            ("name = 'x'\nbuilds = { min = 3, max = 2 }", "2:10:", "no build is from 3 to 2"),
            (
                "name = 'x'\n[[pattern]]\nverdict = 'ready'\nregex = 'up'\n[[example]]\nline = 'down'\nstream = 'stderr'\nverdict = 'ready'",
                "6:8:",
                "claims `ready`, but the patterns say `none`",
            ),
        ];
        for (text, place, message) in cases {
            let error = library_of(&[("p.toml", text)]).expect_err(text).to_string();
            assert!(error.contains(&format!("p.toml:{place}")), "{error}\nexpected {place}");
            assert!(error.contains(message), "{error}\nexpected {message}");
        }
    }
}
