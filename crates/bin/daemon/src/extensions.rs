//! Matchers and components that a program of others compiles into the daemon.
//!
//! `Program` collects them; the command line passes them on by value; `compose` adds the components last, so that each of
//! llama-warden's own is on the bus before them.

use std::fmt;

use llama_warden_bus::CompositionError;
use llama_warden_component::Host;
use llama_warden_config::{Configuration, ServerSpec};
use llama_warden_readiness::Matcher;

/// Makes the matcher of one launch from the server and the port that it was given. `None` leaves the launch to its detector
/// pack.
pub type MakeMatcher = Box<dyn Fn(&ServerSpec, u16) -> Option<Box<dyn Matcher>> + Send + Sync>;

/// Builds a component from the configuration and adds it to the host.
pub type AddComponent = Box<dyn FnOnce(&mut Host, &Configuration) -> Result<(), CompositionError> + Send>;

/// The matchers and components that are compiled in beside those of llama-warden.
#[derive(Default)]
pub struct Extensions {
    /// Reads output instead of detector packs.
    pub matchers: Option<MakeMatcher>,
    /// Adds components, in this order.
    pub components: Vec<AddComponent>,
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extensions")
            .field("matchers", &self.matchers.is_some())
            .field("components", &self.components.len())
            .finish()
    }
}
