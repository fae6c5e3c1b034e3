//! What is known of each server's launch, and which commands a fact calls for. Pure.

use std::collections::BTreeMap;

use llama_warden_config::{Fleet, ServerSpec};
use llama_warden_events::{
    Envelope, Event, FailureReason, HookPoint, Incarnation, ProcessEnd, ReadyVia, Seq, ServerId, StopReason,
};
use llama_warden_state::{ServerRecord, Snapshot};

use crate::call::HookCall;

/// The launches of which something is still to be told.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    launches: BTreeMap<ServerId, Launch>,
}

#[derive(Debug, Clone, Default)]
struct Launch {
    incarnation: Incarnation,
    pid: u32,
    port: u16,
    was_ready: bool,
    stop: Option<StopReason>,
    failure: Option<FailureReason>,
}

impl Watch {
    /// What runs already was told of before.
    pub(crate) fn begin(snapshot: &Snapshot) -> Self {
        let launches = snapshot.servers.iter().filter_map(|(server, record)| {
            let launch = Launch::of(record)?;
            Some((server.clone(), launch))
        });
        Self { launches: launches.collect() }
    }

    pub(crate) fn hear(&mut self, envelope: &Envelope, fleet: &Fleet) -> Option<HookCall> {
        let (server, incarnation) = (envelope.server.as_ref()?, envelope.incarnation?);
        if let Event::ServerSpawned { pid, port, .. } = envelope.event {
            self.launches.insert(server.clone(), Launch { incarnation, pid, port, ..Launch::default() });
            return None;
        }
        let launch = self.launches.get_mut(server).filter(|launch| launch.incarnation == incarnation)?;
        let spec = fleet.get(server.as_str());
        match &envelope.event {
            Event::StopBegan { reason, .. } => launch.stop = Some(*reason),
            Event::ServerFailed { reason, .. } => launch.failure = Some(*reason),
            Event::ReadyReached { via, .. } => {
                launch.was_ready = true;
                return launch.post_ready(spec?, *via, Some(envelope.seq));
            }
            Event::ServerExited { end, .. } => {
                let launch = self.launches.remove(server)?;
                return launch.post_exit(spec?, *end, Some(envelope.seq));
            }
            _ => {}
        }
        None
    }

    /// What the facts that were not heard call for.
    pub(crate) fn catch_up(&mut self, snapshot: &Snapshot, fleet: &Fleet) -> Vec<HookCall> {
        let mut calls = Vec::new();
        for (server, known) in std::mem::take(&mut self.launches) {
            let record = snapshot.servers.get(&server).filter(|record| record.incarnation == known.incarnation);
            if record.is_some_and(|record| record.is_running()) {
                self.launches.insert(server, known);
                continue;
            }
            let known = Launch {
                stop: known.stop.or(record.and_then(|record| record.stop).map(|stop| stop.reason)),
                failure: known
                    .failure
                    .or(record.and_then(|record| record.failure.as_ref()).map(|failure| failure.reason)),
                ..known
            };
            let end = record.and_then(|record| record.last_end).unwrap_or(ProcessEnd::Unknown);
            calls.extend(fleet.get(server.as_str()).and_then(|spec| known.post_exit(spec, end, None)));
        }
        for (server, record) in &snapshot.servers {
            let Some(now) = Launch::of(record) else { continue };
            let was_ready = self.launches.get(server).is_some_and(|known| known.was_ready);
            if let (Some(ready), false, Some(spec)) = (record.ready, was_ready, fleet.get(server.as_str())) {
                calls.extend(now.post_ready(spec, ready.via, None));
            }
            self.launches.insert(server.clone(), now);
        }
        calls
    }
}

impl Launch {
    fn of(record: &ServerRecord) -> Option<Self> {
        let process = record.process.as_ref()?;
        Some(Self {
            incarnation: record.incarnation,
            pid: process.pid,
            port: process.port,
            was_ready: record.ready.is_some(),
            stop: record.stop.map(|stop| stop.reason),
            failure: record.failure.as_ref().map(|failure| failure.reason),
        })
    }

    fn post_ready(&self, spec: &ServerSpec, via: ReadyVia, cause: Option<Seq>) -> Option<HookCall> {
        let call = self.call(spec, HookPoint::PostReady, spec.hooks.post_ready.as_ref()?);
        Some(call.telling("READY_VIA", via.as_str()).because(cause))
    }

    /// The reason is that of the failure where there is one, else of the stop; an end that nobody asked for is `exited`.
    fn post_exit(&self, spec: &ServerSpec, end: ProcessEnd, cause: Option<Seq>) -> Option<HookCall> {
        let call = self.call(spec, HookPoint::PostExit, spec.hooks.post_exit.as_ref()?);
        let failure = self.failure.map(FailureReason::as_str);
        let reason = failure.or(self.stop.map(StopReason::as_str)).unwrap_or("exited");
        Some(call.telling("REASON", reason).telling_end(end).because(cause))
    }

    fn call(&self, spec: &ServerSpec, hook: HookPoint, argv: &[String]) -> HookCall {
        HookCall::new(spec.id.clone(), self.incarnation, hook, argv.to_vec())
            .telling("PID", self.pid.to_string())
            .telling("HOST", spec.host.clone())
            .telling("PORT", self.port.to_string())
            .telling("MODEL", spec.model.display().to_string())
    }
}
