//! The free memory of GPUs.
//!
//! With the feature `nvml` it is read from NVIDIA's library. Without it, and for other makers, only the device file of a
//! driver is detected: such GPUs take layers, but their free memory is unknown.

use std::fmt;
use std::path::Path;

/// One GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// Its name for people.
    pub name: String,
    /// Free bytes.
    pub free: u64,
    /// All bytes.
    pub total: u64,
}

/// The GPUs of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gpus {
    /// There is none: everything is in the machine's memory.
    Absent,
    /// There is one, and nothing reports its memory: what is placed there is not counted.
    Unmeasured,
    /// The GPUs with their free memory.
    Measured(Vec<Gpu>),
}

impl Gpus {
    /// Whether layers can go to one.
    pub const fn take_layers(&self) -> bool {
        !matches!(self, Self::Absent)
    }

    /// The free bytes of all of them, which llama-server fills as one by default; `None` if it is unknown.
    pub fn free(&self) -> Option<u64> {
        match self {
            Self::Measured(gpus) => Some(gpus.iter().fold(0, |sum: u64, gpu| sum.saturating_add(gpu.free))),
            Self::Absent | Self::Unmeasured => None,
        }
    }
}

/// A source of the free memory of GPUs.
pub trait GpuSource: Send + Sync + fmt::Debug {
    /// The GPUs that it knows, now; `None` where it does not work on this machine.
    fn gpus(&self) -> Option<Vec<Gpu>>;
}

/// Knows no GPU.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoGpus;

impl GpuSource for NoGpus {
    fn gpus(&self) -> Option<Vec<Gpu>> {
        None
    }
}

/// The GPUs that `source` reports; without a report, whether a device file of a GPU driver exists. `root` is `/`, except in
/// tests.
pub(crate) fn detect(root: &Path, source: &dyn GpuSource) -> Gpus {
    /// NVIDIA's driver, AMD's, and WSL's.
    const DEVICES: [&str; 3] = ["dev/nvidiactl", "dev/kfd", "dev/dxg"];
    match source.gpus() {
        Some(gpus) if !gpus.is_empty() => Gpus::Measured(gpus),
        _ if DEVICES.iter().any(|device| root.join(device).exists()) => Gpus::Unmeasured,
        _ => Gpus::Absent,
    }
}

#[cfg(feature = "nvml")]
pub use nvidia::NvidiaGpus;

#[cfg(feature = "nvml")]
mod nvidia {
    use std::ffi::OsStr;
    use std::sync::OnceLock;

    use nvml_wrapper::Nvml;
    use nvml_wrapper::error::NvmlError;

    use super::{Gpu, GpuSource};

    /// The name under which drivers install the library; the one without a number comes with the developer's files.
    const LIBRARY: &str = "libnvidia-ml.so.1";

    /// NVIDIA's management library, loaded at the first question. A machine without it has no such GPU.
    #[derive(Debug, Default)]
    pub struct NvidiaGpus {
        library: OnceLock<Option<Nvml>>,
    }

    impl GpuSource for NvidiaGpus {
        fn gpus(&self) -> Option<Vec<Gpu>> {
            let library = self.library.get_or_init(|| Nvml::builder().lib_path(OsStr::new(LIBRARY)).init().ok());
            // A driver that is being updated answers nothing for a while; its device files are still there.
            read(library.as_ref()?).ok()
        }
    }

    fn read(library: &Nvml) -> Result<Vec<Gpu>, NvmlError> {
        let devices = 0..library.device_count()?;
        let read_one = |index| {
            let device = library.device_by_index(index)?;
            let memory = device.memory_info()?;
            Ok(Gpu { name: device.name()?, free: memory.free, total: memory.total })
        };
        devices.map(read_one).collect()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        /// On a machine with such a GPU it has a name; everywhere else nothing goes wrong.
        #[test]
        fn a_machine_without_the_library_has_no_such_gpu() {
            let gpus = NvidiaGpus::default();
            let first = gpus.gpus();
            assert_eq!(first.is_some(), gpus.gpus().is_some());
            assert!(first.into_iter().flatten().all(|gpu| !gpu.name.is_empty()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Two;

    impl GpuSource for Two {
        fn gpus(&self) -> Option<Vec<Gpu>> {
            Some(vec![
                Gpu { name: "a".into(), free: 3, total: 4 },
                Gpu { name: "b".into(), free: u64::MAX, total: u64::MAX },
            ])
        }
    }

    #[test]
    fn a_driver_that_nothing_measures_is_no_absence() {
        let root = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(detect(root.path(), &NoGpus), Gpus::Absent);
        std::fs::create_dir_all(root.path().join("dev/kfd")).expect("writable");
        let unmeasured = detect(root.path(), &NoGpus);
        assert_eq!((unmeasured.take_layers(), unmeasured.free()), (true, None));
        assert_eq!(detect(root.path(), &Two).free(), Some(u64::MAX));
    }
}
