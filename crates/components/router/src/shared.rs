//! What the requests and the component share: the gates, the names, and the launches that can be asked.
//!
//! The lock is held for a moment and never across an await; everything runs on the router's one thread.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use llama_warden_bus::{Bus, Clock};
use llama_warden_config::RouterSettings;
use llama_warden_events::{Incarnation, ServerId, Uptime};
use llama_warden_support::lock;
use tokio::sync::{mpsc, oneshot};

use crate::answers::Fault;
use crate::body::BodyLimits;
use crate::machine::{Action, Arrival, Arrived, Gates, Standing, Ticket};
use crate::names::Directory;
use crate::relay::Upstream;

pub(crate) struct Shared {
    pub(crate) settings: RouterSettings,
    pub(crate) limits: BodyLimits,
    pub(crate) bus: Bus,
    clock: Clock,
    state: Mutex<State>,
    /// What the component has to tell others. Few: edges, not requests.
    notices: mpsc::UnboundedSender<Action>,
}

#[derive(Default)]
struct State {
    gates: Gates,
    waiters: BTreeMap<Ticket, Waiter>,
    launches: BTreeMap<ServerId, Arc<Upstream>>,
    directory: Arc<Directory>,
}

struct Waiter {
    server: ServerId,
    works: bool,
    answer: oneshot::Sender<Result<Admitted, Fault>>,
}

/// A request that may go, to this launch.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) permit: Permit,
}

/// A place at a gate. Dropping it gives it back.
pub(crate) struct Permit {
    shared: Arc<Shared>,
    server: ServerId,
    incarnation: Incarnation,
    works: bool,
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit").field("server", &self.server).field("incarnation", &self.incarnation).finish()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let now = self.shared.clock.now();
        self.shared.act(|gates| gates.finish(&self.server, self.incarnation, self.works, now));
    }
}

/// A request that waits. Dropping it leaves the queue.
struct Waiting<'a> {
    shared: &'a Arc<Shared>,
    server: &'a ServerId,
    ticket: Ticket,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let was_waiting = lock(&self.shared.state).waiters.remove(&self.ticket).is_some();
        if was_waiting {
            self.shared.act(|gates| gates.leave(self.server, self.ticket));
        }
    }
}

/// Why a request was not admitted.
#[derive(Debug)]
pub(crate) enum NotAdmitted {
    QueueFull,
    TimedOut,
    Refused(Fault),
}

impl Shared {
    pub(crate) fn new(settings: RouterSettings, bus: Bus, notices: mpsc::UnboundedSender<Action>) -> Arc<Self> {
        let limits = BodyLimits::new(settings.max_body, settings.body_memory);
        Arc::new(Self { limits, clock: bus.clock(), state: Mutex::default(), settings, bus, notices })
    }

    pub(crate) fn directory(&self) -> Arc<Directory> {
        lock(&self.state).directory.clone()
    }

    pub(crate) fn set_directory(&self, directory: Directory) {
        lock(&self.state).directory = Arc::new(directory);
    }

    pub(crate) fn standing(&self, server: &ServerId) -> Standing {
        lock(&self.state).gates.standing(server)
    }

    pub(crate) fn next_deadline(&self) -> Option<Uptime> {
        lock(&self.state).gates.next_deadline()
    }

    /// A launch can be asked from now on.
    pub(crate) fn open(self: &Arc<Self>, upstream: Arc<Upstream>) {
        let (server, incarnation) = (upstream.server.clone(), upstream.incarnation);
        lock(&self.state).launches.insert(server.clone(), upstream);
        self.act(|gates| gates.open(&server, incarnation));
    }

    /// A launch cannot be asked any more.
    pub(crate) fn close(self: &Arc<Self>, server: &ServerId, incarnation: Incarnation) {
        self.act(|gates| gates.close(server, incarnation));
        let mut state = lock(&self.state);
        if state.launches.get(server).is_some_and(|upstream| upstream.incarnation == incarnation) {
            state.launches.remove(server);
        }
    }

