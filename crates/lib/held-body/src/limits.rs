//! The limits of bodies, and how a body that keeps to none of them is refused.

use std::sync::Arc;

use llama_warden_traffic::RouterTraffic;

use crate::refused::{BodyRefusal, BodyRefused};
use crate::room::BodyMemory;

/// The limits of bodies.
#[derive(Debug, Clone)]
pub struct BodyLimits {
    pub(crate) most: u64,
    pub(crate) memory: Arc<BodyMemory>,
}

impl BodyLimits {
    /// Each body may have so many bytes, and all of them together take so much memory.
    pub fn new(most: u64, memory: u64, traffic: Arc<RouterTraffic>) -> Self {
        Self { most, memory: BodyMemory::new(memory, most, traffic) }
    }

    pub(crate) fn exceeded(&self) -> BodyRefused {
        BodyRefused::new(BodyRefusal::TooLong, format!("the body is longer than {} bytes", self.most))
    }
}
