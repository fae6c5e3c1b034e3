//! The program, and what others compile into it.

use std::process::ExitCode;

use llama_warden_config::ServerSpec;
use llama_warden_daemon::Extensions;
use llama_warden_launcher::shim;
use llama_warden_readiness::Matcher;

/// llama-warden as a program, for a `main` of one line:
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     llama_warden::Program::new().main()
/// }
/// ```
///
/// To compile in a [`Matcher`] of your own, add it before `main`; `examples/custom-matcher` is a whole crate that does.
#[derive(Debug, Default)]
pub struct Program {
    extensions: Extensions,
}

impl Program {
    /// llama-warden with nothing compiled in.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the output of a server with the matcher that `make` returns for it, instead of its detector pack's patterns.
    ///
    /// Each launch calls `make` once, with the server and the port that it was given. The pack still says how to probe, and
    /// readiness still needs the probe: a matcher's [`Ready`](crate::plugin::Verdict::Ready) only makes it probe at once.
    #[must_use]
    pub fn with_matchers(
        mut self,
        make: impl Fn(&ServerSpec, u16) -> Option<Box<dyn Matcher>> + Send + Sync + 'static,
    ) -> Self {
        self.extensions.matchers = Some(Box::new(make));
        self
    }

    /// Runs the shim, the stand-in, or the command of the command line, by the name under which this program was started.
    /// Call it first in `main`.
    pub fn main(self) -> ExitCode {
        // The shim runs between the spawn and the exec of a server, so it comes before any thread exists.
        if let Some(code) = shim::run_if_requested(std::env::args_os()) {
            return code;
        }
        if llama_warden_cli::is_stand_in(std::env::args_os().next().as_deref()) {
            return llama_warden_stand_in::main(std::env::args_os());
        }
        llama_warden_cli::main(self.extensions)
    }
}
