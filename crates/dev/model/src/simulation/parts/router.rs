//! The router, played: requests wait for servers, are sent through open gates, and end when a step says so.

use std::collections::BTreeMap;
use std::time::Duration;

use llama_warden_bus::EventDraft;
use llama_warden_events::{
    Event, Incarnation, RefusalReason, Refused, RouteCommand, ServerId, StopReason, SuperviseCommand, Uptime,
};
use llama_warden_state::{PhaseName, ServerRecord};

use crate::simulation::Simulation;
use crate::step::Traffic;
use crate::{BrokenPromise, SimulatedInbox, SimulatedIncoming};

/// Stops that leave requests so little time, or less, leave them none.
const SHORT: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(crate) struct RouterPart {
    pub(crate) inbox: SimulatedInbox<RouteCommand>,
    servers: BTreeMap<ServerId, RoutedServer>,
}

/// What the router knows of one server.
#[derive(Debug, Default)]
struct RoutedServer {
    waiting: u32,
    is_wanted: bool,
    /// The launch that requests were sent to, and how many are in flight.
    in_flight: Option<(Incarnation, u32)>,
    /// The launch whose gate is closed.
    closed: Option<Incarnation>,
    /// When the time of what is in flight is over.
    draining: Option<Uptime>,
    /// When it is over by what the supervisor has sent, read or not.
    granted: Option<(Incarnation, Uptime)>,
}

impl RoutedServer {
    fn in_flight(&self, incarnation: Incarnation) -> u32 {
        self.in_flight.filter(|(launch, _)| *launch == incarnation).map_or(0, |(_, count)| count)
    }

    /// The launch that requests may be sent to.
    fn open(&self, record: &ServerRecord) -> Option<Incarnation> {
        (record.is_ready() && self.closed != Some(record.incarnation)).then_some(record.incarnation)
    }
}

impl RouterPart {
    pub(crate) fn next_deadline(&self) -> Option<Uptime> {
        self.servers.values().filter_map(|routed| routed.draining).min()
    }

    /// The supervisor has sent that the requests of a launch have this much time.
    pub(crate) fn on_release_sent(&mut self, server: &ServerId, incarnation: Incarnation, until: Uptime) {
        let routed = self.servers.entry(server.clone()).or_default();
        let known = routed.granted.filter(|(launch, _)| *launch == incarnation).map(|(_, known)| known);
        routed.granted = Some((incarnation, known.map_or(until, |known| known.min(until))));
    }

    /// Whether requests wait for a server.
    pub(crate) fn waiting(&self) -> Option<&ServerId> {
        self.servers.iter().find(|(_, routed)| routed.waiting > 0).map(|(server, _)| server)
    }

    /// The supervisor has a launch stopped. Only some stops may cut requests, and those only after their time.
    pub(crate) fn on_terminate(
        &self,
        (server, incarnation): (&ServerId, Incarnation),
        reason: StopReason,
        grace: Option<Duration>,
        now: Uptime,
    ) -> Result<(), BrokenPromise> {
        let Some(routed) = self.servers.get(server).filter(|routed| routed.in_flight(incarnation) > 0) else {
            return Ok(());
        };
        let may_cut = match reason {
            StopReason::Failed => true,
            StopReason::Idle | StopReason::Evicted => false,
            _ => {
                let is_over = |granted: (Incarnation, Uptime)| granted.0 == incarnation && granted.1 <= now;
                grace.is_some_and(|grace| grace <= SHORT)
                    || routed.draining.is_none_or(|until| until <= now)
                    || routed.granted.is_some_and(is_over)
            }
        };
        if may_cut { Ok(()) } else { Err(BrokenPromise::Cut(server.clone(), incarnation, reason)) }
    }
}

impl Simulation {
    pub(crate) fn traffic(&mut self, server: &ServerId, traffic: Traffic) -> bool {
        self.drop_ended();
        let record = self.bus.snapshot().servers.get(server).cloned();
        let routed = self.router.servers.entry(server.clone()).or_default();
        match traffic {
            Traffic::Request => {
                let Some(record) = record else { return false };
                if let Some(incarnation) = routed.open(&record) {
                    routed.in_flight = Some((incarnation, routed.in_flight(incarnation) + 1));
                    return true;
                }
                routed.waiting += 1;
                if !std::mem::replace(&mut routed.is_wanted, true) {
                    let (server, oldest, priority) = (server.clone(), self.now, 0);
                    self.send_to_supervisor(SuperviseCommand::WantServer { server, oldest, priority });
                }
            }
            Traffic::Leave if routed.waiting > 0 => {
                routed.waiting = 0;
                self.unwant(server);
            }
            Traffic::Respond if routed.in_flight.is_some_and(|(_, count)| count > 0) => {
                if let Some((_, count)) = &mut routed.in_flight {
                    *count -= 1;
                }
                self.announce_released(server);
            }
            Traffic::Leave | Traffic::Respond => return false,
        }
        true
    }

