//! From the merged file to settings and server specifications: cross-field validation, identities, profiles, defaults.

pub(crate) mod configuration;
pub(crate) mod cross_checks;
mod dedup;
pub(crate) mod defaults;
mod derived_id;
pub(crate) mod discovered;
pub(crate) mod flags;
pub(crate) mod identities;
pub(crate) mod in_force;
mod option_places;
mod peers;
pub(crate) mod profiles;
mod restart_only;
mod routing;
mod routing_checks;
mod shell_spellings;
mod variables;
pub(crate) mod warnings;
