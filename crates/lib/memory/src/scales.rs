//! Everything that is asked about memory, behind one seam.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use llama_warden_config::ServerSpec;

use crate::available::{Available, available, resident};
use crate::demand::Demand;
use crate::estimate::estimate;
use crate::gpus::{self, GpuSource, Gpus};

/// What is there at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The machine's memory; `None` where the kernel does not tell.
    pub host: Option<Available>,
    /// Its GPUs.
    pub gpus: Gpus,
    /// Bytes of the asked processes that are nobody else's and no file's. Those that are gone are missing.
    pub resident: BTreeMap<u32, u64>,
}

/// Says what servers need and what there is. Both block.
pub trait Scales: Send + Sync + fmt::Debug {
    /// What a server will need; `None` where nothing tells.
    fn demand(&self, spec: &ServerSpec) -> Option<Demand>;

    /// What is there now, and how much of it these processes hold.
    fn read(&self, pids: &[u32]) -> Reading;
}

/// The scales of this machine.
#[derive(Debug)]
pub struct SystemScales {
    root: PathBuf,
    source: Box<dyn GpuSource>,
}

impl SystemScales {
    /// With what this is built to measure.
    pub fn new() -> Self {
        #[cfg(feature = "nvml")]
        let source = gpus::NvidiaGpus::default();
        #[cfg(not(feature = "nvml"))]
        let source = gpus::NoGpus;
        Self::at("/", source)
    }

    /// The same with another root of the file system, and another source for GPUs.
    pub fn at(root: impl Into<PathBuf>, source: impl GpuSource + 'static) -> Self {
        Self { root: root.into(), source: Box::new(source) }
    }
}

impl Default for SystemScales {
    fn default() -> Self {
        Self::new()
    }
}

impl Scales for SystemScales {
    fn demand(&self, spec: &ServerSpec) -> Option<Demand> {
        estimate(spec, gpus::look(&self.root, self.source.as_ref()).take_layers())
    }

    fn read(&self, pids: &[u32]) -> Reading {
        Reading {
            host: available(&self.root),
            gpus: gpus::look(&self.root, self.source.as_ref()),
            resident: pids.iter().filter_map(|pid| Some((*pid, resident(&self.root, *pid)?))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_read_and_a_process_that_is_gone_is_missing() {
        let own = std::process::id();
        let reading = SystemScales::default().read(&[own, u32::MAX]);
        assert!(reading.host.is_some());
        assert_eq!(reading.resident.keys().collect::<Vec<_>>(), [&own]);
    }
}