    /// The launch of a server that can be asked.
    pub(crate) fn upstream(&self, server: &ServerId, incarnation: Incarnation) -> Option<Arc<Upstream>> {
        let state = lock(&self.state);
        state.launches.get(server).filter(|upstream| upstream.incarnation == incarnation).cloned()
    }

    /// Answers every request that waits for a server.
    pub(crate) fn refuse(&self, server: &ServerId, fault: &Fault) {
        self.answer_all(|gates| gates.dismiss(server), fault);
    }

    /// Forgets a server that is configured no more.
    pub(crate) fn remove(&self, server: &ServerId, fault: &Fault) {
        self.answer_all(|gates| gates.remove(server), fault);
        lock(&self.state).launches.remove(server);
    }

    fn answer_all(&self, dismiss: impl FnOnce(&mut Gates) -> Vec<Ticket>, fault: &Fault) {
        let mut state = lock(&self.state);
        let tickets = dismiss(&mut state.gates);
        let waiters: Vec<Waiter> = tickets.iter().filter_map(|ticket| state.waiters.remove(ticket)).collect();
        drop(state);
        for waiter in waiters {
            // One that has left meanwhile needs no answer.
            let _ = waiter.answer.send(Err(fault.clone()));
        }
    }

    /// Changes the gates, lets requests go, and leaves the rest to the component.
    pub(crate) fn act(self: &Arc<Self>, change: impl FnOnce(&mut Gates) -> Vec<Action>) {
        let mut state = lock(&self.state);
        let actions = change(&mut state.gates);
        let mut admitted = Vec::new();
        for action in actions {
            match action {
                Action::Admit(ticket, incarnation) => {
                    let Some(Waiter { server, works, answer }) = state.waiters.remove(&ticket) else { continue };
                    let upstream =
                        state.launches.get(&server).filter(|upstream| upstream.incarnation == incarnation).cloned();
                    admitted.push((answer, server, incarnation, works, upstream));
                }
                // Refused only when the component has ended.
                other => drop(self.notices.send(other)),
            }
        }
        // The permit of a request that has left meanwhile is given back at once, which needs the lock.
        drop(state);
        for (answer, server, incarnation, works, upstream) in admitted {
            let permit = self.permit(&server, incarnation, works);
            if let Some(upstream) = upstream {
                let _ = answer.send(Ok(Admitted { upstream, permit }));
            }
        }
    }

    /// Waits until the request may go, for so long at most.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        server: &ServerId,
        arrival: Arrival,
        longest: Duration,
    ) -> Result<Admitted, NotAdmitted> {
        let (granted, answer) = oneshot::channel();
        // The waiter is known before its demand is told.
        let arrived = {
            let mut state = lock(&self.state);
            let (result, actions) = state.gates.arrive(server, arrival, self.clock.now());
            if let Arrived::Waits(ticket) = result {
                state.waiters.insert(ticket, Waiter { server: server.clone(), works: arrival.works, answer: granted });
            }
            actions.into_iter().for_each(|action| drop(self.notices.send(action)));
            result
        };
        match arrived {
            Arrived::QueueFull => Err(NotAdmitted::QueueFull),
            Arrived::Admitted(incarnation) => {
                let permit = self.permit(server, incarnation, arrival.works);
                let upstream = self.upstream(server, incarnation);
                upstream.map(|upstream| Admitted { upstream, permit }).ok_or(NotAdmitted::TimedOut)
            }
            Arrived::Waits(ticket) => {
                let _waiting = Waiting { shared: self, server, ticket };
                match tokio::time::timeout(longest, answer).await {
                    Ok(Ok(Ok(admitted))) => Ok(admitted),
                    Ok(Ok(Err(fault))) => Err(NotAdmitted::Refused(fault)),
                    Ok(Err(_)) | Err(_) => Err(NotAdmitted::TimedOut),
                }
            }
        }
    }

    fn permit(self: &Arc<Self>, server: &ServerId, incarnation: Incarnation, works: bool) -> Permit {
        Permit { shared: self.clone(), server: server.clone(), incarnation, works }
    }
}
