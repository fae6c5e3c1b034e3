//! `detector list`: prints every pack, in order of precedence.

use llama_warden_daemon::{CommandFailure, Exit};
use llama_warden_detectors::Pack;

use crate::args::GlobalArgs;
use crate::plugin_files;

pub fn run(global: &GlobalArgs) -> Result<Exit, CommandFailure> {
    plugin_files::list(global, |pack: &Pack, data| {
        data.insert("patterns".to_owned(), pack.patterns().len().into());
        data.insert("examples".to_owned(), pack.examples().len().into());
    })
}
