//! `detector list`: every pack, in order of precedence.

use llama_warden_detectors::Pack;

use crate::cli::args::Global;
use crate::cli::data_files;
use crate::exit::{Exit, Failure};

pub fn run(global: &Global) -> Result<Exit, Failure> {
    data_files::list(global, |pack: &Pack, data| {
        data.insert("patterns".to_owned(), pack.patterns().len().into());
        data.insert("examples".to_owned(), pack.examples().len().into());
    })
}
