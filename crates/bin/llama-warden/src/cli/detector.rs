//! `detector`: the packs that read output, and what they say of a build or a log. Needs no daemon.

pub mod args;
mod binary;
mod learn;
mod list;
mod log;
mod recorder;
mod rounds;
mod show;
mod test;
mod which;

use super::args::Global;
use crate::exit::{Exit, Failure};
use args::DetectorCommand;

pub fn run(global: &Global, command: &DetectorCommand) -> Result<Exit, Failure> {
    match command {
        DetectorCommand::List => list::run(global),
        DetectorCommand::Show { name } => show::run(global, name),
        DetectorCommand::Which { binary } => super::on_runtime(which::run(global, binary)),
        DetectorCommand::Test(args) => test::run(global, args),
        DetectorCommand::Learn(args) => learn::run(global, args),
    }
}
