//! The bus of a simulation. It keeps the promises of the real one, and nothing happens on it by itself: the simulation decides
//! when an event is numbered, when a component reads, and when a component has missed events.

use std::collections::VecDeque;
use std::sync::Arc;

use llama_warden_bus::{Delivery, EventDraft};
use llama_warden_events::{BootId, CommandSet, Envelope, Seq, Timestamp, Uptime};
use llama_warden_state::Snapshot;

/// The time that every event has on the wall.
const WALL_TIME: &str = "2026-01-01T00:00:00Z";

/// Events in their order, and the snapshot after them. By default there are none.
#[derive(Debug)]
pub struct SimulatedBus {
    boot: BootId,
    at: Timestamp,
    published: VecDeque<EventDraft>,
    log: Vec<Arc<Envelope>>,
    snapshot: Arc<Snapshot>,
}

impl Default for SimulatedBus {
    fn default() -> Self {
        let boot = BootId::from_random(1);
        let at = Timestamp::new(WALL_TIME.parse().unwrap_or_else(|error| panic!("{error}")));
        Self { boot, at, published: VecDeque::new(), log: Vec::new(), snapshot: Arc::new(Snapshot::new(boot)) }
    }
}

impl SimulatedBus {
    /// Queues an event for its number. Returns how many events there will be once it has it.
    pub fn publish(&mut self, draft: EventDraft) -> Seq {
        self.published.push_back(draft);
        Seq::new((self.log.len() + self.published.len()) as u64)
    }

    /// Numbers the oldest published event, and makes it visible.
    pub fn sequence(&mut self, now: Uptime) -> Option<Arc<Envelope>> {
        let EventDraft { server, incarnation, cause, event } = self.published.pop_front()?;
        let (seq, boot, at) = (self.latest().next(), self.boot, self.at);
        let envelope = Arc::new(Envelope { seq, boot, at, elapsed: now, server, incarnation, cause, event });
        Arc::make_mut(&mut self.snapshot).apply(&envelope);
        self.log.push(Arc::clone(&envelope));
        Some(envelope)
    }

    /// The number of the latest visible event.
    pub fn latest(&self) -> Seq {
        Seq::new(self.log.len() as u64)
    }

    /// Every visible event.
    pub fn log(&self) -> &[Arc<Envelope>] {
        &self.log
    }

    /// The state after the latest visible event.
    pub const fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }
}

/// A command on its way to its owner.
#[derive(Debug)]
pub struct SentCommand<C> {
    /// The command.
    pub command: C,
    /// What led to it.
    pub cause: Option<Seq>,
    /// The last event that its sender could have seen.
    after: Seq,
    /// A number of its sender, for the reply.
    pub request: u64,
}

/// What a component reads next.
#[derive(Debug)]
pub enum SimulatedIncoming<C> {
    /// An event, or a gap.
    Delivery(Delivery),
    /// A command, behind the events that its sender could have seen.
    Command(SentCommand<C>),
}

/// The events from the first one on, and the commands of one component, as `Inbox` orders them.
#[derive(Debug)]
pub struct SimulatedInbox<C> {
    /// The number of the next event.
    next: Seq,
    urgent: VecDeque<SentCommand<C>>,
    ordinary: VecDeque<SentCommand<C>>,
    held: Option<SentCommand<C>>,
}

impl<C> Default for SimulatedInbox<C> {
    fn default() -> Self {
        Self { next: Seq::new(1), urgent: VecDeque::new(), ordinary: VecDeque::new(), held: None }
    }
}

impl<C: CommandSet> SimulatedInbox<C> {
    /// Queues a command.
    pub fn send(&mut self, bus: &SimulatedBus, command: C, cause: Option<Seq>, request: u64) {
        let is_urgent = command.is_urgent();
        let sent = SentCommand { command, cause, after: bus.latest(), request };
        if is_urgent { self.urgent.push_back(sent) } else { self.ordinary.push_back(sent) }
    }

    /// How many events it has not read.
    pub fn behind(&self, bus: &SimulatedBus) -> u64 {
        (bus.latest().get() + 1).saturating_sub(self.next.get())
    }

    /// Whether there is something to read.
    pub fn is_idle(&self, bus: &SimulatedBus) -> bool {
        self.behind(bus) == 0 && self.held.is_none() && self.urgent.is_empty() && self.ordinary.is_empty()
    }

    /// The next event or command. Where there are both, `command_first` decides, as chance does on the real bus.
    pub fn read(&mut self, bus: &SimulatedBus, command_first: bool) -> Option<SimulatedIncoming<C>> {
        if self.held.is_none() && (command_first || self.behind(bus) == 0) {
            self.held = self.urgent.pop_front().or_else(|| self.ordinary.pop_front());
        }
        if let Some(held) = self.held.take_if(|held| self.next > held.after) {
            return Some(SimulatedIncoming::Command(held));
        }
        let envelope = bus.log().get(self.next.get() as usize - 1)?;
        self.next = self.next.next();
        Some(SimulatedIncoming::Delivery(Delivery::Event(Arc::clone(envelope))))
    }

    /// Misses every event that it has not read.
    pub fn miss(&mut self, bus: &SimulatedBus) -> Option<Delivery> {
        let missed = self.behind(bus);
        if missed == 0 {
            return None;
        }
        self.next = bus.latest().next();
        Some(Delivery::Gap { missed, snapshot: Arc::clone(bus.snapshot()) })
    }
}
