//! Matchers and components that another program compiles into the daemon.
//!
//! `Program` collects them; the command line passes them on by value; `compose` adds the components last, so that each of
//! llama-warden's own is on the bus before them.

use std::fmt;

use llama_warden_component::{CompositionError, Context, Host};
use llama_warden_config::ServerSpec;
use llama_warden_detectors::Matcher;

/// Makes the matcher of one launch from the server and the port that it was given. `None` leaves the launch to its detector
/// pack.
pub type MakeMatcher = Box<dyn Fn(&ServerSpec, u16) -> Option<Box<dyn Matcher>> + Send + Sync>;

/// Builds a component from its context and adds it to the host.
pub type AddComponent = Box<dyn FnOnce(&mut Host, &Context) -> Result<(), CompositionError> + Send>;

/// A component that is compiled in.
pub struct Extension {
    /// Its name, which is also that of its table in the configuration.
    pub name: &'static str,
    /// Builds it and adds it.
    pub add: AddComponent,
}

/// The matchers and components that are compiled in beside those of llama-warden.
#[derive(Default)]
pub struct Extensions {
    /// Reads output instead of detector packs.
    pub matchers: Option<MakeMatcher>,
    /// Adds components, in this order.
    pub components: Vec<Extension>,
}

impl Extensions {
    /// The names of the components, which are also those of their tables in the configuration.
    pub fn names(&self) -> Vec<&'static str> {
        self.components.iter().map(|extension| extension.name).collect()
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extensions")
            .field("matchers", &self.matchers.is_some())
            .field("components", &self.components.len())
            .finish()
    }
}
