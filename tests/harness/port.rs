//! Leases of TCP ports, so that tests that run at the same time, in this process or another, get different ones.

use std::fs::File;
use std::net::TcpListener;
use std::ops::RangeInclusive;

/// Below the kernel's range for outgoing connections (32768 and up), which could take a port between lease and use.
const RANGE: RangeInclusive<u16> = 20_000..=31_999;

/// A port of 127.0.0.1 that was free when it was leased, and that no other test leases before this value is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// A locked file. The kernel releases the lock when the test process ends, however it ends.
    _lease: File,
}

impl Port {
    /// Leases a free port.
    ///
    /// # Panics
    /// If none is found in 10 000 attempts.
    pub fn lease() -> Self {
        let folder = std::env::temp_dir().join("llama-warden-test-ports");
        std::fs::create_dir_all(&folder).expect("the temporary directory can be written");
        for _ in 0..10_000 {
            let number = fastrand::u16(RANGE);
            let lease = File::create(folder.join(number.to_string())).expect("the folder of leases can be written");
            let leased = lease.try_lock().is_ok();
            if leased && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Self { number, _lease: lease };
            }
        }
        panic!("no port of {RANGE:?} is free");
    }

    /// The port number.
    pub const fn number(&self) -> u16 {
        self.number
    }
}
