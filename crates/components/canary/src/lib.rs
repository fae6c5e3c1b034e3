//! Tries another build of llama-server beside the one that a server runs, and replaces it if that is asked for.
//!
//! A canary is a server like any other, which the supervisor adds for a while: launched, read, checked and stopped by the same
//! components. This component only decides when it comes and goes, asks both builds for a few tokens, and compares them.
//!
//! [`BuildOverrides`] is what a trial changes in the fleet of the configuration: the canary, and executables in place of
//! configured ones.
//!
//! | step | ends when |
//! |---|---|
//! | starting | the canary is ready or has failed |
//! | measuring | both builds have answered, or not in time |
//! | removing | the canary is gone; without a replacement, this is the end |
//! | switching | the server, stopped and started with the new build on its own port, is ready or has failed |
//! | watching | it has been ready for `restart.stable-after`, or has failed |
//! | rolling back | the server, started with the old build again, is ready or has failed |

mod compare;
mod component;
mod machine;
mod measure;
mod overrides;

pub use component::{Canaries, CanaryError};
pub use overrides::BuildOverrides;
