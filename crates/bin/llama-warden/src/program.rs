//! The program, and what others compile into it.

use std::process::ExitCode;

use llama_warden_component::{Built, Component, Context, Host};
use llama_warden_config::ServerSpec;
use llama_warden_daemon::{Extension, Extensions};
use llama_warden_detectors::Matcher;
use llama_warden_launcher::guardian;

/// llama-warden as a program, for a `main` of one line:
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     llama_warden::Program::new().main()
/// }
/// ```
///
/// To compile in a [`Matcher`] or a [`Component`] of your own, add it before `main`: `examples/custom-matcher` and
/// `examples/custom-component` are whole crates that do.
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

    /// Adds a component of your own to the daemon. `build` makes it from the [`Context`], or says why it cannot; its table in the
    /// configuration is `context.config().extension_settings(NAME)`, whose errors are shown at their place. It starts with the daemon, after llama-warden's own components, and ends with it; if it
    /// fails, the daemon publishes `ComponentFailed` and shuts down in order.
    #[must_use]
    pub fn with_component<B: Built>(mut self, build: impl FnOnce(&Context) -> B + Send + 'static) -> Self {
        let name = B::Component::NAME;
        let add = Box::new(|host: &mut Host, context: &Context| host.add_built(|| build(context)));
        self.extensions.components.push(Extension { name, add });
        self
    }

    /// Runs the guardian, the stand-in, or the command of the command line, by the name under which this program was started.
    /// Call it first in `main`.
    pub fn main(self) -> ExitCode {
        // The guardian forks, so it comes before any thread exists.
        if let Some(code) = guardian::run_if_requested(std::env::args_os()) {
            return code;
        }
        if llama_warden_cli::is_stand_in(std::env::args_os().next().as_deref()) {
            return llama_warden_stand_in::main(std::env::args_os());
        }
        llama_warden_cli::main(self.extensions, env!("LLAMA_WARDEN_VERSION"))
    }
}
