//! What a program of others compiles into the daemon.

use std::fmt;
use std::sync::Arc;

use llama_warden_config::ServerSpec;
use llama_warden_readiness::Matcher;

/// Makes matchers for servers.
#[derive(Clone)]
pub struct Matchers(Arc<MakeMatcher>);

type MakeMatcher = dyn Fn(&ServerSpec, u16) -> Option<Box<dyn Matcher>> + Send + Sync;

impl Matchers {
    /// Matchers that `make` makes.
    pub fn new(make: impl Fn(&ServerSpec, u16) -> Option<Box<dyn Matcher>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

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
