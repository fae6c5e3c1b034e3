//! What is known of each server's launch, which commands an event calls for, and which are no longer wanted. Pure.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use llama_warden_config::{Fleet, ServerSpec};
use llama_warden_events::{
    Envelope, Event, FailureReason, HookCommand, HookPoint, Incarnation, ProcessEnd, ReadyVia, RefusalReason, Refused,
    Seq, ServerId, StopReason,
};
use llama_warden_state::{Phase, ServerRecord, Snapshot};

use crate::call::HookCall;

/// The latest launch of every server.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    launches: BTreeMap<ServerId, Launch>,
}

#[derive(Debug, Clone)]
struct Launch {
    incarnation: Incarnation,
    /// What it was launched by, for a server that leaves the configuration while it runs.
    spec: Option<Arc<ServerSpec>>,
    process: Option<Process>,
    was_ready: bool,
    stop: Option<StopReason>,
    failure: Option<FailureReason>,
    is_over: bool,
}

#[derive(Debug, Clone, Copy)]
struct Process {
    pid: u32,
    port: u16,
}

impl Watch {
    /// What runs already was told of before.
    pub(crate) fn begin(snapshot: &Snapshot, fleet: &Fleet) -> Self {
        let launches = snapshot.servers.iter().map(|(server, record)| {
            let spec = fleet.get(server.as_str()).cloned();
            (server.clone(), Launch::of(record, spec))
        });
        Self { launches: launches.collect() }
    }

    pub(crate) fn hear(&mut self, envelope: &Envelope, fleet: &Fleet) -> Option<HookCall> {
        let server = envelope.server.as_ref()?;
        if let Event::ServerRemoved = envelope.event {
            self.launches.remove(server);
            return None;
        }
        let incarnation = envelope.incarnation?;
        let spec = fleet.get(server.as_str());
        if let Event::LaunchBegan { .. } = envelope.event {
            self.launches.insert(server.clone(), Launch::new(incarnation, spec.cloned()));
            return None;
        }
        let launch = self.launches.get_mut(server).filter(|launch| launch.incarnation == incarnation)?;
        match &envelope.event {
            Event::ServerSpawned { pid, port, .. } => launch.process = Some(Process { pid: *pid, port: *port }),
            Event::StopBegan { reason, .. } => launch.stop = Some(*reason),
            Event::ServerFailed { reason, .. } => {
                launch.failure = Some(*reason);
                // Without a process it is the last event of the launch.
                launch.is_over = launch.process.is_none();
            }
            Event::ReadyReached { via, .. } => {
                launch.was_ready = true;
                return launch.post_ready(spec, *via, Some(envelope.seq));
            }
            Event::ServerExited { end, .. } => {
                launch.is_over = true;
                return launch.post_exit(spec, *end, Some(envelope.seq));
            }
            _ => {}
        }
        None
    }

    /// What the events that were not heard call for.
    pub(crate) fn catch_up(&mut self, snapshot: &Snapshot, fleet: &Fleet) -> Vec<HookCall> {
        let mut calls = Vec::new();
        let known = std::mem::replace(self, Self::begin(snapshot, fleet));
        for (server, launch) in &mut self.launches {
            let before = known.launches.get(server).filter(|before| before.incarnation == launch.incarnation);
            launch.spec = launch.spec.take().or_else(|| before.and_then(|before| before.spec.clone()));
        }
        for (server, launch) in &known.launches {
            let record = snapshot.servers.get(server).filter(|record| record.incarnation == launch.incarnation);
            if launch.is_over || record.is_some_and(|record| record.is_running()) {
                continue;
            }
            let stop = launch.stop.or(record.and_then(|record| record.stop).map(|stop| stop.reason));
            let failure = record.and_then(|record| record.failure.as_ref()).map(|failure| failure.reason);
            let ended = Launch { stop, failure: launch.failure.or(failure), ..launch.clone() };
            let end = record.and_then(|record| record.last_end).unwrap_or(ProcessEnd::Unknown);
            calls.extend(ended.post_exit(fleet.get(server.as_str()), end, None));
        }
        for (server, launch) in self.launches.iter().filter(|(_, launch)| !launch.is_over) {
            let was_told = known
                .launches
                .get(server)
                .is_some_and(|known| known.incarnation == launch.incarnation && known.was_ready);
            let ready = snapshot.servers.get(server).and_then(|record| record.ready);
            if let (Some(ready), false) = (ready, was_told) {
                calls.extend(launch.post_ready(fleet.get(server.as_str()), ready.via, None));
            }
        }
        calls
    }

