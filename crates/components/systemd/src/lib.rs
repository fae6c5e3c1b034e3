//! Tells systemd when the daemon is ready, what it does, and that it is alive.
//!
//! systemd gives a service of `Type=notify` the address of a datagram socket in `NOTIFY_SOCKET`. The component sends there
//! (sd_notify(3) describes the fields):
//!
//! * `READY=1` once the daemon runs: its addresses are bound and it accepts commands. It does not wait for models. A unit that
//!   needs a model calls `llama-warden wait`.
//! * `STATUS=` with what is ready, loads or failed, at most once a second.
//! * `RELOADING=1` and `READY=1` around a reload, as `Type=notify-reload` wants them.
//! * `STOPPING=1` with the time that a stop may take, so that systemd's own time limit does not cut a grace short.
//! * `WATCHDOG=1` at half of `WatchdogSec=`. The component runs on the thread that runs every other component, so a daemon whose
//!   thread is stuck sends none, and systemd restarts it.
//! * `FDSTORE=1` with the listening TCP socket, where the unit has `FileDescriptorStoreMax=`: connections wait while the daemon
//!   restarts instead of being refused.
//!
//! Without `NOTIFY_SOCKET` there is no such component. The variables are never passed to a server or a hook.

mod component;
mod environment;
mod machine;
mod notice;
mod socket;
mod summary;

pub use component::Systemd;
pub use environment::{SystemdEnvironment, SystemdError};
