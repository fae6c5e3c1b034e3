//! What the requests and the component share: the gates, the names, and the launches that can be asked.
//!
//! The lock is held for a moment and never across an await; everything runs on the router's one thread.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::HeaderMap;
use llama_warden_bus::{Bus, Clock, CommandSender};
use llama_warden_config::RouterSettings;
use llama_warden_events::{Incarnation, ServerId, Uptime};
use llama_warden_keys::{ClientKey, KeyRing};
use llama_warden_slot_keeper::CacheKeeper;
use llama_warden_support::lock;
use llama_warden_traffic::{Counted, RouterTraffic, WaitedFor};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::faults::Fault;
use crate::models::{ModelFacts, ModelNotice};
use llama_warden_gates::{AdmittedAs, Arrival, Arrived, GateAction, GateStanding, Gates, Ticket};
use llama_warden_held_body::BodyLimits;
use llama_warden_targets::Directory;
use llama_warden_upstream::Upstream;

/// Notices about models that a follower may be behind.
const MODEL_NOTICES: usize = 256;

pub(crate) struct Shared {
    pub(crate) settings: RouterSettings,
    pub(crate) limits: BodyLimits,
    pub(crate) bus: Bus,
    /// Counts the requests.
    pub(crate) traffic: Arc<RouterTraffic>,
    /// The keys of clients, where they need one.
    keys: Option<watch::Receiver<Arc<KeyRing>>>,
    /// To the supervisor.
    pub(crate) commands: CommandSender,
    /// What the followers of models are told. One that reads too slowly is told to read the list again.
    pub(crate) models: broadcast::Sender<ModelNotice>,
    clock: Clock,
    state: Mutex<RouterState>,
    /// Where slots can be kept.
    pub(crate) keeper: Option<Arc<CacheKeeper>>,
    /// Cancelled when the daemon ends.
    pub(crate) ending: CancellationToken,
    /// What the component has to tell others. Few: edges, not requests.
    notices: mpsc::UnboundedSender<GateAction>,
}

#[derive(Default)]
struct RouterState {
    gates: Gates,
    waiters: BTreeMap<Ticket, PendingRequest>,
    launches: BTreeMap<ServerId, Arc<Upstream>>,
    /// What the latest launch of each server said of its model.
    facts: BTreeMap<ServerId, Arc<ModelFacts>>,
    directory: Arc<Directory>,
    /// The deadline that the component waits for.
    armed: Option<Uptime>,
}

impl RouterState {
    /// The launch of a server, if it can be asked.
    fn launch(&self, server: &ServerId, incarnation: Incarnation) -> Option<&Arc<Upstream>> {
        self.launches.get(server).filter(|upstream| upstream.incarnation == incarnation)
    }
}

struct PendingRequest {
    server: ServerId,
    admitted_as: AdmittedAs,
    /// Until when it waits.
    until: Uptime,
    answer: oneshot::Sender<Result<Admitted, Fault>>,
}

/// A request that may go, to this launch.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) permit: Permit,
    pub(crate) waited_for: Option<WaitedFor>,
}

/// Whether a request may go.
#[derive(Debug)]
pub(crate) enum GateEntry {
    Now(Admitted),
    Later(AwaitedTurn),
}

/// The turn of a request that waits.
#[derive(Debug)]
pub(crate) struct AwaitedTurn {
    ticket: Ticket,
    granted: oneshot::Receiver<Result<Admitted, Fault>>,
    longest: Duration,
    /// Its server is ready, so that only a slot is waited for.
    is_open: bool,
}

/// A place at a gate. Dropping it gives it back.
pub(crate) struct Permit {
    shared: Arc<Shared>,
    server: ServerId,
    incarnation: Incarnation,
    admitted_as: AdmittedAs,
    since: Uptime,
    /// Its answer has begun.
    began: bool,
    _in_flight: Counted,
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit").field("server", &self.server).field("incarnation", &self.incarnation).finish()
    }
}

