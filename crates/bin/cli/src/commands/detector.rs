//! `detector`: lists, shows, tests and learns detector packs. Needs no daemon.

mod learn;
mod test;
mod which;

use llama_warden_connect::GlobalArgs;
use llama_warden_daemon::CommandResult;
use llama_warden_detectors::Pack;

use super::on_runtime;
use crate::args::detector::DetectorCommand;
use llama_warden_builds::plugin_files;

pub fn run(global: &GlobalArgs, command: &DetectorCommand) -> CommandResult {
    match command {
        DetectorCommand::List => plugin_files::list::<Pack>(global.config.as_deref(), global.json),
        DetectorCommand::Show { name } => plugin_files::show::<Pack>(global.config.as_deref(), global.json, name),
        DetectorCommand::Which { binary } => on_runtime(which::run(global, binary)),
        DetectorCommand::Test(args) => test::run(global, args),
        DetectorCommand::Learn(args) => learn::run(global, args),
    }
}
