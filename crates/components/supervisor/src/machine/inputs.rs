//! The inputs of the machine: events, snapshots after a gap, and answers to its actions.

use llama_warden_events::{Envelope, Event, Incarnation, Refused, ServerId, Uptime};
use llama_warden_memory::{MemoryRequirement, Reading};
use llama_warden_state::{ReadyRecord, Snapshot};

use super::SupervisorMachine;
use crate::action::SupervisorAction;

impl SupervisorMachine {
    /// Applies an event. Events that are not about the latest launch of a server change nothing.
    pub fn on_event(&mut self, envelope: &Envelope) -> Vec<SupervisorAction> {
        let mut actions = Vec::new();
        let (Some(server), Some(incarnation)) = (&envelope.server, envelope.incarnation) else { return actions };
        let input = self.backoff_input(envelope.elapsed);
        if let Event::ReadyReached { .. } = envelope.event {
            // The memory that was reserved for it is allocated now, so a new reading is more accurate.
            self.admission.mark_dirty();
        }
        let state = self.servers.get_mut(server).filter(|state| state.incarnation() == incarnation);
        if let Some(state) = state {
            match &envelope.event {
                Event::LaunchBegan { .. } => state.on_launch_began(&mut actions),
                Event::ServerSpawned { pid, .. } => {
                    self.admission.on_spawned(server, *pid);
                    state.on_spawned();
                }
                Event::ReadyReached { via, startup_seconds } => {
                    let ready = ReadyRecord { via: *via, startup_seconds: *startup_seconds };
                    state.on_ready(ready.load_time(), input.now, &mut actions);
                }
                Event::UseBegan => state.on_use(None),
                Event::UseEnded { last_used } => state.on_use(Some(*last_used)),
                Event::ServerReleased { .. } => state.on_released(input.now, &mut actions),
                Event::ServerFailed { reason, detail, .. } => {
                    state.on_failed((*reason, detail.clone()), input, &mut actions);
                }
                Event::StopBegan { .. } => state.on_stop_began(),
                Event::ServerExited { .. } => state.on_exited(input, &mut actions),
                Event::ServerStopped { .. } => state.on_stopped(input, &mut actions),
                _ => {}
            }
        }
        self.reconcile(None, &mut actions);
        actions
    }

    /// Fails a launch that the launcher refused.
    pub fn on_launch_refused(
        &mut self,
        server: &ServerId,
        incarnation: Incarnation,
        refused: &Refused,
        now: Uptime,
    ) -> Vec<SupervisorAction> {
        let mut actions = Vec::new();
        let input = self.backoff_input(now);
        if let Some(state) = self.servers.get_mut(server).filter(|state| state.incarnation() == incarnation) {
            state.on_launch_refused(refused.to_string(), input, &mut actions);
        }
        self.reconcile(None, &mut actions);
        actions
    }

    /// Takes the answer to [`SupervisorAction::WatchFile`]: the file that a launch failed for has changed.
    pub fn on_file_changed(
        &mut self,
        server: &ServerId,
        incarnation: Incarnation,
        now: Uptime,
    ) -> Vec<SupervisorAction> {
        let mut actions = Vec::new();
        self.now = now;
        if let Some(state) = self.servers.get_mut(server).filter(|state| state.incarnation() == incarnation) {
            state.on_file_changed();
        }
        self.reconcile(None, &mut actions);
        actions
    }

    /// The server has another port, because somebody else has the one that its launch failed for.
    pub fn on_moved(&mut self, server: &ServerId, now: Uptime) -> Vec<SupervisorAction> {
        let mut actions = Vec::new();
        self.now = now;
        if let Some(state) = self.servers.get_mut(server) {
            state.on_moved();
        }
        self.reconcile(None, &mut actions);
        actions
    }

    /// Takes the answer to [`SupervisorAction::EstimateMemory`]; `None` where no estimate is possible.
    pub fn on_estimated(
        &mut self,
        server: &ServerId,
        estimate_id: u64,
        requirement: Option<MemoryRequirement>,
        now: Uptime,
    ) -> Vec<SupervisorAction> {
        let mut actions = Vec::new();
        self.now = now;
        self.admission.on_estimated(server, estimate_id, requirement, &mut actions);
        self.reconcile(None, &mut actions);
        actions
    }

    /// Takes the answer to [`SupervisorAction::ReadMemory`].
    pub fn on_memory_read(&mut self, reading: &Reading, now: Uptime) -> Vec<SupervisorAction> {
        let mut actions = Vec::new();
        self.now = now;
        let reading = self.admission.on_reading().then_some(reading);
        self.reconcile(reading, &mut actions);
        actions
    }

    /// Replaces missed events by the snapshot that contains them.
    pub fn on_gap(&mut self, snapshot: &Snapshot) -> Vec<SupervisorAction> {
        let mut actions = Vec::new();
        // One of the missed events may have given memory back.
        self.admission.mark_dirty();
        for (server, record) in &snapshot.servers {
            let input = self.backoff_input(snapshot.elapsed);
            let state = self.servers.get_mut(server).filter(|state| state.incarnation() == record.incarnation);
            let Some(state) = state else { continue };
            if let Some(process) = &record.process {
                self.admission.on_spawned(server, process.pid);
            }
            state.on_snapshot(record, input, &mut actions);
        }
        self.reconcile(None, &mut actions);
        actions
    }
}