impl Permit {
    /// The first bytes of the answer are there.
    pub(crate) fn answer_began(&mut self) {
        if !std::mem::replace(&mut self.began, true) && self.admitted_as == AdmittedAs::Replay {
            self.shared.act(|gates, now| gates.answer_began(&self.server, self.incarnation, now));
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // A replay whose answer began has given back what only replays take.
        let admitted_as = match self.admitted_as {
            AdmittedAs::Replay if self.began => AdmittedAs::Work,
            other => other,
        };
        self.shared.act(|gates, now| {
            if admitted_as != AdmittedAs::Light {
                gates.note_work(&self.server, now.since(self.since));
            }
            gates.finish(&self.server, self.incarnation, admitted_as, now)
        });
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
            self.shared.act(|gates, now| gates.leave(self.server, self.ticket, now));
        }
    }
}

/// What the router is told about its clients.
#[derive(Debug, Default)]
pub struct RouterClients {
    /// Their keys, as they are now; `None` where they need none.
    pub keys: Option<watch::Receiver<Arc<KeyRing>>>,
    /// Counts their requests, and hands finished ones on.
    pub traffic: Arc<RouterTraffic>,
}

/// Why a request was not admitted.
#[derive(Debug)]
pub(crate) enum NotAdmitted {
    QueueFull,
    TimedOut,
    Refused(Fault),
}

impl Shared {
    pub(crate) fn new(
        settings: RouterSettings,
        bus: Bus,
        clients: RouterClients,
        (notices, commands, ending): (mpsc::UnboundedSender<GateAction>, CommandSender, CancellationToken),
        keeper: Option<Arc<CacheKeeper>>,
    ) -> Arc<Self> {
        let RouterClients { keys, traffic } = clients;
        let limits = BodyLimits::new(settings.max_body, settings.body_memory, traffic.clone());
        let gates = Gates::new(settings.evict_busy_after);
        let (clock, state) = (bus.clock(), Mutex::new(RouterState { gates, ..RouterState::default() }));
        let models = broadcast::Sender::new(MODEL_NOTICES);
        Arc::new(Self { settings, limits, bus, traffic, keys, commands, models, clock, state, keeper, ending, notices })
    }

    /// Whether clients need a key.
    pub(crate) const fn needs_key(&self) -> bool {
        self.keys.is_some()
    }

    /// Whose key a request has.
    pub(crate) fn key(&self, headers: &HeaderMap) -> Option<Arc<ClientKey>> {
        self.keys.as_ref().and_then(|keys| keys.borrow().holder(headers).cloned())
    }

    pub(crate) fn directory(&self) -> Arc<Directory> {
        lock(&self.state).directory.clone()
    }

    pub(crate) fn set_directory(&self, directory: Directory) {
        lock(&self.state).directory = Arc::new(directory);
    }

    /// A launch of a server became ready after so long.
    pub(crate) fn note_load(&self, server: &ServerId, took: Duration) {
        lock(&self.state).gates.note_load(server, took);
    }

    /// How long a launch of a server loads, and how long a request waits for its turn, as far as that is known.
    pub(crate) fn paces(&self, server: &ServerId) -> (Option<Duration>, Option<Duration>) {
        let gates = &lock(&self.state).gates;
        (gates.expected_load(server), gates.expected_turn(server))
    }

    pub(crate) fn now(&self) -> Uptime {
        self.clock.now()
    }

    pub(crate) fn standing(&self, server: &ServerId) -> GateStanding {
        lock(&self.state).gates.standing(server)
    }

    pub(crate) fn next_deadline(&self) -> Option<Uptime> {
        let mut state = lock(&self.state);
        state.armed = state.gates.next_deadline();
        state.armed
    }

    /// A launch can be asked from now on.
    pub(crate) fn open(self: &Arc<Self>, upstream: Arc<Upstream>) {
        let (server, incarnation) = (upstream.server.clone(), upstream.incarnation);
        lock(&self.state).launches.insert(server.clone(), upstream);
        self.act(|gates, now| gates.open(&server, incarnation, now));
    }

