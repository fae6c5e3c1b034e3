//! The fold: how each event changes the snapshot.
//!
//! Invariants: `seq` only grows; an event about a launch that is not the latest changes no record; a record never has both a
//! process and a settled phase; a launch becomes ready at most once, and fails at most once, or a second time as unkillable.

use std::sync::Arc;

use llama_warden_events::{Envelope, Event, ServerCard, ServerId, Uptime};

use crate::{DaemonPhase, GuardianRecord, ServerRecord, Snapshot};

mod server;

/// Whether an event was possible in the state it met.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    Fitted,
    Anomalous,
}

use Fit::{Anomalous, Fitted};

impl Snapshot {
    /// Applies an event. An envelope that is not the next one, or whose event is stale or impossible, is counted as an anomaly and
    /// changes nothing else.
    pub fn apply(&mut self, envelope: &Envelope) {
        if envelope.seq != self.seq.next() || envelope.boot != self.boot {
            self.anomalies += 1;
            return;
        }
        self.seq = envelope.seq;
        self.elapsed = envelope.elapsed;
        *self.events.entry(envelope.event.kind()).or_default() += 1;
        let fit = match (&envelope.event, &envelope.server) {
            (Event::Extension(event), _) => {
                self.extensions.count(event);
                Fitted
            }
            (_, Some(server)) => self.apply_to_server(server, envelope),
            (_, None) => self.apply_to_daemon(envelope),
        };
        if fit == Anomalous {
            self.anomalies += 1;
        }
    }

    fn apply_to_daemon(&mut self, envelope: &Envelope) -> Fit {
        let daemon = &mut self.daemon;
        match &envelope.event {
            Event::DaemonStarted { version, profile, router, .. } => {
                daemon.phase = DaemonPhase::Running;
                daemon.version = version.to_string();
                daemon.profile.clone_from(profile);
                daemon.router.clone_from(router);
                daemon.started_at = Some(envelope.at);
            }
            // The last event of a configuration: its servers come before.
            Event::ProfilesConfigured { profiles } => {
                daemon.profiles = profiles.as_slice().into();
                daemon.is_configured = true;
            }
            Event::ProfileActivated { profile } => daemon.profile.clone_from(profile),
            Event::GuardianStarted { pid } => {
                let restarts = daemon.guardian.map_or(0, |guardian| guardian.restarts + 1);
                daemon.guardian = Some(GuardianRecord { pid: *pid, restarts });
            }
            Event::ConfigurationReloaded { .. } => daemon.configuration_refused = None,
            Event::ConfigurationRefused { detail, .. } => daemon.configuration_refused = Some(detail.clone()),
            Event::DaemonStopping { trigger } => {
                daemon.phase = DaemonPhase::Stopping;
                daemon.trigger = Some(trigger.clone());
            }
            Event::DaemonHandingOver { trigger } => {
                daemon.phase = DaemonPhase::Stopping;
                daemon.trigger = Some(trigger.clone());
                daemon.is_handing_over = true;
            }
            Event::DaemonStopped { .. } => daemon.phase = DaemonPhase::Stopped,
            Event::ComponentFailed { component, error } => {
                daemon.failed_component = Some((component.clone(), error.clone()));
            }
            Event::CommandAccepted { .. }
            | Event::CommandCompleted { .. }
            | Event::DetectorsReloaded { .. }
            | Event::DialectsReloaded { .. }
            | Event::SwitchPlanned { .. } => {}
            // Every event is named: a new variant does not compile until somebody decides what it changes.
            Event::ServerConfigured { .. }
            | Event::ServerRemoved
            | Event::MemoryEstimated { .. }
            | Event::LaunchHeld { .. }
            | Event::LaunchReleased
            | Event::LaunchSkipped { .. }
            | Event::EvictionPlanned { .. }
            | Event::UseBegan
            | Event::UseEnded { .. }
            | Event::ServerReleased { .. }
            | Event::SlotsSaved { .. }
            | Event::SlotsRestored { .. }
            | Event::SlotsUsed { .. }
            | Event::SlotsLost { .. }
            | Event::LaunchBegan { .. }
            | Event::BinaryIdentified(_)
            | Event::DialectChosen { .. }
            | Event::OptionsTranslated { .. }
            | Event::ServerAdopted { .. }
            | Event::ServerSpawned { .. }
            | Event::SignalDelivered { .. }
            | Event::ListenerIdentified { .. }
            | Event::ServerExited { .. }
            | Event::OutputLost { .. }
            | Event::DetectorChosen { .. }
            | Event::ReadyHinted { .. }
            | Event::LoadProgressed { .. }
            | Event::ReadyReached { .. }
            | Event::HealthProbed { .. }
            | Event::ReadyLost { .. }
            | Event::ReadyRegained
            | Event::ServerFailed { .. }
            | Event::ServerWarned { .. }
            | Event::HookCompleted { .. }
            | Event::StopBegan { .. }
            | Event::StopEscalated { .. }
            | Event::ServerStopped { .. }
            | Event::RestartScheduled { .. }
            | Event::RestartCancelled
            | Event::RestartAbandoned { .. }
            | Event::ServerLeftDown { .. }
            | Event::TotalsRestored { .. }
            | Event::CanaryBegan { .. }
            | Event::CanaryCompleted { .. }
            | Event::Extension(_) => return Anomalous,
        }
        Fitted
    }

    fn apply_to_server(&mut self, server: &ServerId, envelope: &Envelope) -> Fit {
        if let Event::ServerConfigured { card } = &envelope.event {
            self.configure(server, card, envelope.elapsed);
            return Fitted;
        }
        if let Event::ServerRemoved = envelope.event {
            return if self.servers.remove(server).is_some() { Fitted } else { Anomalous };
        }
        match self.servers.get_mut(server) {
            Some(record) => Arc::make_mut(record).apply(envelope),
            // A `post-exit` hook, a canary or a request may end after its server was removed from the configuration.
            None if may_be_late(&envelope.event) || matches!(envelope.event, Event::CanaryCompleted { .. }) => Fitted,
            None => Anomalous,
        }
    }

    fn configure(&mut self, server: &ServerId, card: &Arc<ServerCard>, now: Uptime) {
        match self.servers.get_mut(server) {
            Some(record) => Arc::make_mut(record).card = Arc::clone(card),
            None => {
                self.servers.insert(server.clone(), Arc::new(ServerRecord::new(Arc::clone(card), now)));
            }
        }
    }
}

/// Whether an event may come a moment after its launch is over, when the next one may have begun: a cancelled hook completes late, and
/// so does the end of a request.
const fn may_be_late(event: &Event) -> bool {
    matches!(
        event,
        Event::HookCompleted { .. }
            | Event::UseBegan
            | Event::UseEnded { .. }
            | Event::ServerReleased { .. }
            | Event::SlotsSaved { .. }
            | Event::SlotsRestored { .. }
            | Event::SlotsUsed { .. }
            | Event::SlotsLost { .. }
    )
}
