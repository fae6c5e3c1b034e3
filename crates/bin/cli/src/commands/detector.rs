//! `detector`: the packs that read output, and what they say of a build or a log. Needs no daemon.

mod binary;
mod learn;
mod list;
mod log;
mod recorder;
mod show;
mod starts;
mod test;
mod which;

use llama_warden_daemon::{Exit, Failure};

use crate::args::Global;
use crate::args::detector::DetectorCommand;
use crate::runtime::on_runtime;

pub fn run(global: &Global, command: &DetectorCommand) -> Result<Exit, Failure> {
    match command {
        DetectorCommand::List => list::run(global),
        DetectorCommand::Show { name } => show::run(global, name),
        DetectorCommand::Which { binary } => on_runtime(which::run(global, binary)),
        DetectorCommand::Test(args) => test::run(global, args),
        DetectorCommand::Learn(args) => learn::run(global, args),
    }
}
