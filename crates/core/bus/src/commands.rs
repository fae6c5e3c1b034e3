//! The lane of commands: one owner for each set, known before anything runs.
//!
//! A set is a type ([`CommandSet`]), so that a component in another crate can bring sets of its own. Each command carries the number of
//! the last event that its sender could have seen; an [`Inbox`](crate::Inbox) delivers it behind that event.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use llama_warden_events::{CommandSet, NoCommand, RefusalReason, Refused, Seq, TraceParent, Uptime};
use tokio::sync::{mpsc, oneshot};

use crate::lock::lock;
use crate::{Bus, Clock};

/// Commands of one set that wait for their owner, urgent and other ones each. When it is full, the sender is refused
/// with `queue-full` and may try again.
const QUEUE: usize = 1024;

/// A command with its cause and its deadline.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandRequest<C> {
    /// The command.
    pub command: C,
    /// The event that led to it.
    pub cause: Option<Seq>,
    /// After this time the command is refused instead of delivered.
    pub deadline: Option<Uptime>,
    /// The trace that its sender continues.
    pub trace: Option<TraceParent>,
}

impl<C: CommandSet> From<C> for CommandRequest<C> {
    fn from(command: C) -> Self {
        Self::new(command)
    }
}

impl<C> CommandRequest<C> {
    /// A request without a cause or a deadline.
    pub const fn new(command: C) -> Self {
        Self { command, cause: None, deadline: None, trace: None }
    }

    /// Sets the event that led to it.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Option<Seq>>) -> Self {
        self.cause = cause.into();
        self
    }

    /// Sets the trace that its sender continues.
    #[must_use]
    pub fn traced(mut self, trace: Option<TraceParent>) -> Self {
        self.trace = trace;
        self
    }

    /// Sets its deadline.
    #[must_use]
    pub fn by(mut self, deadline: Uptime) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

/// A command was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The command's id, where the owner gives one: the `seq` of its `CommandAccepted` event.
    pub id: Option<Seq>,
}

/// A command set, by its type.
#[derive(Debug, Clone, Copy)]
pub struct CommandSetId {
    set: TypeId,
    name: &'static str,
}

impl CommandSetId {
    /// The id of the set `C`.
    pub const fn of<C: CommandSet>() -> Self {
        Self { set: TypeId::of::<C>(), name: C::NAME }
    }
}

/// A command set has no owner, or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OwnerError {
    /// Two components own one set.
    #[error("components `{first}` and `{second}` both own the `{set}` commands; one of them has to go")]
    SecondOwner {
        /// The set's name.
        set: &'static str,
        /// The component that owns it already.
        first: &'static str,
        /// The component that came second.
        second: &'static str,
    },
    /// A component sends commands that nobody owns.
    #[error("component `{sender}` sends `{set}` commands, which no component owns; add their owner")]
    NoOwner {
        /// The set's name.
        set: &'static str,
        /// The component that sends them.
        sender: &'static str,
    },
}

type ReplySender = oneshot::Sender<Result<Accepted, Refused>>;

#[derive(Debug)]
struct QueuedCommand<C> {
    request: CommandRequest<C>,
    /// The last event that was visible when it was sent.
    after: Seq,
    reply: ReplySender,
}

/// The sender's ends of one set's queues.
#[derive(Debug)]
struct CommandQueues<C> {
    urgent: mpsc::Sender<QueuedCommand<C>>,
    ordinary: mpsc::Sender<QueuedCommand<C>>,
}

impl<C> Clone for CommandQueues<C> {
    fn clone(&self) -> Self {
        Self { urgent: self.urgent.clone(), ordinary: self.ordinary.clone() }
    }
}

/// One set's owner, and its `CommandQueues` behind a type that the map can hold.
#[derive(Debug)]
struct Owner {
    name: &'static str,
    queues: Box<dyn Any + Send + Sync>,
}

type Owners = Mutex<BTreeMap<TypeId, Owner>>;

/// Connects senders with owners while the daemon is composed.
#[derive(Debug)]
pub struct CommandRouter {
    owners: Arc<Owners>,
    bus: Bus,
}

impl CommandRouter {
    /// A router on which no set has an owner. Commands are ordered behind the events of `bus`.
    pub fn new(bus: Bus) -> Self {
        Self { owners: Arc::default(), bus }
    }

    /// A sender to every owner, those that come later included.
    pub fn sender(&self) -> CommandSender {
        CommandSender { owners: self.owners.clone(), bus: self.bus.clone() }
    }

    /// Makes `owner` the owner of the set `C`.
    ///
    /// # Errors
    /// If the set has an owner already.
    pub fn own<C: CommandSet>(&mut self, owner: &'static str) -> Result<CommandReceiver<C>, OwnerError> {
        let (urgent, urgent_queue) = mpsc::channel(QUEUE);
        let (ordinary, ordinary_queue) = mpsc::channel(QUEUE);
        let receiver = CommandReceiver { urgent: urgent_queue, ordinary: ordinary_queue, clock: self.bus.clock() };
        let set = TypeId::of::<C>();
        // A component that owns no command needs no queues: its queues are closed.
        if set == TypeId::of::<NoCommand>() {
            return Ok(receiver);
        }
        let mut owners = lock(&self.owners);
        if let Some(known) = owners.get(&set) {
            return Err(OwnerError::SecondOwner { set: C::NAME, first: known.name, second: owner });
        }
        owners.insert(set, Owner { name: owner, queues: Box::new(CommandQueues::<C> { urgent, ordinary }) });
        Ok(receiver)
    }

