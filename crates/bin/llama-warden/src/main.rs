//! The program, with nothing compiled into it.

use std::process::ExitCode;

fn main() -> ExitCode {
    llama_warden::Program::new().main()
}
