//! The program: the shim, the stand-in, or llama-warden itself, by the name under which it is called.

use std::process::ExitCode;

use llama_warden::{cli, demo};
use llama_warden_launcher::shim;

fn main() -> ExitCode {
    // The shim comes first, before any thread exists: it stands between a spawn and the exec of a server.
    if let Some(code) = shim::run_if_requested(std::env::args_os()) {
        return code;
    }
    if demo::is_stand_in(std::env::args_os().next().as_ref()) {
        return llama_warden_stand_in::main(std::env::args_os());
    }
    cli::main()
}
