//! Launches llama-servers and owns their processes until nothing is left of them.
//!
//! * **Before the process** (`launch`): run the user's `pre-start` command; check executable, model and address; ask the
//!   executable once for its version and options ([`BinaryCache`]); have the command line built by the dialects crate.
//! * **The process** (the crate `processes`): run by a shim that the [`guardian`] forks, which binds its life to the daemon's.
//! * **While it runs**: one task per launch has signals delivered and identifies the process that listens on its port; another task
//!   reads its output (`output`).
//! * **The end**: the shim reports it once nothing is left below it; the pipes are read to their end; the exit is published.
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
pub use llama_warden_processes::guardian;
pub use llama_warden_processes::launch_tag::{LAUNCH_TAG_VARIABLE, LaunchTag};
pub use llama_warden_processes::spawn_request::GuardianProgram;
pub use llama_warden_processes::spawner::Spawner;
