//! Measures the memory of the guardian and of the shims, which are forked from it.
//!
//! A shim counts the pages that no other process has. Those of the guardian are shared with its shims as long as neither changes them,
//! so that all its anonymous pages count.

use llama_warden_test_parts::error::Error;

use crate::Effort;
use crate::figure::Figure;
use crate::idle::{self, OutputVolume};
use crate::procfs::{self, ProcessMemory};
use crate::programs::{self, Programs};
use crate::targets::{GUARDIAN_MEMORY, SHIM_MEMORY, SPARE_MEMORY};

const SERVERS: usize = 3;

/// Measures beside idle daemons with three servers.
///
/// # Errors
/// When a daemon does not run.
pub fn measure(programs: &Programs, effort: Effort) -> Result<Vec<Figure>, Error> {
    let (mut guardians, mut shims, mut spares) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.pick(3, 1) {
        let home = programs::empty_folder()?;
        let daemon = idle::settled(programs, home.path(), SERVERS, OutputVolume::Usual)?;
        for guardian in procfs::children(daemon.pid()).into_keys() {
            guardians.push(procfs::memory(guardian)?);
            for shim in procfs::children(guardian).into_keys() {
                // The one without a program waits for the next.
                let alike = if procfs::children(shim).is_empty() { &mut spares } else { &mut shims };
                alike.push(procfs::memory(shim)?);
            }
        }
        daemon.stop()?;
    }
    let resident = |memory: &ProcessMemory| memory.resident as f64;
    let private = |memory: &ProcessMemory| memory.private as f64;
    Ok(vec![
        GUARDIAN_MEMORY.figure(guardians.iter().map(|memory| memory.anonymous as f64), guardians.iter().map(resident)),
        SHIM_MEMORY.figure(shims.iter().map(private), shims.iter().map(resident)),
        SPARE_MEMORY.figure(spares.iter().map(private), shims.iter().map(private)),
    ])
}
