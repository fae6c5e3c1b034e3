//! How much memory a server will need, by use and by place.

use std::path::PathBuf;

use llama_warden_events::MemoryEstimate;

/// Bytes by what they are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parts {
    /// The model, its projector, its adapters and its draft model.
    pub weights: u64,
    /// The cache of keys and values, for the whole context.
    pub kv: u64,
    /// Buffers of the computation, and the process itself.
    pub compute: u64,
}

impl Parts {
    /// All together.
    pub const fn total(self) -> u64 {
        self.weights.saturating_add(self.kv).saturating_add(self.compute)
    }
}

/// The memory that a server will need, on the host and on GPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryRequirement {
    /// In the machine's memory.
    pub host: Parts,
    /// On GPUs.
    pub gpus: Parts,
    /// The file of which `host.weights` are a mapping, where they are one: servers that map the same file share it, and
    /// the kernel counts it as available although they need it.
    pub mapping: Option<PathBuf>,
}

impl MemoryRequirement {
    /// Bytes of the machine's memory that are a mapping of a file.
    pub fn mapped(&self) -> u64 {
        if self.mapping.is_some() { self.host.weights } else { 0 }
    }

    /// As events carry it.
    pub const fn card(&self) -> MemoryEstimate {
        let Self { host, gpus, .. } = self;
        MemoryEstimate {
            weights_bytes: host.weights.saturating_add(gpus.weights),
            kv_bytes: host.kv.saturating_add(gpus.kv),
            compute_bytes: host.compute.saturating_add(gpus.compute),
            gpu_bytes: gpus.total(),
        }
    }
}
