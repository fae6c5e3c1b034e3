//! What a llama-server needs of memory, and how much there is.
//!
//! [`estimate()`] reads a model's header and the options of a server and gives its [`Demand`]; [`available()`] reads what
//! the kernel says is left for this process; [`Gpus`] is what is left on GPUs. [`Scales`] is all of it behind one seam,
//! [`SystemScales`] the one that looks at this machine. Nothing is decided here, and nothing is remembered.
//!
//! Calls block: they read files, some of which may lie on a slow disk.

mod available;
mod bytes;
mod cgroup;
mod demand;
mod estimate;
mod gpus;
mod options;
mod scales;

pub use available::{Available, Bound, available};
pub use bytes::Bytes;
pub use demand::{Demand, Parts};
pub use estimate::estimate;
#[cfg(feature = "nvml")]
pub use gpus::NvidiaGpus;
pub use gpus::{Gpu, GpuSource, Gpus, NoGpus};
pub use scales::{Reading, Scales, SystemScales};
