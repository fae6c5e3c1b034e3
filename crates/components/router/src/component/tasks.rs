//! What takes a while, and what follows: keys are read, slots are restored and saved, commands are answered.

use std::sync::Arc;
use std::time::Duration;

use llama_warden_bus::BusClosed;
use llama_warden_component::LaunchReadiness;
use llama_warden_events::{Incarnation, Refused, ServerId, SuperviseCommand};
use llama_warden_probe::Target;
use llama_warden_slot_keeper::{AfterSave, Prepared, SaveResult};
use llama_warden_upstream::Upstream;

use super::RouterWorker;
use crate::asking::{LaunchFacts, learn};
use crate::refusals::refusal;

/// Time before KILL for a server whose slots could not be restored: no request has reached it.
const SPOILT_GRACE: Duration = Duration::from_secs(2);

/// What a task found out.
pub(super) enum TaskResult {
    /// A launch can be asked.
    Reachable(Arc<Upstream>),
    /// What one has said of itself.
    Learned(Arc<Upstream>, LaunchFacts),
    /// A launch whose cache is kept can be asked, unless its restore has spoilt it.
    Prepared(Arc<Upstream>, Prepared),
    /// The slots of a launch were saved, or not.
    Saved(ServerId, Incarnation, SaveResult),
    /// The supervisor refuses the demand for a server.
    Refused(ServerId, Refused),
    /// Health does not check a launch.
    Unchecked(ServerId, Incarnation),
    /// A command is accepted; what comes of it, events tell.
    Accepted,
}

impl RouterWorker {
    /// Opens the gate of a ready launch, at once where it needs no key that a file holds.
    pub(super) fn reach(&mut self, server: ServerId, incarnation: Incarnation) {
        let launch =
            self.launches.get(&server).filter(|launch| launch.incarnation == incarnation && launch.stop.is_none());
        let Some((spec, process)) = launch.and_then(|launch| launch.spec.clone().zip(launch.process)) else { return };
        let target = Target::new(&spec, process.port);
        if target.encrypted {
            tracing::warn!(%server, "speaks TLS, which the router does not: no request goes to it");
            return;
        }
        let traffic = self.shared.traffic.clone();
        if let Some(slots) = self.slots.as_ref().filter(|_| spec.router.keeps_cache) {
            let prepared = slots.prepare((server.clone(), incarnation), &spec, process);
            self.tasks.spawn(async move {
                let (key, prepared) = prepared.await;
                TaskResult::Prepared(Arc::new(Upstream::new((server, incarnation), &target, key, traffic)), prepared)
            });
            return;
        }
        if target.key.is_none() {
            let upstream = Arc::new(Upstream::new((server, incarnation), &target, None, traffic));
            return self.open(upstream);
        }
        self.tasks.spawn(async move {
            let key = target.read_key().await;
            TaskResult::Reachable(Arc::new(Upstream::new((server, incarnation), &target, key, traffic)))
        });
    }

    fn open(&mut self, upstream: Arc<Upstream>) {
        self.shared.open(upstream.clone());
        // Whoever stops it meanwhile has closed the gate; a stop that came first is seen by its tracker.
        self.tasks.spawn(async move {
            let facts = learn(upstream.clone()).await;
            TaskResult::Learned(upstream, facts)
        });
    }

    pub(super) async fn on_task(&mut self, result: TaskResult) -> Result<(), BusClosed> {
        match result {
            TaskResult::Reachable(upstream) => self.open_ready(upstream),
            TaskResult::Prepared(upstream, prepared) => {
                let Some(slots) = &mut self.slots else { return Ok(()) };
                if slots.on_prepared((&upstream.server, upstream.incarnation), prepared).await? {
                    self.open_ready(upstream);
                    return Ok(());
                }
                let (server, grace) = (upstream.server.clone(), Some(SPOILT_GRACE));
                let reply = self.commands.post(SuperviseCommand::RestartServer { server, grace, force: false });
                self.tasks.spawn(async move {
                    match reply.await {
                        Ok(_) => TaskResult::Accepted,
                        Err(refused) => {
                            tracing::warn!(server = %upstream.server, %refused, "it is not restarted after a failed restore");
                            TaskResult::Reachable(upstream)
                        }
                    }
                });
            }
            TaskResult::Saved(server, incarnation, result) => {
                if let Some(slots) = &mut self.slots {
                    slots.on_saved(&server, incarnation, result).await?;
                }
            }
            TaskResult::Learned(upstream, LaunchFacts { slots, model }) => {
                let (server, incarnation) = (&upstream.server, upstream.incarnation);
                let spec = self.launches.get(server).and_then(|launch| launch.spec.as_ref());
                upstream.size_pool(slots, spec.and_then(|spec| spec.router.concurrency));
                if let Some(slots) = slots {
                    self.shared.act(|gates, now| gates.set_slots(server, incarnation, slots, now));
                }
                if self.shared.upstream(server, incarnation).is_some() {
                    self.shared.set_facts(server.clone(), model.clone());
                    self.tell_loaded(server, &model);
                }
            }
            TaskResult::Refused(server, refused) => self.shared.refuse(&server, &refusal(&server, &refused)),
            TaskResult::Unchecked(server, incarnation) => {
                self.shared.act(|gates, now| gates.resume(&server, incarnation, now));
            }
            TaskResult::Accepted => {}
        }
        Ok(())
    }

    /// Opens the gate of a launch that could not be asked at once, where it still runs.
    fn open_ready(&mut self, upstream: Arc<Upstream>) {
        let Some(launch) = self.launches.get(&upstream.server) else { return };
        if launch.incarnation != upstream.incarnation || launch.stop.is_some() || launch.is_over {
            return;
        }
        let is_lost = launch.readiness == LaunchReadiness::Lost;
        let (server, incarnation) = (upstream.server.clone(), upstream.incarnation);
        self.open(upstream);
        if is_lost {
            self.shared.act(|gates, now| gates.pause(&server, incarnation, now));
        }
    }

    /// Saves the slots of a launch that no request can reach; then what follows.
    pub(super) async fn save(
        &mut self,
        server: &ServerId,
        incarnation: Incarnation,
        then: AfterSave,
    ) -> Result<(), BusClosed> {
        let Some(slots) = &mut self.slots else { return Ok(()) };
        if let Some(saved) = slots.save((server, incarnation), then).await? {
            let id = server.clone();
            let task = self.tasks.spawn(async move { TaskResult::Saved(id, incarnation, saved.await) });
            slots.is_saved_by(server, incarnation, task);
        }
        Ok(())
    }
}
