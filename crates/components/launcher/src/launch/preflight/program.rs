//! Checks that this machine can run an executable: that it exists, and that its format and its interpreter do.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use llama_warden_events::FailureReason;
use llama_warden_support::without_arguments;

use super::{kind_of, read_up_to};
use crate::launch::failure::LaunchFailure;

/// How much of a file is read: enough for its interpreter.
const HEADER_SIZE: usize = 4096;
/// The segment of an ELF file that names its loader.
const PT_INTERP: usize = 3;

/// What runs an executable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramKind {
    /// The kernel.
    Binary,
    /// An interpreter that its first line names.
    Script,
}

/// Checks that the kernel would execute the file. Without this check std would pass a file of an unknown format to a shell.
///
/// # Errors
/// `BinaryNotFound` if it does not exist or is not executable, `BinaryBroken` if this machine cannot run it.
pub fn check_program(path: &Path) -> Result<ProgramKind, LaunchFailure> {
    let shown = path.display();
    let failure = |detail: String| LaunchFailure::new(FailureReason::BinaryNotFound, detail);
    let metadata = path.metadata().map_err(|error| {
        let step = without_arguments(path).unwrap_or_else(|| "set `binary` to a llama-server".to_owned());
        failure(format!("cannot find the executable {shown}: {error}; {step}"))
    })?;
    if !metadata.is_file() {
        return Err(failure(format!("{shown} is {}; set `binary` to the executable itself", kind_of(&metadata))));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(failure(format!("{shown} is not executable; try `chmod +x`")));
    }
    let broken = |what: String| Err(LaunchFailure::new(FailureReason::BinaryBroken, format!("{shown} {what}")));
    let mut header = [0; HEADER_SIZE];
    // A file that we may execute but not read is left to the kernel.
    let Ok(count) = File::open(path).and_then(|mut file| read_up_to(&mut file, &mut header)) else {
        return Ok(ProgramKind::Binary);
    };
    let header = &header[..count];
    if !is_runnable(header) && !has_foreign_formats() {
        return broken(format!("is no executable for this machine ({})", std::env::consts::ARCH));
    }
    match interpreter(header) {
        Some(name) if is_absent(&name) && name.ends_with(b"\r") => broken(
            "has the line ends of Windows, so that its interpreter is not found; convert it with `sed -i 's/\\r$//'`"
                .to_owned(),
        ),
        Some(name) if is_absent(&name) => {
            let name = String::from_utf8_lossy(&name);
            broken(format!(
                "needs {name} to run, which does not exist here: install it, or use a build for this system"
            ))
        }
        _ if header.starts_with(b"#!") => Ok(ProgramKind::Script),
        _ => Ok(ProgramKind::Binary),
    }
}

fn is_absent(path: &[u8]) -> bool {
    Path::new(OsStr::from_bytes(path)).metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

/// The program that the kernel runs for a file with this header: that of `#!`, or the loader that an ELF file names.
fn interpreter(header: &[u8]) -> Option<Vec<u8>> {
    if let Some(line) = header.strip_prefix(b"#!") {
        let line = &line[..line.iter().position(|byte| *byte == b'\n')?];
        let words = line.trim_ascii_start();
        let end = words.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(words.len());
        return Some(words[..end].to_vec());
    }
    // ELF of 64 bits in our byte order; the loader's path is the segment PT_INTERP, in the first page of every usual file.
    let number = |at: usize, size: usize| -> Option<usize> {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(header.get(at..at + size)?);
        usize::try_from(u64::from_le_bytes(bytes)).ok()
    };
    if !header.starts_with(b"\x7fELF\x02\x01") || cfg!(target_endian = "big") {
        return None;
    }
    let (table, entry, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let segments = (0..count).map_while(|index| table.checked_add(index.checked_mul(entry)?));
    let segment = segments.map_while(|at| Some((at, number(at, 4)?))).find(|(_, kind)| *kind == PT_INTERP)?.0;
    let (offset, size) = (number(segment + 8, 8)?, number(segment + 32, 8)?);
    let name = header.get(offset..offset.checked_add(size)?)?;
    Some(name.strip_suffix(b"\0").unwrap_or(name).to_vec())
}

/// Whether a file with this header is a program for this machine: ELF, or a script that names its interpreter.
fn is_runnable(header: &[u8]) -> bool {
    let machine = header.get(18..20).map(|bytes| u16::from_ne_bytes([bytes[0], bytes[1]]));
    let machines: &[u16] = match std::env::consts::ARCH {
        // EM_X86_64, and EM_386, which 64-bit kernels execute too.
        "x86_64" => &[62, 3],
        // EM_AARCH64 and EM_ARM.
        "aarch64" => &[183, 40],
        _ => return true,
    };
    let is_ours = header.starts_with(b"\x7fELF") && machine.is_some_and(|machine| machines.contains(&machine));
    is_ours || header.starts_with(b"#!")
}

/// Whether binfmt_misc is set up for further formats. Its folder always has `register` and `status`.
fn has_foreign_formats() -> bool {
    fs::read_dir("/proc/sys/fs/binfmt_misc").is_ok_and(|formats| formats.count() > 2)
}
