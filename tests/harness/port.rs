//! Leases of TCP ports, so that tests that run at the same time, in this process or another, get different ones.

use std::ops::RangeInclusive;

use llama_warden_test_parts::ports::{PortLease, is_free};

/// Below the kernel's range for outgoing connections (32768 and up), which could take a port between lease and use.
const RANGE: RangeInclusive<u16> = 20_000..=31_999;

/// Where the leases of all tests are.
const FOLDER: &str = "llama-warden-test-ports";

/// A port of 127.0.0.1 that was free when it was leased, and that no other test leases before this value is dropped.
#[derive(Debug)]
pub struct Port(PortLease);

impl Port {
    /// Leases a free port.
    ///
    /// # Panics
    /// If none is found in 10 000 attempts.
    pub fn lease() -> Self {
        for _ in 0..10_000 {
            let lease = PortLease::take(FOLDER, fastrand::u16(RANGE)).expect("the temporary directory can be written");
            if let Some(lease) = lease.filter(|lease| is_free(lease.first())) {
                return Self(lease);
            }
        }
        panic!("no port of {RANGE:?} is free");
    }

    /// The port number.
    pub const fn number(&self) -> u16 {
        self.0.first()
    }
}
