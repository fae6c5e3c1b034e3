//! `detector`: lists, shows, tests and learns detector packs. Needs no daemon.

mod learn;
mod list;
mod parsed_log;
mod recorder;
mod show;
mod starts;
mod test;
mod which;

use llama_warden_daemon::{CommandFailure, Exit};

use crate::args::GlobalArgs;
use crate::args::detector::DetectorCommand;
use crate::runtime::on_runtime;

pub fn run(global: &GlobalArgs, command: &DetectorCommand) -> Result<Exit, CommandFailure> {
    match command {
        DetectorCommand::List => list::run(global),
        DetectorCommand::Show { name } => show::run(global, name),
        DetectorCommand::Which { binary } => on_runtime(which::run(global, binary)),
        DetectorCommand::Test(args) => test::run(global, args),
        DetectorCommand::Learn(args) => learn::run(global, args),
    }
}