    pub(crate) fn read_router(&mut self, command_first: bool) -> Result<bool, BrokenPromise> {
        let has_moved = self.serve_waiting();
        match self.router.inbox.read(&self.bus, command_first) {
            Some(SimulatedIncoming::Command(sent)) => self.command_router(sent.command),
            Some(SimulatedIncoming::Delivery(_)) => {}
            None => return Ok(has_moved),
        }
        Ok(true)
    }

    /// The supervisor refused to have a server launched: whoever waits for it gets an error. Those that came since have told the
    /// supervisor again, which is taken back.
    pub(crate) fn on_want_refused(&mut self, server: &ServerId) {
        self.router.servers.entry(server.clone()).or_default().waiting = 0;
        self.unwant(server);
    }

    /// Ends what has had its time.
    pub(crate) fn deadline_router(&mut self) {
        let now = self.now;
        let over = self.router.servers.iter().filter(|(_, routed)| routed.draining.is_some_and(|until| until <= now));
        let over: Vec<_> = over.map(|(server, _)| server.clone()).collect();
        for server in over {
            self.publish_released(&server);
        }
    }

    /// Every request in flight ends; says whether there was one.
    pub(crate) fn respond_to_all(&mut self) -> bool {
        self.drop_ended();
        let busy =
            self.router.servers.iter().filter(|(_, routed)| routed.in_flight.is_some_and(|(_, count)| count > 0));
        let busy: Vec<_> = busy.map(|(server, _)| server.clone()).collect();
        for server in &busy {
            if let Some(routed) = self.router.servers.get_mut(server) {
                routed.in_flight = None;
            }
            self.announce_released(server);
        }
        !busy.is_empty()
    }

    fn command_router(&mut self, command: RouteCommand) {
        self.drop_ended();
        match command {
            RouteCommand::ReleaseServer { server, incarnation, drain } => {
                let routed = self.router.servers.entry(server.clone()).or_default();
                let is_busy = routed.in_flight(incarnation) > 0;
                let answer = if is_busy && drain.is_zero() {
                    Err(Refused::new(RefusalReason::InUse, "requests are in flight"))
                } else {
                    routed.closed = Some(incarnation);
                    Ok(())
                };
                if !drain.is_zero() {
                    let until = self.now + drain;
                    routed.draining = Some(routed.draining.map_or(until, |known| known.min(until)));
                }
                self.supervisor.on_release_answered(server.clone(), incarnation, drain, answer);
                if !drain.is_zero() && !is_busy {
                    self.publish_released(&server);
                }
            }
            RouteCommand::ReopenServer { server, incarnation } => {
                let routed = self.router.servers.entry(server).or_default();
                if routed.closed == Some(incarnation) {
                    (routed.closed, routed.draining) = (None, None);
                }
            }
        }
    }

    /// Sends what waits for ready servers, and gives up what waits for servers that do not come.
    fn serve_waiting(&mut self) -> bool {
        let snapshot = self.bus.snapshot().clone();
        let mut done = Vec::new();
        for (server, routed) in self.router.servers.iter_mut().filter(|(_, routed)| routed.waiting > 0) {
            let record = snapshot.servers.get(server);
            if let Some(incarnation) = record.and_then(|record| routed.open(record)) {
                routed.in_flight = Some((incarnation, routed.in_flight(incarnation) + routed.waiting));
            } else if record.is_some_and(|record| {
                !record.stopped_on_request
                    && !self.promises.is_shutting_down()
                    && record.phase.name() != PhaseName::Failed
            }) {
                continue;
            }
            routed.waiting = 0;
            done.push(server.clone());
        }
        done.iter().for_each(|server| self.unwant(server));
        !done.is_empty()
    }

    fn unwant(&mut self, server: &ServerId) {
        let routed = self.router.servers.entry(server.clone()).or_default();
        if std::mem::take(&mut routed.is_wanted) {
            self.send_to_supervisor(SuperviseCommand::UnwantServer { server: server.clone() });
        }
    }

    /// Requests end with the process that they were sent to.
    fn drop_ended(&mut self) {
        for (server, routed) in &mut self.router.servers {
            let alive = self.world.processes.get(server).filter(|process| process.end.is_none());
            let alive = alive.map(|process| process.incarnation);
            if routed.in_flight.is_some_and(|(launch, _)| Some(launch) != alive) {
                (routed.in_flight, routed.draining) = (None, None);
            }
        }
    }

    fn announce_released(&mut self, server: &ServerId) {
        let routed = self.router.servers.entry(server.clone()).or_default();
        if routed.draining.is_some() && routed.in_flight.is_none_or(|(_, count)| count == 0) {
            self.publish_released(server);
        }
    }

    fn publish_released(&mut self, server: &ServerId) {
        let routed = self.router.servers.entry(server.clone()).or_default();
        let (closed, left) = (routed.closed, routed.in_flight.map_or(0, |(_, count)| count));
        routed.draining = None;
        if let Some(incarnation) = closed {
            let released = Event::ServerReleased { left };
            self.publish(EventDraft::incarnation(server.clone(), incarnation, released));
        }
    }
}
