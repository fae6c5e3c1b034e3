//! Launches llama-servers and owns their processes until their exit status is reaped.
//!
//! * **Before the process** (`launch`): run the user's `pre-start` command; check executable, model and address; ask the
//!   executable once for its version and options ([`BinaryCache`]); have the command line built by the dialects crate.
//! * **The process** (`process`): spawned from one permanent thread through the [`shim`], which binds the child's life to the
//!   daemon's.
//! * **While it runs**: one task per launch delivers signals to its group and identifies the process that listens on its port; another task
//!   reads its output (`output`).
//! * **The end**: the exit is seen, group, tag and lock are swept, the pipes are read to their end, the status is reaped, in
//!   this order.
//!
//! [`Launcher`] is the component. It does not deal with readiness and does not decide about stops: the terminator requests
//! each signal. A launch that is cancelled before its program runs ends with `ServerExited` by that signal; one that
//! fails before its program runs ends with `ServerFailed` and no exit.

mod component;
mod launch;
mod output;

pub use component::{Launcher, LauncherError, LauncherSettings};
pub use launch::failure::LaunchFailure;
pub use launch::identify::{BinaryCache, IdentifyError, identify};
pub use llama_warden_processes::environment::{ChildEnvironment, EnvironmentPolicy, child_environment};
pub use llama_warden_processes::launch_tag::{LAUNCH_TAG_VARIABLE, LaunchTag};
pub use llama_warden_processes::shim;
pub use llama_warden_processes::spawn_request::ShimProgram;
pub use llama_warden_processes::spawner::Spawner;
