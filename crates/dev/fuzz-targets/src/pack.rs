//! Detector packs: a pack that is taken is read again to the same pack, and keeps the promises of its examples.

use std::path::Path;

use llama_warden_detectors::PackSet;
use llama_warden_plugin_files::PluginFile as _;

use crate::check_place;

/// Reads the input as a detector pack.
pub(crate) fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let packs = PackSet::built_in();
    let path = Path::new("fuzz.toml");
    match packs.parse(path, &text) {
        Ok(pack) => {
            assert_eq!(pack.text(), text);
            let again = packs.parse(path, pack.text()).unwrap_or_else(|error| panic!("not a second time: {error}"));
            assert_eq!((again.info(), again.patterns()), (pack.info(), pack.patterns()));
            assert!(pack.contradictions().is_empty(), "{:?}", pack.contradictions());
        }
        Err(error) => {
            check_place(&text, error.line, error.column);
            assert!(!error.message.is_empty() && !error.advice.is_empty(), "{error}");
        }
    }
}
