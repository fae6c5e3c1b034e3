//! llama-warden that also understands the fork: the same command line, the same configuration.

use std::process::ExitCode;

use custom_matcher::GooseMatcher;

fn main() -> ExitCode {
    llama_warden::Program::new().with_matchers(GooseMatcher::for_server).main()
}