    /// A launch cannot be asked any more.
    pub(crate) fn close(self: &Arc<Self>, server: &ServerId, incarnation: Incarnation) {
        self.act(|gates, now| gates.close(server, incarnation, now));
        let mut state = lock(&self.state);
        if state.launch(server, incarnation).is_some() {
            let gone = state.launches.remove(server);
            drop(state);
            gone.inspect(|upstream| upstream.gone.notify_waiters());
        }
    }

    /// Waits until a launch cannot be asked any more, for so long at most. Whether it cannot.
    pub(crate) async fn is_gone(&self, upstream: &Upstream, longest: Duration) -> bool {
        let gone = upstream.gone.notified();
        let is_gone = || self.upstream(&upstream.server, upstream.incarnation).is_none();
        is_gone() || tokio::time::timeout(longest, gone).await.is_ok() || is_gone()
    }

    /// The launch of a server that can be asked.
    pub(crate) fn upstream(&self, server: &ServerId, incarnation: Incarnation) -> Option<Arc<Upstream>> {
        lock(&self.state).launch(server, incarnation).cloned()
    }

    /// Every launch that can be asked.
    pub(crate) fn reachable(&self) -> Vec<Arc<Upstream>> {
        lock(&self.state).launches.values().cloned().collect()
    }

    /// What the latest launch of a server said of its model.
    pub(crate) fn facts(&self, server: &ServerId) -> Option<Arc<ModelFacts>> {
        lock(&self.state).facts.get(server).cloned()
    }

    pub(crate) fn set_facts(&self, server: ServerId, facts: Arc<ModelFacts>) {
        lock(&self.state).facts.insert(server, facts);
    }

    /// Answers every request that waits for a server.
    pub(crate) fn refuse(&self, server: &ServerId, fault: &Fault) {
        self.answer_all(|gates, now| gates.dismiss(server, now), fault);
    }

    /// Answers the requests that wait for a server, and for which there is a reason to wait no longer, given how long they would.
    pub(crate) fn refuse_some(self: &Arc<Self>, server: &ServerId, reason: impl Fn(Duration) -> Option<Fault>) {
        let (now, mut refused) = (self.now(), Vec::new());
        let waiting = |pending: &PendingRequest| pending.server == *server;
        let mut state = lock(&self.state);
        for (ticket, pending) in state.waiters.iter().filter(|(_, pending)| waiting(pending)) {
            refused.extend(reason(pending.until.since(now)).map(|fault| (*ticket, fault)));
        }
        let refused: Vec<_> = refused
            .into_iter()
            .filter_map(|(ticket, fault)| Some((ticket, state.waiters.remove(&ticket)?.answer, fault)))
            .collect();
        drop(state);
        for (ticket, answer, fault) in refused {
            self.act(|gates, now| gates.leave(server, ticket, now));
            // One that has left meanwhile needs no answer.
            let _ = answer.send(Err(fault));
        }
    }

    /// Forgets a server that is configured no more.
    pub(crate) fn remove(&self, server: &ServerId, fault: &Fault) {
        self.answer_all(|gates, _| (gates.remove(server), Vec::new()), fault);
        let mut state = lock(&self.state);
        state.launches.remove(server);
        state.facts.remove(server);
    }

    fn answer_all(&self, dismiss: impl FnOnce(&mut Gates, Uptime) -> (Vec<Ticket>, Vec<GateAction>), fault: &Fault) {
        let mut state = lock(&self.state);
        let (tickets, actions) = dismiss(&mut state.gates, self.clock.now());
        actions.into_iter().for_each(|action| drop(self.notices.send(action)));
        let waiters: Vec<PendingRequest> = tickets.iter().filter_map(|ticket| state.waiters.remove(ticket)).collect();
        drop(state);
        for waiter in waiters {
            // One that has left meanwhile needs no answer.
            let _ = waiter.answer.send(Err(fault.clone()));
        }
    }

