//! `detector list`: every pack, in order of precedence.

use llama_warden_daemon::{Exit, Failure};
use llama_warden_readiness::Pack;

use crate::args::Global;
use crate::plugin_files;

pub fn run(global: &Global) -> Result<Exit, Failure> {
    plugin_files::list(global, |pack: &Pack, data| {
        data.insert("patterns".to_owned(), pack.patterns().len().into());
        data.insert("examples".to_owned(), pack.examples().len().into());
    })
}