    /// The command that somebody asks for; `None` where the server has none (any more).
    ///
    /// # Errors
    /// Where the server is not known.
    pub(crate) fn asked(&self, command: &HookCommand, fleet: &Fleet) -> Result<Option<HookCall>, Refused> {
        let (server, incarnation) = match command {
            HookCommand::RunPreStart { server, incarnation } | HookCommand::RunPreStop { server, incarnation, .. } => {
                (server, *incarnation)
            }
        };
        let launch = self.launches.get(server).filter(|launch| launch.incarnation == incarnation);
        let spec = fleet.get(server.as_str()).or_else(|| launch.and_then(|launch| launch.spec.as_ref()));
        let Some(spec) = spec else {
            return Err(Refused::new(RefusalReason::UnknownServer, format!("no server `{server}` is configured")));
        };
        let call = match command {
            HookCommand::RunPreStart { .. } => HookCall::of(spec, incarnation, HookPoint::PreStart),
            HookCommand::RunPreStop { reason, limit, .. } => HookCall::of(spec, incarnation, HookPoint::PreStop)
                .map(|call| HookCall { limit: call.limit.min(*limit), ..call }.telling("REASON", reason.as_str())),
        };
        Ok(call.map(|call| call.of_process(launch.and_then(|launch| launch.process))))
    }

    /// Whether what a command was asked for is over.
    pub(crate) fn is_moot(&self, call: &HookCall) -> bool {
        let Some(launch) = self.launches.get(&call.server).filter(|_| call.is_awaited()) else { return false };
        match call.incarnation.cmp(&launch.incarnation) {
            Ordering::Less => true,
            Ordering::Equal if call.hook == HookPoint::PreStart => launch.is_over || launch.stop.is_some(),
            Ordering::Equal => launch.is_over,
            // The event that began it is on the way.
            Ordering::Greater => false,
        }
    }
}

impl Launch {
    const fn new(incarnation: Incarnation, spec: Option<Arc<ServerSpec>>) -> Self {
        Self { incarnation, spec, process: None, was_ready: false, stop: None, failure: None, is_over: false }
    }

    fn of(record: &ServerRecord, spec: Option<Arc<ServerSpec>>) -> Self {
        let is_under_way = record.is_running() || matches!(record.phase, Phase::Launching | Phase::Stopping { .. });
        Self {
            process: record.process.as_ref().map(|process| Process { pid: process.pid, port: process.port }),
            was_ready: record.ready.is_some(),
            stop: record.stop.map(|stop| stop.reason),
            failure: record.failure.as_ref().map(|failure| failure.reason),
            is_over: !is_under_way,
            ..Self::new(record.incarnation, spec)
        }
    }

    fn post_ready(&self, spec: Option<&Arc<ServerSpec>>, via: ReadyVia, cause: Option<Seq>) -> Option<HookCall> {
        let call = self.call(spec, HookPoint::PostReady)?;
        Some(call.telling("READY_VIA", via.as_str()).because(cause))
    }

    /// The reason is that of the failure where there is one, else of the stop; an end that nobody asked for is `exited`.
    fn post_exit(&self, spec: Option<&Arc<ServerSpec>>, end: ProcessEnd, cause: Option<Seq>) -> Option<HookCall> {
        let call = self.call(spec, HookPoint::PostExit)?;
        let failure = self.failure.map(FailureReason::as_str);
        let reason = failure.or(self.stop.map(StopReason::as_str)).unwrap_or("exited");
        Some(call.telling("REASON", reason).telling_end(end).because(cause))
    }

    /// A command that follows a process; where there was none there is nothing to follow.
    fn call(&self, spec: Option<&Arc<ServerSpec>>, hook: HookPoint) -> Option<HookCall> {
        let process = self.process?;
        let call = HookCall::of(spec.or(self.spec.as_ref())?, self.incarnation, hook)?;
        Some(call.of_process(Some(process)))
    }
}

impl HookCall {
    fn of_process(self, process: Option<Process>) -> Self {
        match process {
            Some(Process { pid, port }) => self.telling("PID", pid.to_string()).telling("PORT", port.to_string()),
            None => self,
        }
    }
}
