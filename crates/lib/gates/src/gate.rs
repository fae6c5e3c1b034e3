//! One gate: the launch that it leads to, what is in flight there, and who waits.

use std::num::NonZeroU32;
use std::time::Duration;

use llama_warden_events::{Incarnation, ServerId, Uptime};

use crate::pace::{LoadPace, WorkPace};
use crate::passing::{Arrival, GateAction, Ticket};
use crate::queue::{WaitQueue, Waiter};

/// Shortest time between two messages about the same demand.
pub(crate) const TELL_AGAIN: Duration = Duration::from_secs(1);

/// Requests at work at a time before the number of slots is known.
const UNKNOWN_SLOTS: u32 = 1;

/// How long a server counts as used after its last request, so that events about use are few.
const USE_HYSTERESIS: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(crate) struct ServerGate {
    passage: Passage,
    /// Requests at work, and light ones, of the launch that the gate leads to.
    working: u32,
    light: u32,
    slots: Option<NonZeroU32>,
    concurrency: Option<NonZeroU32>,
    priority: i32,
    /// How long it counts as used after its last request.
    hysteresis: Duration,
    /// How long requests wait for a slot before they are demand.
    patience: Duration,
    queue: WaitQueue,
    pace: WorkPace,
    loads: LoadPace,
    /// A request that a crash has lost is at work, and whether it ends this launch too is not known yet.
    replaying: bool,
    told: Option<ToldDemand>,
    usage: Usage,
    /// The deadline under which it is filed.
    pub(crate) filed: Option<Uptime>,
}

/// Where the gate leads.
#[derive(Debug, Default, Clone, Copy)]
enum Passage {
    /// No launch is ready.
    #[default]
    Closed,
    Open(Incarnation),
    /// The launch was ready and does not answer as such.
    Paused(Incarnation),
    /// The supervisor wants it closed, and is told once nothing is in flight or at this time.
    Draining(Incarnation, Option<Uptime>),
    /// Nothing is in flight, or its time is over.
    Released(Incarnation),
    /// Released before it was opened: its launch is ready, and something has to be done first.
    Unopened(Incarnation),
}

/// The demand that was told last.
#[derive(Debug, Clone, Copy)]
struct ToldDemand {
    /// Since when its oldest waits; `None` once it was taken back.
    oldest: Option<Uptime>,
    at: Uptime,
}

/// Whether requests use the server, as the supervisor was told.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Usage {
    #[default]
    Idle,
    Used,
    /// The last one ended then; told at the second time, unless another comes.
    Ending(Uptime, Uptime),
}

/// A request may go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GateAdmission {
    pub(crate) incarnation: Incarnation,
    pub(crate) begins_use: bool,
}

/// A gate in numbers, for lists.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct GateStanding {
    /// Requests in flight.
    pub in_flight: u32,
    /// Requests that wait.
    pub waiting: usize,
}

impl Passage {
    const fn incarnation(self) -> Option<Incarnation> {
        match self {
            Self::Closed => None,
            Self::Open(to) | Self::Paused(to) | Self::Draining(to, _) | Self::Released(to) | Self::Unopened(to) => {
                Some(to)
            }
        }
    }
}

