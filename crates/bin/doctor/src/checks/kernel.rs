//! Checks the features of the kernel that the daemon needs.

use std::path::Path;

use rustix::process::{PidfdFlags, getpid, pidfd_open};

use crate::finding::{Area, Finding};

pub(crate) fn look() -> Vec<Finding> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut findings = Vec::new();
    if let Err(error) = pidfd_open(getpid(), PidfdFlags::empty()) {
        findings.push(Area::Kernel.fault(
            format!("Linux {release} gives no handle of a process ({error})"),
            "use Linux 5.3 or later; in a container, allow the system call `pidfd_open` in its seccomp profile",
        ));
    }
    let own = std::process::id();
    if !Path::new(&format!("/proc/{own}/status")).exists() {
        findings.push(Area::Kernel.fault("/proc cannot be read, and processes are recognised by it", "mount /proc"));
    } else if !Path::new(&format!("/proc/{own}/task/{own}/children")).exists() {
        findings.push(Area::Kernel.warning(
            format!("Linux {release} does not list the children of a process, so that memory behind a wrapper is not counted"),
            "use a kernel with CONFIG_PROC_CHILDREN",
        ));
    }
    if findings.is_empty() {
        findings.push(Area::Kernel.good(format!("Linux {release} has what is needed")));
    }
    findings
}