    /// Checks that each set that `sender` sends has an owner.
    ///
    /// # Errors
    /// For the first set that has none.
    pub fn check(&self, sender: &'static str, sends: &[CommandSetId]) -> Result<(), OwnerError> {
        let owners = lock(&self.owners);
        match sends.iter().find(|id| !owners.contains_key(&id.set)) {
            Some(id) => Err(OwnerError::NoOwner { set: id.name, sender }),
            None => Ok(()),
        }
    }
}

/// Sends commands to their owners. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CommandSender {
    owners: Arc<Owners>,
    bus: Bus,
}

impl CommandSender {
    /// Posts a command without waiting. The returned future resolves when the owner has answered.
    ///
    /// A component polls it beside its other work and never waits for it alone.
    pub fn post<C: CommandSet>(&self, request: impl Into<CommandRequest<C>>) -> PendingReply {
        let request = request.into();
        let (reply, answer) = oneshot::channel();
        let refused = match self.queues::<C>() {
            Some(queues) => {
                let queue = if request.command.is_urgent() { &queues.urgent } else { &queues.ordinary };
                let queued = QueuedCommand { request, after: self.bus.latest_seq(), reply };
                queue.try_send(queued).err().map(|error| match error {
                    mpsc::error::TrySendError::Full(_) => {
                        Refused::new(RefusalReason::QueueFull, "too many commands wait; try again")
                    }
                    mpsc::error::TrySendError::Closed(_) => owner_gone(),
                })
            }
            None => Some(no_owner::<C>()),
        };
        PendingReply { answer, refused }
    }

    /// Sends a command and waits for the owner's answer.
    ///
    /// # Errors
    /// If the owner refuses it or is gone, or if too many commands wait.
    pub async fn send<C: CommandSet>(&self, request: impl Into<CommandRequest<C>>) -> Result<Accepted, Refused> {
        self.post(request).await
    }

    fn queues<C: CommandSet>(&self) -> Option<CommandQueues<C>> {
        let owners = lock(&self.owners);
        owners.get(&TypeId::of::<C>())?.queues.downcast_ref::<CommandQueues<C>>().cloned()
    }
}

fn no_owner<C: CommandSet>() -> Refused {
    Refused::new(RefusalReason::OwnerGone, format!("no component owns the `{}` commands", C::NAME))
}

fn owner_gone() -> Refused {
    Refused::new(RefusalReason::OwnerGone, "the component that does this has ended")
}

/// The owner's answer, as a future.
#[derive(Debug)]
pub struct PendingReply {
    answer: oneshot::Receiver<Result<Accepted, Refused>>,
    refused: Option<Refused>,
}

impl Future for PendingReply {
    type Output = Result<Accepted, Refused>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(refused) = self.refused.take() {
            return Poll::Ready(Err(refused));
        }
        Pin::new(&mut self.answer).poll(context).map(|answer| answer.unwrap_or_else(|_| Err(owner_gone())))
    }
}

/// The owner's end of a set of commands.
#[derive(Debug)]
pub struct CommandReceiver<C> {
    urgent: mpsc::Receiver<QueuedCommand<C>>,
    ordinary: mpsc::Receiver<QueuedCommand<C>>,
    clock: Clock,
}

impl<C: CommandSet> CommandReceiver<C> {
    /// The next command, urgent ones first. Never resolves for a component that owns none, nor when no command comes any
    /// more: a component ends by cancellation. Expired commands are refused here. Safe to cancel.
    ///
    /// Commands come in the order in which they were sent, but not in order with events: that is what [`Inbox`](crate::Inbox)
    /// is for.
    pub async fn recv(&mut self) -> ReceivedCommand<C> {
        loop {
            // Biased: a stop must overtake a hundred starts that were queued before it.
            let QueuedCommand { request, after, reply } = tokio::select! {
                biased;
                Some(queued) = self.urgent.recv() => queued,
                Some(queued) = self.ordinary.recv() => queued,
                else => return std::future::pending().await,
            };
            if request.deadline.is_some_and(|deadline| deadline < self.clock.now()) {
                answer(reply, Err(Refused::new(RefusalReason::Expired, "its deadline had passed")));
                continue;
            }
            let CommandRequest { command, cause, trace, .. } = request;
            return ReceivedCommand { command, cause, trace, after, reply };
        }
    }
}

/// A command that waits for an answer. Dropping it unanswered refuses it.
#[derive(Debug)]
pub struct ReceivedCommand<C> {
    /// The command.
    pub command: C,
    /// The event that led to it.
    pub cause: Option<Seq>,
    /// The trace that its sender continues.
    pub trace: Option<TraceParent>,
    /// The last event that was visible when it was sent.
    pub(crate) after: Seq,
    reply: ReplySender,
}

impl<C> ReceivedCommand<C> {
    /// Accepts the command; `id` is the `seq` of the `CommandAccepted` event, where one was published.
    pub fn accept(self, id: Option<Seq>) {
        answer(self.reply, Ok(Accepted { id }));
    }

    /// Refuses the command, with a reason for its sender.
    pub fn refuse(self, refused: Refused) {
        answer(self.reply, Err(refused));
    }

    /// Separates the command from its answer, which can then come later.
    pub fn split(self) -> (C, Option<Seq>, impl FnOnce(Result<Accepted, Refused>)) {
        let reply = self.reply;
        (self.command, self.cause, move |result| answer(reply, result))
    }
}

/// The sender may have been cancelled meanwhile and need no answer.
fn answer(reply: ReplySender, result: Result<Accepted, Refused>) {
    let _ = reply.send(result);
}
