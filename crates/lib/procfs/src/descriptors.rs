//! The file descriptors of this process.

use std::fs;

/// How many descriptors this process has open; `None` if `/proc` cannot be read.
pub fn open_descriptors() -> Option<usize> {
    // The descriptor of the directory that is being read is among the entries.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}

/// How many descriptors this process may have open (the soft limit); `None` if there is no limit.
pub fn descriptor_limit() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_counted_up_to_the_limit() {
        let before = open_descriptors().expect("readable");
        let held: Vec<_> = (0..50).map(|_| fs::File::open("/proc/self/stat").expect("opens")).collect();
        let after = open_descriptors().expect("readable");
        // Other tests of this process open files too, but not that many.
        assert!(after >= before + held.len() / 2, "{before} then {after}");
        assert!(descriptor_limit().expect("readable") >= after as u64);
    }
}
