//! The trait through which the supervisor estimates and reads memory, and its implementation for this machine.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use llama_warden_config::ServerSpec;
use llama_warden_procfs::ProcessTree;

use crate::available::{Available, available, resident};
use crate::estimate::estimate;
use crate::gpus::{self, GpuSource, Gpus};
use crate::requirement::MemoryRequirement;

/// The memory of the machine at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The machine's memory; `None` if the kernel does not report it.
    pub host: Option<Available>,
    /// Its GPUs.
    pub gpus: Gpus,
    /// Anonymous bytes that each of the given processes has for itself. Processes that have ended are missing.
    pub resident: BTreeMap<u32, u64>,
}

/// Estimates what servers need and reads what there is. Both block: call them on the blocking pool.
pub trait MemoryProbe: Send + Sync + fmt::Debug {
    /// The memory that a server will need; `None` if its model cannot be read.
    fn estimate(&self, spec: &ServerSpec) -> Option<MemoryRequirement>;

    /// The memory that is available now, and how much these processes hold.
    fn read(&self, pids: &[u32]) -> Reading;
}

/// Reads this machine.
#[derive(Debug)]
pub struct SystemMemoryProbe {
    root: PathBuf,
    source: Box<dyn GpuSource>,
}

impl SystemMemoryProbe {
    /// A probe with the GPU source that this build was compiled with.
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

impl Default for SystemMemoryProbe {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryProbe for SystemMemoryProbe {
    fn estimate(&self, spec: &ServerSpec) -> Option<MemoryRequirement> {
        estimate(spec, gpus::detect(&self.root, self.source.as_ref()).take_layers())
    }

    fn read(&self, pids: &[u32]) -> Reading {
        let processes = if pids.is_empty() { ProcessTree::default() } else { ProcessTree::read() };
        Reading {
            host: available(&self.root),
            gpus: gpus::detect(&self.root, self.source.as_ref()),
            resident: pids.iter().filter_map(|pid| Some((*pid, resident(&self.root, &processes, *pid)?))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_read_and_a_process_that_is_gone_is_missing() {
        let own = std::process::id();
        let reading = SystemMemoryProbe::default().read(&[own, u32::MAX]);
        assert!(reading.host.is_some());
        assert_eq!(reading.resident.keys().collect::<Vec<_>>(), [&own]);
    }

    #[test]
    fn the_memory_of_a_server_behind_a_wrapper_is_that_of_its_child() {
        use std::io::{BufRead as _, BufReader};
        use std::process::{Command, Stdio};
        // The child holds 16 MiB in a variable; its parent waits for it.
        let held = "big=$(head -c 16777216 /dev/zero | tr '\\0' x); echo held; read -r end <&3";
        let text = format!("exec 3<&0; ({held}; : ${{#big}}) & wait");
        let mut wrapper = Command::new("/bin/sh");
        let wrapper = wrapper.args(["-c", &text]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut wrapper = wrapper.spawn().expect("spawns");
        let mut line = String::new();
        BufReader::new(wrapper.stdout.take().expect("piped")).read_line(&mut line).expect("is read");
        let pid = wrapper.id();
        let resident = SystemMemoryProbe::default().read(&[pid]).resident[&pid];
        // The end of its input ends the child, and that the wrapper.
        drop(wrapper.stdin.take());
        wrapper.wait().expect("is reaped");
        assert!(line == "held\n" && resident > 16 << 20, "{line:?}, {resident}");
    }
}
