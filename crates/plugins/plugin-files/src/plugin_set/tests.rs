//! The promises of a set, with notes: files that only have a name and builds.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::*;
use crate::{BuildFit, BuildRange, PluginInfo, PluginSource, ReloadChanges, ReloadTracker};

#[derive(Debug, Clone, PartialEq)]
struct Note {
    info: PluginInfo,
    /// The content of the fallback.
    fallback_text: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct NoteFile {
    name: Spanned<String>,
    builds: Option<Spanned<BuildRange>>,
    #[serde(default)]
    help_lists: Vec<String>,
}

impl PluginFile for Note {
    const KIND: &'static str = "note";
    const FALLBACK: &'static str = "fallback";
    const FALLBACK_TEXT: &'static str = "name = 'fallback'";
    const BUILT_IN: &'static [&'static str] = &["name = 'new'\nhelp-lists = ['--new']"];

    fn parse(origin: &Origin, text: Cow<'static, str>, fallback: Option<&Self>) -> Result<Self, FileError> {
        let source = PluginSource::new(origin, &text, Self::KIND);
        let file: NoteFile = source.parse("see the format")?;
        source.check_name(&file.name)?;
        let fit = BuildFit::check(&source, file.builds, &file.help_lists, &[])?;
        let fallback_text = fallback.map(|fallback| fallback.text().to_owned()).unwrap_or_default();
        let info = PluginInfo {
            name: file.name.into_inner(),
            description: String::new(),
            origin: origin.clone(),
            fit,
            text: text.clone(),
        };
        Ok(Self { info, fallback_text })
    }

    fn info(&self) -> &PluginInfo {
        &self.info
    }
}

fn write(directory: &Path, name: &str, text: &str) {
    fs::write(directory.join(name), text).expect("writes");
}

fn chosen(set: &PluginSet<Note>, build: Option<u64>, options: &[&str]) -> String {
    let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
    set.choose(build, &options, None).expect("a note").file.name().to_owned()
}

#[test]
fn the_most_specific_file_is_taken_and_a_file_before_a_built_in_one() {
    let directory = tempfile::tempdir().expect("makes a directory");
    write(directory.path(), "a.toml", "name = 'mine'\nhelp-lists = ['--new']");
    write(directory.path(), "b.toml", "name = 'exact'\nbuilds = { min = 7, max = 7 }");
    write(directory.path(), "c.toml", "name = 'more'\nhelp-lists = ['--new', '--newer']");
    write(directory.path(), ".hidden.toml", "nonsense");
    let set = PluginSet::<Note>::load(directory.path()).expect("loads");
    let cases = [
        (None, &["old"][..], "fallback"),
        (None, &["new"], "mine"),
        (Some(1), &["new"], "mine"),
        (Some(6), &["new", "newer"], "more"),
        (Some(7), &["new", "newer"], "exact"),
    ];
    for (build, options, expected) in cases {
        assert_eq!(chosen(&set, build, options), expected, "{build:?} {options:?}");
    }
}

#[test]
fn a_file_of_the_directory_that_fits_goes_before_a_more_specific_built_in_one() {
    let directory = tempfile::tempdir().expect("makes a directory");
    write(directory.path(), "z.toml", "name = 'fallback'\n# mine");
    let set = PluginSet::<Note>::load(directory.path()).expect("loads");
    assert_eq!(chosen(&set, None, &["new"]), "new", "the fallback stays the last choice");
    write(directory.path(), "a.toml", "name = 'mine'");
    let set = PluginSet::<Note>::load(directory.path()).expect("loads");
    assert_eq!(chosen(&set, None, &["new"]), "mine");
    assert_eq!(chosen(&set, Some(7), &["old"]), "mine");
    write(directory.path(), "b.toml", "name = 'closer'\nbuilds = { min = 7 }");
    let set = PluginSet::<Note>::load(directory.path()).expect("loads");
    assert_eq!((chosen(&set, Some(7), &["new"]), chosen(&set, Some(6), &["new"])), ("closer".into(), "mine".into()));
}

#[test]
fn a_base_in_the_directory_lies_behind_every_file() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let own = "name = 'fallback'\n# mine";
    write(directory.path(), "a.toml", "name = 'a'");
    write(directory.path(), "z.toml", own);
    let set = PluginSet::<Note>::load(directory.path()).expect("loads");
    let names: Vec<_> = set.iter().map(|note| (note.name(), note.fallback_text.as_str())).collect();
    assert_eq!(names, [("a", own), ("new", own), ("fallback", "")]);
    write(directory.path(), "z.toml", "nonsense");
    let ScanResult { files: set, refused } = set.scan(directory.path());
    assert_eq!(
        (set.get("a").map(|note| note.fallback_text.as_str()), refused.len()),
        (Some(own), 1),
        "it stays in force"
    );
}

#[test]
fn what_is_refused_is_told_once_and_what_it_said_before_stays() {
    let root = tempfile::tempdir().expect("makes a directory");
    let directory = root.path().join("notes");
    let mut tracker = ReloadTracker::new(PluginSet::<Note>::load(&directory).expect("a missing directory is empty"));
    let scan = |tracker: &mut ReloadTracker<Note>| tracker.apply(tracker.files().scan(&directory));
    assert_eq!(scan(&mut tracker), None);
    fs::create_dir(&directory).expect("creates");
    write(&directory, "a.toml", "name = 'a'");
    let loaded = ReloadChanges { loaded: vec!["a".into()], removed: vec![], refused: vec![] };
    assert_eq!(scan(&mut tracker), Some(loaded));
    write(&directory, "a.toml", "name = 'a'\nbuilds = { min = 3, max = 2 }");
    let ReloadChanges { loaded, removed, refused } = scan(&mut tracker).expect("news");
    assert_eq!((loaded.len(), removed.len()), (0, 0));
    assert_eq!((refused[0].line, refused[0].column), (Some(2), Some(10)), "{refused:?}");
    assert_eq!(tracker.files().get("a").map(|note| note.text()), Some("name = 'a'"));
    assert_eq!(scan(&mut tracker), None, "told once");
    fs::remove_file(directory.join("a.toml")).expect("removes");
    let gone = ReloadChanges { loaded: vec![], removed: vec!["a".into()], refused: vec![] };
    assert_eq!(scan(&mut tracker), Some(gone));
}

#[test]
fn a_file_that_cannot_be_taken_is_refused_with_what_to_do() {
    let huge = format!("name = 'a' # {}", "x".repeat(TEXT_LIMIT));
    let cases: [(&[u8], &str); 4] = [
        (b"name = 'no name'", ":1:8: `no name` is no name for a note"),
        (b"name = 'a'\nbuild = 3", ":2:1: unknown field `build`"),
        (huge.as_bytes(), "larger than 256 KiB"),
        (b"name = '\xff'", "cannot read the note"),
    ];
    for (text, expected) in cases {
        let directory = tempfile::tempdir().expect("makes a directory");
        fs::write(directory.path().join("a.toml"), text).expect("writes");
        let error = PluginSet::<Note>::load(directory.path()).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!error.refusal().advice.is_empty(), "{error:?}");
    }
    let directory = tempfile::tempdir().expect("makes a directory");
    write(directory.path(), "a.toml", "name = 'a'");
    write(directory.path(), "b.toml", "name = 'a'");
    let error = PluginSet::<Note>::load(directory.path()).expect_err("two of one name");
    assert!(error.to_string().contains("both define the note `a`"), "{error}");
}
