//! Tells file systems that only this machine changes from those of networks and of other programs.

use std::path::Path;

use nix::sys::statfs::{self, FsType, statfs};

/// File systems whose every change goes through this kernel, which gives a notice of it. By their magic numbers (statfs(2)).
const LOCAL: [FsType; 10] = [
    statfs::BTRFS_SUPER_MAGIC,
    // ext2 and ext3 have the same.
    statfs::EXT4_SUPER_MAGIC,
    statfs::OVERLAYFS_SUPER_MAGIC,
    statfs::TMPFS_MAGIC,
    statfs::XFS_SUPER_MAGIC,
    // bcachefs, F2FS, RAM without swap, SquashFS, ZFS.
    FsType(0xca45_1a4e),
    FsType(0xf2f5_2010),
    FsType(0x8584_58f6),
    FsType(0x7371_7368),
    FsType(0x2fc1_2fc1),
];

/// Whether the file system of `path` is one that only this machine changes. `false` for one that is not known.
pub fn is_local(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| LOCAL.contains(&found.filesystem_type()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_of_the_kernel_itself_is_not_taken_for_a_disk() {
        assert!(!is_local(Path::new("/proc")));
        assert!(!is_local(Path::new("/nowhere/to/be/found")));
        assert!(is_local(Path::new("/dev/shm")), "a tmpfs");
    }
}
