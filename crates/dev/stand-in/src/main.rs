//! The stand-in as a program.

use std::process::ExitCode;

fn main() -> ExitCode {
    llama_warden_stand_in::main(std::env::args_os())
}
