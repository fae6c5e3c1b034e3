//! Ports for servers that are measured. Benchmarks that run at the same time, in this process or another, get different ones.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use llama_warden_test_parts::error::Error;
use llama_warden_test_parts::ports::{PortLease, is_free};

/// Below the kernel's range for outgoing connections (32768 and up), which could take a port between its choice and its use, and below
/// the ports of the system tests.
const RANGE: Range<u16> = 10_000..20_000;

/// Where the leases of all benchmarks are.
const FOLDER: &str = "llama-warden-bench-ports";

/// Ports that are leased together.
const BLOCK: u16 = 100;

/// The blocks that this process has, and how many of their ports it has looked at.
#[derive(Debug)]
struct PortBlocks {
    leased: Vec<PortLease>,
    looked_at: u16,
}

static BLOCKS: Mutex<PortBlocks> = Mutex::new(PortBlocks { leased: Vec::new(), looked_at: 0 });

/// Returns `count` ports that are free now and that no other benchmark has. None comes twice before this process has had every one
/// that there is.
///
/// # Errors
/// When there are not enough free ports, or the leases cannot be written.
pub fn free_ports(count: usize) -> Result<Vec<u16>, Error> {
    let mut blocks = BLOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut ports = Vec::with_capacity(count);
    for _ in RANGE {
        if ports.len() == count {
            break;
        }
        ports.extend(blocks.next()?.filter(|port| is_free(*port)));
    }
    if ports.len() == count {
        return Ok(ports);
    }
    let next = "see with `ss -tln` who listens on so many, or wait for the other benchmark";
    Err(Error::missing(format!("no {count} free ports from {} to {}", RANGE.start, RANGE.end - 1), next))
}

impl PortBlocks {
    /// The next port, free or not; `None` if every block is another benchmark's.
    fn next(&mut self) -> Result<Option<u16>, Error> {
        if usize::from(self.looked_at / BLOCK) == self.leased.len() && !self.lease()? {
            self.looked_at = 0;
        }
        let Some(block) = self.leased.get(usize::from(self.looked_at / BLOCK)) else { return Ok(None) };
        let port = block.first() + self.looked_at % BLOCK;
        self.looked_at += 1;
        Ok(Some(port))
    }

    /// Leases one more block; `false` if none is left.
    fn lease(&mut self) -> Result<bool, Error> {
        for first in RANGE.step_by(usize::from(BLOCK)) {
            // An own one too is leased to nobody a second time.
            if let Some(lease) = PortLease::take(FOLDER, first)? {
                self.leased.push(lease);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn no_port_is_given_out_twice_or_while_somebody_listens() {
        let mut taken = free_ports(3).unwrap();
        taken.extend(free_ports(250).unwrap());
        let numbers: BTreeSet<u16> = taken.iter().copied().collect();
        assert_eq!(numbers.len(), taken.len(), "{taken:?}");
        let next = taken.last().unwrap() + 1;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, next)).ok();
        let further = free_ports(2).unwrap();
        assert!(listener.is_none() || !further.contains(&next), "{further:?}");
    }

    #[test]
    fn two_processes_have_no_block_in_common() {
        let mut other = PortBlocks { leased: Vec::new(), looked_at: 0 };
        let theirs: Vec<u16> = (0..300).map(|_| other.next().unwrap().unwrap()).collect();
        let ours = free_ports(300).unwrap();
        assert!(ours.iter().all(|port| !theirs.contains(port)));
    }
}