    /// Changes the gates, lets requests go, and leaves the rest to the component.
    pub(crate) fn act(self: &Arc<Self>, change: impl FnOnce(&mut Gates, Uptime) -> Vec<GateAction>) {
        let mut state = lock(&self.state);
        let now = self.clock.now();
        let actions = change(&mut state.gates, now);
        self.rearm(&mut state);
        let mut admitted = Vec::new();
        for action in actions {
            match action {
                GateAction::Admit(ticket, incarnation) => {
                    let Some(PendingRequest { server, admitted_as, answer, .. }) = state.waiters.remove(&ticket) else {
                        continue;
                    };
                    let upstream = state.launch(&server, incarnation).cloned();
                    admitted.push((answer, server, incarnation, admitted_as, upstream));
                }
                // Refused only when the component has ended.
                other => drop(self.notices.send(other)),
            }
        }
        // The permit of a request that has left meanwhile is given back at once, which needs the lock.
        drop(state);
        for (answer, server, incarnation, admitted_as, upstream) in admitted {
            let permit = self.permit(&server, incarnation, (admitted_as, now));
            if let Some(upstream) = upstream {
                let _ = answer.send(Ok(Admitted { upstream, permit, waited_for: None }));
            }
        }
    }

    /// Wakes the component where something is due before the deadline that it waits for.
    fn rearm(&self, state: &mut RouterState) {
        if let Some(next) = state.gates.next_deadline().filter(|next| state.armed.is_none_or(|armed| *next < armed)) {
            state.armed = Some(next);
            let _ = self.notices.send(GateAction::Rearm);
        }
    }

    /// Lets a request go at once, where it may. Else it waits for so long at most.
    pub(crate) fn enter(
        self: &Arc<Self>,
        server: &ServerId,
        arrival: Arrival,
        longest: Duration,
    ) -> Result<GateEntry, NotAdmitted> {
        let mut state = lock(&self.state);
        let now = self.clock.now();
        let (arrived, actions) = state.gates.arrive(server, arrival, now);
        // The waiter is known before its demand is told.
        let waits = match arrived {
            Arrived::Waits(ticket) => {
                let (answer, granted) = oneshot::channel();
                let admitted_as = arrival.admitted_as();
                let pending = PendingRequest { server: server.clone(), admitted_as, until: now + longest, answer };
                state.waiters.insert(ticket, pending);
                Some(AwaitedTurn { ticket, granted, longest, is_open: state.gates.is_open(server) })
            }
            Arrived::Admitted(_) | Arrived::QueueFull => None,
        };
        let upstream = state.launches.get(server).cloned();
        actions.into_iter().for_each(|action| drop(self.notices.send(action)));
        self.rearm(&mut state);
        // A permit that is dropped needs the lock.
        drop(state);
        if let Some(turn) = waits {
            return Ok(GateEntry::Later(turn));
        }
        let Arrived::Admitted(incarnation) = arrived else { return Err(NotAdmitted::QueueFull) };
        let permit = self.permit(server, incarnation, (arrival.admitted_as(), now));
        let upstream = upstream.filter(|upstream| upstream.incarnation == incarnation);
        let admitted = upstream.map(|upstream| Admitted { upstream, permit, waited_for: None });
        admitted.map(GateEntry::Now).ok_or(NotAdmitted::TimedOut)
    }

    /// Waits until the request may go.
    pub(crate) async fn wait(
        self: &Arc<Self>,
        server: &ServerId,
        AwaitedTurn { ticket, granted, longest, is_open }: AwaitedTurn,
    ) -> Result<Admitted, NotAdmitted> {
        let _waiting = Waiting { shared: self, server, ticket };
        let wait = self.traffic.server(server).wait(is_open);
        match tokio::time::timeout(longest, granted).await {
            Ok(Ok(Ok(admitted))) => Ok(Admitted { waited_for: Some(wait.waited_for()), ..admitted }),
            Ok(Ok(Err(fault))) => Err(NotAdmitted::Refused(fault)),
            Ok(Err(_)) | Err(_) => Err(NotAdmitted::TimedOut),
        }
    }

    fn permit(
        self: &Arc<Self>,
        server: &ServerId,
        incarnation: Incarnation,
        (admitted_as, since): (AdmittedAs, Uptime),
    ) -> Permit {
        let in_flight = self.traffic.server(server).begin();
        let (shared, server) = (self.clone(), server.clone());
        Permit { shared, server, incarnation, admitted_as, since, began: false, _in_flight: in_flight }
    }
}
