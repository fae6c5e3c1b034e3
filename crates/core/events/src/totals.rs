//! The counts of a server over all its launches, in the form in which one daemon hands them to the next.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ExitOutcome, FailureReason, ReadyVia, Signal};

/// What was counted of a server. A daemon of another version ignores what it does not know, and begins anew with what is missing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ServerTotals {
    /// Launches that began, and processes that were taken over.
    pub launches: u64,
    /// Launches that became ready, by proof.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub became_ready: BTreeMap<ReadyVia, u64>,
    /// Processes that ended, by outcome.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exits: BTreeMap<ExitOutcome, u64>,
    /// Failed launches, by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub failures: BTreeMap<FailureReason, u64>,
    /// Processes that the restart policy has started, by the reason of the failure before.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub restarts: BTreeMap<FailureReason, u64>,
    /// Times that the restart policy gave up, by the reason of the last failure.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub restarts_abandoned: BTreeMap<FailureReason, u64>,
    /// Signals of stop ladders, by signal.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub signals: BTreeMap<Signal, u64>,
    /// Times from spawn to ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_seconds: Option<HistogramTotals>,
    /// Times from the request to stop to the reaped process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_seconds: Option<HistogramTotals>,
}

/// The observations of a histogram.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HistogramTotals {
    /// The upper bounds, ascending. One that counts within other bounds begins anew.
    pub bounds: Vec<f64>,
    /// The observations up to each bound and above the one before, and last those above every bound.
    pub counts: Vec<u64>,
    /// The sum of all values.
    pub sum: f64,
}
