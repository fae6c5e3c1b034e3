//! The context from which a component is built.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use llama_warden_bus::{Bus, OutputLane};
use llama_warden_config::{Configuration, Fleet};
use llama_warden_events::BootId;
use tokio::sync::watch;

/// A daemon under composition, as a component sees it before it runs.
#[derive(Debug, Clone)]
pub struct Context(ContextParts);

/// What a [`Context`] is made of.
#[derive(Debug, Clone)]
pub struct ContextParts {
    /// The configuration that the daemon starts with.
    pub configuration: Arc<Configuration>,
    /// The servers in force.
    pub fleet: watch::Receiver<Fleet>,
    /// Events and snapshots.
    pub bus: Bus,
    /// The output of every server.
    pub lane: OutputLane,
    /// The daemon's state directory.
    pub state_dir: PathBuf,
}

impl From<ContextParts> for Context {
    fn from(parts: ContextParts) -> Self {
        Self(parts)
    }
}

impl Context {
    /// The id of this run of the daemon.
    pub fn boot(&self) -> BootId {
        self.0.bus.snapshot().boot
    }

    /// The configuration that the daemon starts with. A component's own table is `config().extension(NAME)`; a reload does not
    /// reach it.
    pub fn config(&self) -> &Configuration {
        &self.0.configuration
    }

    /// The servers in force, from now on.
    pub fn fleet(&self) -> watch::Receiver<Fleet> {
        self.0.fleet.clone()
    }

    /// Events and snapshots, for a component that reads them outside its inbox.
    pub const fn bus(&self) -> &Bus {
        &self.0.bus
    }

    /// The output of every server. A tap has to be registered here, before the first launch.
    pub const fn lane(&self) -> &OutputLane {
        &self.0.lane
    }

    /// The daemon's state directory. A component keeps its files in a folder of its own name below it.
    pub fn state_dir(&self) -> &Path {
        &self.0.state_dir
    }
}
