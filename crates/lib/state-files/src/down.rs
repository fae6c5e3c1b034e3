//! The file that keeps which servers are down although they are configured to run, for a daemon that goes on in the place of this one.
//!
//! A daemon that ends in order leaves none: the next one starts every enabled server.

use std::collections::BTreeMap;
use std::time::Duration;

use llama_warden_events::{LeftFailure, ServerId};
use serde::{Deserialize, Serialize};

use crate::failures::MAX_AGE;
use crate::kept_file::{KeptFile, KeptState};

/// `down.json` in the state directory.
pub type DownFile = KeptFile<DownServers>;

/// The servers that a person has stopped, or that failed and are not restarted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DownServers {
    /// Why each of them is down.
    pub servers: BTreeMap<ServerId, DownServer>,
    /// Whether the daemon has handed over. Written at that moment, it also dates what may be old.
    pub is_handed_over: bool,
}

/// Why a server is down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "kebab-case")]
pub enum DownServer {
    /// A person has stopped it.
    Stopped,
    /// It failed, and no restart follows.
    Failed {
        /// Stands for its configuration. With another one, it may start.
        configured: String,
        /// The failure.
        failure: LeftFailure,
    },
}

impl KeptState for DownServers {
    const FILE: &str = "down.json";
    const LOSS: &str = "the next daemon may start servers that were stopped or given up";

    /// As for the counts of failures, a failure of the day before is no reason not to try.
    fn after(mut self, age: Duration) -> Self {
        self.servers.retain(|_, down| age <= MAX_AGE || *down == DownServer::Stopped);
        self
    }
}
