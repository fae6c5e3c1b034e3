//! The promises of the set of packs, with real files.

use llama_warden_events::StreamName;

use std::path::Path;

use llama_warden_plugin_files::{PluginFile as _, ScanResult};

use super::*;
use crate::{Pack, PackOrigin, PackSet, PluginSetError, Verdict};

fn packs_of(files: &[(&str, &str)]) -> Result<PackSet, PluginSetError> {
    let directory = tempfile::tempdir().expect("makes a directory");
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).expect("writes");
    }
    PackSet::load(directory.path())
}

fn chosen(packs: &PackSet, build: Option<u64>, options: &[&str]) -> String {
    let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
    packs.choose(build, &options, None).expect("a pack").file.name().to_owned()
}

#[test]
fn every_built_in_example_is_taken_for_what_it_claims() {
    let packs = PackSet::built_in();
    assert_eq!(packs.iter().len(), BUILT_IN.len() + 1);
    for pack in packs.iter() {
        assert!(!pack.examples().is_empty(), "{} has no example", pack.name());
        let wrong = pack.contradictions();
        assert!(wrong.is_empty(), "{}: {wrong:#?}", pack.name());
    }
}

#[test]
fn an_unknown_build_gets_the_generic_pack() {
    let packs = PackSet::built_in();
    assert_eq!(chosen(&packs, None, &[]), GENERIC);
    assert_eq!(chosen(&packs, Some(99_999), &["listen", "weights"]), GENERIC);
}

#[test]
fn a_missing_directory_is_empty() {
    let packs = PackSet::load(Path::new("/nonexistent/detectors")).expect("loads");
    assert_eq!(packs.iter().len(), PackSet::built_in().iter().len());
}

#[test]
fn a_pack_of_the_directory_wins_by_name_and_at_equal_fit() {
    let files = [
        ("a.toml", "name = 'mine'\nhelp-lists = ['--load-mode']"),
        ("b.toml", "name = 'llama-server-b9xxx'\nhelp-lists = ['--models-dir']"),
        ("c.toml", "name = 'exact'\nbuilds = { min = 11669, max = 11669 }"),
    ];
    let packs = packs_of(&files).expect("loads");
    assert_eq!(packs.iter().len(), PackSet::built_in().iter().len() + 2);
    assert_eq!(chosen(&packs, Some(11_434), &["models-dir", "load-mode"]), "mine");
    assert_eq!(chosen(&packs, Some(11_669), &["models-dir", "load-mode"]), "exact");
    let replaced = packs.get("llama-server-b9xxx").expect("there");
    assert!(matches!(replaced.origin(), PackOrigin::File(_)));
}

#[test]
fn what_fits_in_the_directory_goes_before_everything_built_in() {
    let for_every_build = packs_of(&[("a.toml", "name = 'mine'")]).expect("loads");
    let newest = ["models-dir", "load-mode"];
    assert_ne!(chosen(&PackSet::built_in(), Some(11_434), &newest), GENERIC, "a built-in one is more specific");
    assert_eq!(chosen(&for_every_build, Some(11_434), &newest), "mine");
    // Among those of the directory the most specific.
    let two = packs_of(&[("a.toml", "name = 'mine'"), ("b.toml", "name = 'newer'\nbuilds = { min = 11000 }")]);
    let two = two.expect("loads");
    assert_eq!((chosen(&two, Some(11_434), &newest), chosen(&two, Some(9), &[])), ("newer".into(), "mine".into()));
}

#[test]
fn a_pack_that_asks_for_what_nobody_knows_does_not_fit() {
    let files = [("a.toml", "name = 'ranged'\nbuilds = { min = 1 }\n"), ("b.toml", "name = 'x'\nhelp-lists = ['--y']")];
    let packs = packs_of(&files).expect("loads");
    assert_eq!(chosen(&packs, Some(1), &[]), GENERIC, "1 is what llama-cpp-python says");
    assert_eq!(chosen(&packs, None, &[]), GENERIC);
    assert_eq!(chosen(&packs, Some(2), &[]), "ranged");
}

#[test]
fn a_named_pack_is_taken_whatever_fits() {
    let packs = PackSet::built_in();
    let choice = packs.choose(Some(11_669), &["load-mode".into()], Some("llama-server-2023-12")).expect("a pack");
    assert_eq!((choice.file.name(), &*choice.because), ("llama-server-2023-12", "the configuration names it"));
    let choice = packs.choose(Some(11_669), &["load-mode".into()], Some("nope")).expect("a pack");
    assert_eq!(choice.file.name(), "llama-server-b11xxx");
    assert_eq!(choice.because, "there is no pack `nope`; its help lists --load-mode");
}

#[test]
fn failures_and_percentages_are_known_to_every_pack() {
    let packs = packs_of(&[("a.toml", "name = 'bare'\nbuilds = { min = 5 }")]).expect("loads");
    for pack in packs.iter() {
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
    let error = packs_of(&[("a.toml", "name = 'x'"), ("b.toml", "name = 'x'")]).expect_err("refused");
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
        let error = packs_of(&[("p.toml", text)]).expect_err(text).to_string();
        assert!(error.contains(&format!("p.toml:{place}")), "{error}\nexpected {place}");
        assert!(error.contains(message), "{error}\nexpected {message}");
    }
}

#[test]
fn each_file_is_judged_by_itself_and_what_it_said_before_stays() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("writes");
    write("a.toml", "name = 'a'\ndescription = 'old'");
    write("generic.toml", "name = 'generic'\n[[pattern]]\nverdict = 'echo'\nregex = '^mine$'");
    let before = PackSet::load(directory.path()).expect("loads");
    write("a.toml", "name = 'a'\ndescription = 3");
    write("b.toml", "name = 'b'");
    write("c.toml", "name = 'b'");
    write("generic.toml", "name = 'generic'\nnonsense");
    let ScanResult { files: packs, refused } = before.scan(directory.path());
    let refused: Vec<_> = refused.iter().map(ToString::to_string).collect();
    assert_eq!(refused.len(), 3, "{refused:?}");
    assert!(refused[0].contains("a.toml:2:15"), "{refused:?}");
    assert!(refused[1].contains("both define the pack `b`"), "{refused:?}");
    assert!(refused[2].contains("generic.toml:2:"), "{refused:?}");
    assert_eq!(packs.get("a").map(Pack::description), Some("old"));
    assert!(matches!(packs.get(GENERIC).expect("there").origin(), PackOrigin::File(_)));
    let mut matcher = packs.get("b").expect("the first of that name").matcher(None);
    assert_eq!(
        crate::Matcher::on_line(&mut matcher, StreamName::Stderr, b"mine"),
        Verdict::Echo,
        "still the fallback of all"
    );
}
