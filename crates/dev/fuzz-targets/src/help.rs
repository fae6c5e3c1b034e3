//! Help texts: whatever a program prints, options are read, or none.

use std::sync::LazyLock;

use llama_warden_dialects::{BinaryProfile, BuildVersion, Dialect, DialectSet, OptionList, named_variables};

use crate::dialect::check_spelling;

static DIALECTS: LazyLock<DialectSet> = LazyLock::new(DialectSet::built_in);

/// Reads the input as the output of `--help`.
pub(crate) fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let list = OptionList::parse(&text);
    let names: Vec<_> = list.names().collect();
    assert!(names.is_sorted_by(|a, b| a < b), "names are sorted and unique: {names:?}");
    for name in &names {
        assert!(list.lists(name) && list.value_kind(name).is_some(), "{name}");
        assert!(!name.is_empty() && !name.contains(char::is_whitespace) && !name.contains('\0'), "{name:?} is no name");
    }
    assert_eq!(OptionList::parse(&format!("{text}\n")), list, "a line feed at the end");
    if !text.contains('\r') {
        assert_eq!(OptionList::parse(&text.replace('\n', "\r\n")), list, "line ends of another system");
    }
    // What is listed, written as a help text, is the same list.
    let printed: String = names.iter().map(|name| format!("--{name} VALUE    text\n")).collect();
    assert_eq!(OptionList::parse(&printed).names().collect::<Vec<_>>(), names);

    let version = BuildVersion::parse(&text);
    named_variables(&text);
    let binary = BinaryProfile::new("/opt/llama-server".into(), version, Some(list));
    let dialect = DIALECTS.get(<Dialect as llama_warden_plugin_files::PluginFile>::FALLBACK).expect("is built in");
    check_spelling(&binary, dialect);
}
