//! Ports that no other test gets, in this process or another one.

use std::fs::File;
use std::net::TcpListener;
use std::ops::RangeInclusive;

/// Below the ports that the kernel gives to clients, which could take a port between our look and its use.
const RANGE: RangeInclusive<u16> = 20_000..=31_999;

/// A port on the loopback address that is free now and is leased to nobody else while this lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Locked. The kernel frees it when the test process ends, however it does.
    _lease: File,
}

impl Port {
    /// Leases one.
    ///
    /// # Panics
    /// When there is none.
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

    /// Its number.
    pub const fn number(&self) -> u16 {
        self.number
    }
}
