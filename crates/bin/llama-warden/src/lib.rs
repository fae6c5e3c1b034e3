//! llama-warden as a library: the program, and what others need to compile a plug-in into it.
//!
//! [`Program`] is all of it, for a `main` of one line. The command line is `llama-warden-cli`, the daemon
//! `llama-warden-daemon`; everything that decides or acts lives in the crates of the components.

mod program;

pub use llama_warden_daemon::Matchers;
pub use program::Program;

/// What a compiled plug-in needs: the trait, and the types in it.
pub mod plugin {
    pub use llama_warden_config::ServerSpec;
    pub use llama_warden_events::{FailureReason, StreamName};
    pub use llama_warden_readiness::{Matcher, Verdict};
}
