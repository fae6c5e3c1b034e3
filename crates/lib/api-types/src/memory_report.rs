//! The memory of the machine, and what the servers hold of it: the JSON of `/api/v1/memory`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use llama_warden_events::ServerId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The memory of the machine at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MachineMemory {
    /// The memory beside that of GPUs; null if the kernel does not report it.
    pub host: Option<HostRoom>,
    /// The GPUs; null where there is one that this build cannot measure.
    pub gpus: Option<Vec<GpuRoom>>,
    /// Bytes that the processes of each running server hold, without mapped files, by the server's id.
    pub servers: BTreeMap<ServerId, u64>,
}

/// Memory that the servers share with everything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostRoom {
    /// All bytes: those of the machine, or of the control group that limits the daemon most.
    pub total_bytes: u64,
    /// Bytes that can be used without swapping. They include the file cache, and so the mapped weights of running servers.
    pub available_bytes: u64,
    /// The folder of the control group that limits both numbers; null where it is the machine.
    pub cgroup: Option<PathBuf>,
}

/// The memory of a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GpuRoom {
    /// Its name for people.
    pub name: String,
    /// All bytes.
    pub total_bytes: u64,
    /// Free bytes.
    pub free_bytes: u64,
}
