//! The alignment of tensor data.

/// The alignment of tensor data in bytes: the default of readers, so that `general.alignment` can be left out.
pub(crate) const ALIGNMENT: u64 = 32;

/// Rounds `bytes` up to a multiple of [`ALIGNMENT`].
pub(crate) fn aligned(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGNMENT)
}
