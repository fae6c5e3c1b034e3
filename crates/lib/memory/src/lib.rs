//! Estimates the memory that a llama-server needs, and reads how much there is.
//!
//! [`estimate()`] computes the [`MemoryRequirement`] of a server from its model's header and its options; [`available()`] reads
//! the memory that the kernel reports as available to this process; [`Gpus`] has the free memory of GPUs. [`MemoryProbe`] is
//! the trait over all of it, [`SystemMemoryProbe`] its implementation for this machine. The crate decides and stores nothing.
//!
//! Calls block: they read files, some of which may lie on a slow disk.

mod available;
mod bytes;
mod cgroup;
mod estimate;
mod gpus;
mod options;
mod probe;
mod requirement;

pub use available::{Available, Bound, available};
pub use bytes::Bytes;
pub use estimate::{estimate, estimate_inspected};
#[cfg(feature = "nvml")]
pub use gpus::NvidiaGpus;
pub use gpus::{Gpu, GpuSource, Gpus, NoGpus};
pub use probe::{MemoryProbe, Reading, SystemMemoryProbe};
pub use requirement::{MemoryRequirement, Parts};
