//! The program, and what others compile into it.

use std::process::ExitCode;

use llama_warden_config::ServerSpec;
use llama_warden_daemon::Matchers;
use llama_warden_launcher::shim;
use llama_warden_readiness::Matcher;

/// llama-warden as a program, to be run by a `main` of one line:
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     llama_warden::Program::new().main()
/// }
/// ```
///
/// Whoever compiles in a [`Matcher`] of their own adds it before; `examples/custom-matcher` shows a whole crate.
#[derive(Debug, Clone, Default)]
pub struct Program {
    matchers: Option<Matchers>,
}

impl Program {
    /// Nothing but llama-warden.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the output of servers for which `make` gives a matcher with it, instead of their detector pack's patterns.
    ///
    /// `make` gets the server and the port that it was given, once for each launch. The pack still says how to probe, and the
    /// probe stays the proof: what a matcher calls ready makes readiness look.
    #[must_use]
    pub fn with_matchers(
        mut self,
        make: impl Fn(&ServerSpec, u16) -> Option<Box<dyn Matcher>> + Send + Sync + 'static,
    ) -> Self {
        self.matchers = Some(Matchers::new(make));
        self
    }

    /// Runs what the command line asks for: the shim, the stand-in, or llama-warden itself, by the name under which the
    /// program is called. Call it first thing in `main`.
    pub fn main(self) -> ExitCode {
        // The shim comes first, before any thread exists: it stands between a spawn and the exec of a server.
        if let Some(code) = shim::run_if_requested(std::env::args_os()) {
            return code;
        }
        if llama_warden_cli::is_stand_in(std::env::args_os().next().as_ref()) {
            return llama_warden_stand_in::main(std::env::args_os());
        }
        llama_warden_cli::main(self.matchers.as_ref())
    }
}