impl ServerGate {
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience: patience.min(TELL_AGAIN), ..Self::default() }
    }

    /// Takes what the configuration says now.
    pub(crate) fn configure(&mut self, arrival: &Arrival) {
        (self.concurrency, self.priority) = (arrival.concurrency, arrival.priority);
        // Later than the idle stop that waits for it, the event would put that off.
        self.hysteresis = arrival.ttl.map_or(USE_HYSTERESIS, |ttl| ttl.min(USE_HYSTERESIS));
    }

    /// Lets a request that has just come go, where it may.
    pub(crate) fn arrive(&mut self, arrival: &Arrival) -> Option<GateAdmission> {
        // One that was lost takes its turn among its like.
        arrival.lost_with.is_none().then(|| self.admit(arrival.works)).flatten()
    }

    fn admit(&mut self, works: bool) -> Option<GateAdmission> {
        let Passage::Open(incarnation) = self.passage else { return None };
        if !works {
            self.light += 1;
            return Some(GateAdmission { incarnation, begins_use: false });
        }
        if self.working >= self.limit() {
            return None;
        }
        self.working += 1;
        let begins_use = self.usage == Usage::Idle;
        self.usage = Usage::Used;
        Some(GateAdmission { incarnation, begins_use })
    }

    /// Requests at work at a time.
    fn limit(&self) -> u32 {
        let of_slots = self.slots.map_or(UNKNOWN_SLOTS, NonZeroU32::get).saturating_add(1);
        self.concurrency.map_or(of_slots, NonZeroU32::get)
    }

    /// Whether its launch is ready, so that only a slot is waited for.
    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.passage, Passage::Open(_))
    }

    pub(crate) fn waiting(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn wait(&mut self, ticket: Ticket, arrival: Arrival, since: Uptime) {
        self.queue.push(Waiter { ticket, since, arrival });
    }

    pub(crate) fn forget(&mut self, ticket: Ticket) {
        self.queue.remove(ticket);
    }

    pub(crate) fn dismiss(&mut self) -> Vec<Ticket> {
        self.queue.drain()
    }

    /// The next waiter that may go: light ones, those that a crash has lost one at a time, then the clients in turn.
    pub(crate) fn next_admission(&mut self) -> Option<(Ticket, GateAdmission)> {
        let Passage::Open(incarnation) = self.passage else { return None };
        if let Some(waiter) = self.queue.pop_light() {
            return self.admit(false).map(|admission| (waiter.ticket, admission));
        }
        let replay = if self.replaying { None } else { self.queue.next_replay(incarnation) };
        if let Some(waiter) = replay {
            let admission = self.admit(true)?;
            self.queue.remove(waiter.ticket);
            self.replaying = true;
            return Some((waiter.ticket, admission));
        }
        let waiter = self.queue.next_work()?;
        let admission = self.admit(true)?;
        self.queue.pop_work();
        Some((waiter.ticket, admission))
    }

    /// The request that a crash had lost has its answer, or has ended.
    pub(crate) fn replay_ended(&mut self, incarnation: Incarnation) {
        if self.passage.incarnation() == Some(incarnation) {
            self.replaying = false;
        }
    }

    /// What has changed about the demand.
    pub(crate) fn demand(&mut self, server: &ServerId, now: Uptime) -> Option<GateAction> {
        let Some(oldest) = self.queue.oldest() else {
            let taken_back = self.told.as_mut().and_then(|told| told.oldest.take());
            return taken_back.map(|_| GateAction::Unwant(server.clone()));
        };
        if self.told_next().is_none_or(|at| at > now) {
            return None;
        }
        self.told = Some(ToldDemand { oldest: Some(oldest), at: now });
        Some(GateAction::Want { server: server.clone(), oldest, priority: self.priority })
    }

    /// Has those that wait told again.
    pub(crate) fn forget_told(&mut self) {
        if self.waiting() > 0 {
            self.told = None;
        }
    }

    /// When the supervisor is to be told who waits longest, where it does not know. Those that wait for a slot of a ready launch launch
    /// nothing; they are told so that requests for other servers which came later do not go first. Most of them go within a moment, of
    /// which nobody hears.
    fn told_next(&self) -> Option<Uptime> {
        let oldest = self.queue.oldest()?;
        let again = self.told.map_or_else(Uptime::default, |told| told.at + TELL_AGAIN);
        match self.told.and_then(|told| told.oldest) {
            Some(told) if told == oldest => None,
            Some(_) => Some(again),
            None if self.is_open() => Some(again.max(oldest + self.patience)),
            None => Some(Uptime::default()),
        }
    }

    /// Whether the supervisor is to be told that nothing is in flight any more.
    pub(crate) fn finish(&mut self, incarnation: Incarnation, works: bool, now: Uptime) -> bool {
        // One of an earlier launch is in no count any more.
        if self.passage.incarnation() != Some(incarnation) {
            return false;
        }
        let count = if works { &mut self.working } else { &mut self.light };
        *count = count.saturating_sub(1);
        if works && self.working == 0 {
            self.usage = Usage::Ending(now, now + self.hysteresis);
        }
        let Passage::Draining(..) = self.passage else { return false };
        if self.in_flight() > 0 {
            return false;
        }
        self.passage = Passage::Released(incarnation);
        true
    }

    const fn in_flight(&self) -> u32 {
        self.working + self.light
    }

    pub(crate) fn open(&mut self, incarnation: Incarnation) {
        match self.passage {
            // The supervisor reopens these itself.
            Passage::Draining(to, _) | Passage::Released(to) if to == incarnation => {}
            Passage::Unopened(to) if to == incarnation => self.passage = Passage::Released(incarnation),
            Passage::Open(to) | Passage::Paused(to) if to == incarnation => self.passage = Passage::Open(incarnation),
            _ => {
                (self.working, self.light, self.slots, self.usage) = (0, 0, None, Usage::Idle);
                self.replaying = false;
                self.passage = Passage::Open(incarnation);
            }
        }
    }

    /// Whether it was open.
    pub(crate) fn pause(&mut self, incarnation: Incarnation) -> bool {
        let was_open = matches!(self.passage, Passage::Open(to) if to == incarnation);
        if was_open {
            self.passage = Passage::Paused(incarnation);
        }
        was_open
    }

    /// Whether it was paused, and is open again.
    pub(crate) fn resume(&mut self, incarnation: Incarnation) -> bool {
        let is_paused = matches!(self.passage, Passage::Paused(to) if to == incarnation);
        if is_paused {
            self.passage = Passage::Open(incarnation);
        }
        is_paused
    }

    /// How many requests are left in flight, where the supervisor waits to be told.
    pub(crate) fn close(&mut self, incarnation: Incarnation) -> Option<u32> {
        if self.passage.incarnation() != Some(incarnation) {
            return None;
        }
        let waits = matches!(self.passage, Passage::Draining(..));
        self.passage = Passage::Closed;
        waits.then(|| self.in_flight())
    }

    /// When the use ended that a launch has at its end.
    pub(crate) fn use_ended(&mut self) -> Option<Uptime> {
        let Usage::Ending(at, _) = self.usage else { return None };
        self.usage = Usage::Idle;
        Some(at)
    }

    pub(crate) fn set_slots(&mut self, incarnation: Incarnation, slots: NonZeroU32) {
        if self.passage.incarnation() == Some(incarnation) {
            self.slots = Some(slots);
        }
    }

    /// Whether nothing is in flight; an error with how many are, where that is refused.
    pub(crate) fn release(&mut self, incarnation: Incarnation, drain: Duration, now: Uptime) -> Result<bool, u32> {
        if self.passage.incarnation() != Some(incarnation) {
            // What opens the gate later finds it released. A later launch is not meant.
            if self.passage.incarnation().is_none_or(|known| known < incarnation) {
                (self.working, self.light, self.slots, self.usage) = (0, 0, None, Usage::Idle);
                self.passage = Passage::Unopened(incarnation);
            }
            return Ok(true);
        }
        if matches!(self.passage, Passage::Unopened(_)) {
            return Ok(true);
        }
        let in_flight = self.in_flight();
        if in_flight == 0 {
            self.passage = Passage::Released(incarnation);
            return Ok(true);
        }
        if drain.is_zero() {
            return Err(in_flight);
        }
        let until = (drain < Duration::MAX).then(|| now + drain);
        let sooner = match self.passage {
            Passage::Draining(_, Some(known)) => Some(until.map_or(known, |until| until.min(known))),
            _ => until,
        };
        self.passage = Passage::Draining(incarnation, sooner);
        Ok(false)
    }

    pub(crate) fn reopen(&mut self, incarnation: Incarnation) {
        if matches!(self.passage, Passage::Draining(to, _) | Passage::Released(to) if to == incarnation) {
            self.passage = Passage::Open(incarnation);
        }
        // It is opened by whoever would have opened it.
        if matches!(self.passage, Passage::Unopened(to) if to == incarnation) {
            self.passage = Passage::Closed;
        }
    }

    /// A request has worked for so long.
    pub(crate) fn note_work(&mut self, took: Duration) {
        self.pace.note(took);
    }

    /// A launch took so long to become ready.
    pub(crate) fn note_load(&mut self, took: Duration) {
        self.loads.note(took);
    }

    pub(crate) fn expected_load(&self) -> Option<Duration> {
        self.loads.median()
    }

    /// How long a request that comes now waits for its turn, by how long earlier ones worked. `None` before the first.
    pub(crate) fn expected_turn(&self) -> Option<Duration> {
        let waiting = u32::try_from(self.queue.len()).unwrap_or(u32::MAX);
        self.pace.mean().map(|mean| mean.saturating_mul(waiting) / self.limit().max(1))
    }

    pub(crate) fn standing(&self) -> GateStanding {
        GateStanding { in_flight: self.in_flight(), waiting: self.queue.len() }
    }

    pub(crate) fn next_deadline(&self) -> Option<Uptime> {
        let drain = match self.passage {
            Passage::Draining(_, until) => until,
            _ => None,
        };
        let idle = match self.usage {
            Usage::Ending(_, told_at) => Some(told_at),
            _ => None,
        };
        drain.into_iter().chain(idle).chain(self.told_next()).min()
    }

    /// The launch whose time to drain is over, and what is left in flight.
    pub(crate) fn drained(&mut self, now: Uptime) -> Option<(Incarnation, u32)> {
        let Passage::Draining(incarnation, Some(until)) = self.passage else { return None };
        if until > now {
            return None;
        }
        self.passage = Passage::Released(incarnation);
        Some((incarnation, self.in_flight()))
    }

    /// The launch that is idle for long enough that it is told, and since when.
    pub(crate) fn idle_since(&mut self, now: Uptime) -> Option<(Incarnation, Uptime)> {
        let Usage::Ending(at, told_at) = self.usage else { return None };
        if told_at > now {
            return None;
        }
        self.usage = Usage::Idle;
        self.passage.incarnation().map(|incarnation| (incarnation, at))
    }
}
