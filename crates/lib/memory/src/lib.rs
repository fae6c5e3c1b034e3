//! Estimates the memory that a llama-server needs, and reads how much there is.
//!
//! [`estimate()`] reads a model's header and the options of a server and gives its [`MemoryRequirement`]; [`available()`] reads what
//! the kernel says is left for this process; [`Gpus`] is what is left on GPUs. [`MemoryProbe`] is the trait over all of
//! it, [`SystemMemoryProbe`] its implementation for this machine. Nothing is decided here, and nothing is remembered.
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
pub use estimate::estimate;
#[cfg(feature = "nvml")]
pub use gpus::NvidiaGpus;
pub use gpus::{Gpu, GpuSource, Gpus, NoGpus};
pub use probe::{MemoryProbe, Reading, SystemMemoryProbe};
pub use requirement::{MemoryRequirement, Parts};
