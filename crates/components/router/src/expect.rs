//! When a request is worth another try: how long the load of its server and the requests before it are expected to take.

use std::time::Duration;

use llama_warden_events::{ServerId, Uptime};
use llama_warden_state::{Phase, ServerRecord};

use crate::shared::Shared;

impl Shared {
    /// How long a request that comes now is expected to wait for a server; `None` where nothing is known about that.
    pub(crate) fn expected_wait(&self, server: &ServerId) -> Option<Duration> {
        let (load, turn) = self.paces(server);
        let until_ready = self.bus.snapshot().servers.get(server).map(|record| until_ready(record, load, self.now()));
        match (until_ready.unwrap_or(load), turn) {
            (None, turn) => turn,
            (Some(until_ready), turn) => Some(until_ready + turn.unwrap_or_default()),
        }
    }
}

/// How long until a server is ready. `load` is how long a launch of it takes.
fn until_ready(record: &ServerRecord, load: Option<Duration>, now: Uptime) -> Option<Duration> {
    let elapsed = record.process.as_ref().map(|process| now.since(process.spawned)).unwrap_or_default();
    match record.phase {
        Phase::Ready { .. } | Phase::Unready { .. } => Some(Duration::ZERO),
        Phase::Loading { progress: Some(done) } if load.is_none() && done > 0.0 => {
            Some(elapsed.mul_f64((1.0 / done - 1.0).clamp(0.0, 1000.0)))
        }
        Phase::Launching | Phase::Starting | Phase::Loading { .. } => load.map(|load| load.saturating_sub(elapsed)),
        Phase::BackingOff { until, .. } => Some(until.since(now) + load.unwrap_or_default()),
        Phase::Idle | Phase::Stopping { .. } | Phase::Exited { .. } | Phase::Failed { .. } => load,
    }
}

#[cfg(test)]
mod tests {
    use llama_warden_events::{ReadyVia, Timestamp};
    use llama_warden_state::ProcessRecord;

    use super::*;

    fn at(seconds: u64) -> Uptime {
        Uptime::new(Duration::from_secs(seconds))
    }

    #[test]
    fn a_load_is_expected_to_take_what_is_left_of_an_earlier_one_and_else_what_its_progress_says() {
        let seconds = Duration::from_secs;
        let load = Some(seconds(30));
        let backing_off = Phase::BackingOff { attempt: 1, max_attempts: None, until: at(107) };
        for (phase, load, expected) in [
            (Phase::Ready { via: ReadyVia::Health }, load, Some(seconds(0))),
            (Phase::Starting, load, Some(seconds(20))),
            (Phase::Starting, Some(seconds(5)), Some(seconds(0))),
            (Phase::Starting, None, None),
            (Phase::Loading { progress: Some(0.25) }, None, Some(seconds(30))),
            (Phase::Loading { progress: Some(0.25) }, load, Some(seconds(20))),
            (Phase::Loading { progress: None }, None, None),
            (backing_off, load, Some(seconds(37))),
            (backing_off, None, Some(seconds(7))),
            (Phase::Idle, load, load),
        ] {
            let process = ProcessRecord {
                pid: 1,
                start_ticks: 1,
                port: 1,
                spawned_at: Timestamp::from_unix_microseconds(0),
                spawned: at(90),
                age: Duration::ZERO,
            };
            let record = ServerRecord { phase, process: Some(process), ..ServerRecord::default() };
            assert_eq!(until_ready(&record, load, at(100)), expected, "{phase:?} {load:?}");
        }
    }
}
