//! Matchers and components that another program compiles into the daemon.
//!
//! `Program` collects them; the command line passes them on by value; `compose` adds the components last, so that each of
//! llama-warden's own is on the bus before them.

use std::fmt;

use llama_warden_component::{CompositionError, Context, Host};
use llama_warden_config::{ConfigProblem, ConfigProblems};
use llama_warden_exit::CommandFailure;
use llama_warden_readiness::MakeMatcher;

/// Builds a component from its context and adds it to the host.
pub type AddComponent = Box<dyn FnOnce(&mut Host, &Context) -> Result<(), CompositionError> + Send>;

/// A component that is compiled in.
pub struct Extension {
    /// Its name, which is also that of its table in the configuration.
    pub name: &'static str,
    /// Builds it and adds it.
    pub add: AddComponent,
}

impl Extension {
    /// Adds it to the host.
    ///
    /// # Errors
    /// It cannot be built, which is shown at its table in the configuration, or it does not fit to the other components.
    pub fn add_to(self, host: &mut Host, context: &Context) -> Result<(), CommandFailure> {
        (self.add)(host, context).map_err(|error| {
            let CompositionError::NotBuilt { name, error: why, place } = &error else { return error.into() };
            let configuration = context.config();
            let (message, help) = match place {
                Some(problem) => {
                    (format!("component `{name}` cannot be built: {}", problem.message), problem.help.clone())
                }
                None => (error.to_string(), None),
            };
            let help = help.unwrap_or_else(|| match configuration.extension(name) {
                Some(_) => format!("change [extensions.{name}], or ask the author of the component"),
                None => format!("the configuration has no table [extensions.{name}]: the component may need one"),
            });
            let location = place.as_ref().map(|problem| problem.location.clone());
            match location.or_else(|| configuration.extension_place(name)) {
                Some(location) => ConfigProblems::from(ConfigProblem::error(&location, message, help)).into(),
                None => CommandFailure::usage(format!("component `{name}` cannot be built: {why}")).next_step(help),
            }
        })
    }
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
