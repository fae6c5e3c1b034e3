//! Owns the processes of llama-servers, from the options that a build understands to the reaped exit status.
//!
//! * **What a build understands**: [`BinaryCache`] asks an executable once for its version and options.
//! * **Making a process**: the user's `pre-start` command, a look before the leap (executable, model, port), then a spawn from one permanent thread
//!   through the [`shim`], which ties the child's life to the daemon's.
//! * **While it runs**: one task per launch reads its output for ever, delivers signals to its group, and says who
//!   listens on its port.
//! * **The end**: exit seen, group and tag swept, pipes read out, status reaped, in this order.
//!
//! [`Launcher`] is the component. It knows nothing about readiness and decides nothing about stops: it is told which
//! signal to send. A launch that is told to end before its program runs is called off, and ends with `ServerExited` by
//! that signal; one that fails before its program runs ends with `ServerFailed` and no exit.

mod component;
mod launch;
mod launch_table;
mod output;
mod process;

pub use component::{Launcher, LauncherError, LauncherSettings};
pub use launch::executable::{NotInPath, resolve};
pub use launch::failure::LaunchFailure;
pub use launch::identify::{BinaryCache, IdentifyError, identify};
pub use process::environment::{ChildEnvironment, EnvironmentPolicy, child_environment};
pub use process::launch_tag::{LAUNCH_TAG_VARIABLE, LaunchTag};
pub use process::shim;
pub use process::spawn_request::ShimProgram;
pub use process::spawner::Spawner;
