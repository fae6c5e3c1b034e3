//! The context from which a component is built.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use llama_warden_bus::{Bus, OutputLane};
use llama_warden_config::{Configuration, Fleet};
use llama_warden_events::BootId;
use tokio::sync::watch;

use crate::Host;

/// A daemon under composition, as a component sees it before it runs.
#[derive(Debug, Clone)]
pub struct Context {
    boot: BootId,
    configuration: Arc<Configuration>,
    fleet: watch::Receiver<Fleet>,
    bus: Bus,
    lane: OutputLane,
    state_dir: PathBuf,
}

impl Context {
    /// The context of a daemon with this configuration, whose servers in force `fleet` tells.
    pub fn new(
        host: &Host,
        configuration: Arc<Configuration>,
        fleet: watch::Receiver<Fleet>,
        state_dir: PathBuf,
    ) -> Self {
        let (bus, lane) = (host.bus().clone(), host.lane().clone());
        Self { boot: host.boot(), configuration, fleet, bus, lane, state_dir }
    }

    /// The id of this run of the daemon.
    pub const fn boot(&self) -> BootId {
        self.boot
    }

    /// The configuration that the daemon starts with. A component's own table is `config().extension(NAME)`; a reload does not
    /// reach it.
    pub fn config(&self) -> &Configuration {
        &self.configuration
    }

    /// The servers in force, from now on.
    pub fn fleet(&self) -> watch::Receiver<Fleet> {
        self.fleet.clone()
    }

    /// Events and snapshots, for a component that reads them outside its inbox.
    pub const fn bus(&self) -> &Bus {
        &self.bus
    }

    /// The output of every server. A tap has to be registered here, before the first launch.
    pub const fn lane(&self) -> &OutputLane {
        &self.lane
    }

    /// The daemon's state directory. A component keeps its files in a folder of its own name below it.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }
}
