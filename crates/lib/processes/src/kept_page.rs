//! Memory that a shim holds open: what its daemon writes there outlives that daemon, however it ends, and the next one reads it.
//!
//! A write needs no shim, waits for no disk, and is whole when the call has returned.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};

/// The kernel's flag for memory that no program can be run from. Kernels before 6.3 do not know it, and some refuse memory without it.
const NOEXEC: MFdFlags = MFdFlags::from_bits_retain(8);

/// Most bytes that are read of a page.
const LIMIT: usize = 64 * 1024;

/// A file without a name, in memory.
#[derive(Debug)]
pub struct KeptPage(File);

impl KeptPage {
    /// An empty one; `None` where the kernel has no such files.
    pub(crate) fn create() -> Option<Self> {
        let create = |flags| memfd_create(c"page", MFdFlags::MFD_CLOEXEC | flags);
        let created = create(NOEXEC).or_else(|errno| match errno {
            Errno::EINVAL => create(MFdFlags::empty()),
            errno => Err(errno),
        });
        created.ok().map(Self::from)
    }

    /// Writes `bytes` at `offset`.
    ///
    /// # Errors
    /// The machine has no memory left.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    /// Everything that was written.
    ///
    /// # Errors
    /// It is no file, or no memory.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; LIMIT];
        let mut length = 0;
        while length < LIMIT {
            match self.0.read_at(&mut bytes[length..], length as u64)? {
                0 => break,
                read => length += read,
            }
        }
        bytes.truncate(length);
        Ok(bytes)
    }
}

impl From<OwnedFd> for KeptPage {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor.into())
    }
}

impl AsFd for KeptPage {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_through_another_descriptor() {
        let page = KeptPage::create().expect("this kernel has such files");
        page.write(4, b"more").expect("memory");
        page.write(0, b"some").expect("memory");
        let other = KeptPage::from(page.as_fd().try_clone_to_owned().expect("a descriptor"));
        drop(page);
        assert_eq!(other.read().expect("memory"), b"somemore");
    }
}
