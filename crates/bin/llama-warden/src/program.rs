//! The program, and what others compile into it.

use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;

use llama_warden_config::ServerSpec;
use llama_warden_detectors::Matcher;
use llama_warden_launcher::shim;

use crate::{cli, demo};

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
    pub(crate) matchers: Option<Matchers>,
}

/// Makes matchers for servers.
#[derive(Clone)]
pub struct Matchers(Arc<MakeMatcher>);

type MakeMatcher = dyn Fn(&ServerSpec, u16) -> Option<Box<dyn Matcher>> + Send + Sync;

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
        self.matchers = Some(Matchers(Arc::new(make)));
        self
    }

    /// Runs what the command line asks for: the shim, the stand-in, or llama-warden itself, by the name under which the
    /// program is called. Call it first thing in `main`.
    pub fn main(self) -> ExitCode {
        // The shim comes first, before any thread exists: it stands between a spawn and the exec of a server.
        if let Some(code) = shim::run_if_requested(std::env::args_os()) {
            return code;
        }
        if demo::is_stand_in(std::env::args_os().next().as_ref()) {
            return llama_warden_stand_in::main(std::env::args_os());
        }
        cli::main(&self)
    }
}

impl Matchers {
    /// The matcher of a launch.
    pub(crate) fn make(&self, server: &ServerSpec, port: u16) -> Option<Box<dyn Matcher>> {
        (self.0)(server, port)
    }
}

impl fmt::Debug for Matchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Matchers")
    }
}
