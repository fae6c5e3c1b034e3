//! The lane of commands: one owner for each set, known before anything runs.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use llama_warden_events::{Command, CommandKind, CommandSet, RefusalReason, Refused, Seq, Uptime};
use tokio::sync::{mpsc, oneshot};

use crate::Clock;

/// Commands of one set that wait for their owner, urgent and other ones each. When it is full, the sender is refused
/// with `queue-full` and may try again.
const QUEUE: usize = 1024;

/// A command with what goes along.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandRequest {
    /// What is asked.
    pub command: Command,
    /// The event that led here.
    pub cause: Option<Seq>,
    /// When it stops making sense; the owner never sees it after that.
    pub deadline: Option<Uptime>,
}

impl<C: Into<Command>> From<C> for CommandRequest {
    fn from(command: C) -> Self {
        Self { command: command.into(), cause: None, deadline: None }
    }
}

impl CommandRequest {
    /// An order without a cause or a deadline.
    pub fn new(command: impl Into<Command>) -> Self {
        command.into().into()
    }

    /// Names the event that led here.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Option<Seq>>) -> Self {
        self.cause = cause.into();
        self
    }

    /// Sets when it stops making sense.
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

/// How the composition of commands and owners is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CompositionError {
    /// Two components own one set.
    #[error("component `{second}` owns {kind:?} commands, which already have an owner")]
    SecondOwner {
        /// The set.
        kind: CommandKind,
        /// Who came second.
        second: &'static str,
    },
    /// Nobody owns a set.
    #[error("no component owns {kind:?} commands")]
    NoOwner {
        /// The set.
        kind: CommandKind,
    },
}

type Reply = oneshot::Sender<Result<Accepted, Refused>>;

#[derive(Debug)]
struct QueuedCommand {
    order: CommandRequest,
    reply: Reply,
}

#[derive(Debug, Clone)]
struct Route {
    urgent: mpsc::Sender<QueuedCommand>,
    ordinary: mpsc::Sender<QueuedCommand>,
}

#[derive(Debug)]
struct CommandQueue {
    urgent: mpsc::Receiver<QueuedCommand>,
    ordinary: mpsc::Receiver<QueuedCommand>,
}

/// Connects senders with owners while the daemon is composed.
#[derive(Debug)]
pub struct CommandRouter {
    routes: Arc<[Route]>,
    boxes: Vec<(CommandKind, Option<CommandQueue>)>,
    clock: Clock,
}

impl CommandRouter {
    /// A router on which no set has an owner.
    pub fn new(clock: Clock) -> Self {
        let (routes, boxes): (Vec<_>, Vec<_>) = CommandKind::ALL
            .into_iter()
            .map(|kind| {
                let (urgent, urgent_queue) = mpsc::channel(QUEUE);
                let (ordinary, ordinary_queue) = mpsc::channel(QUEUE);
                let queue = CommandQueue { urgent: urgent_queue, ordinary: ordinary_queue };
                (Route { urgent, ordinary }, (kind, Some(queue)))
            })
            .unzip();
        Self { routes: routes.into(), boxes, clock }
    }

    /// A sender to every owner.
    pub fn sender(&self) -> CommandSender {
        CommandSender { routes: self.routes.clone() }
    }

    /// Makes `owner` the owner of the set `C`.
    pub fn take<C: CommandSet>(&mut self, owner: &'static str) -> Result<CommandReceiver<C>, CompositionError> {
        let queue = match C::KIND {
            None => None,
            Some(kind) => {
                let slot = self.boxes.iter_mut().find(|(known, _)| *known == kind).and_then(|(_, slot)| slot.take());
                Some(slot.ok_or(CompositionError::SecondOwner { kind, second: owner })?)
            }
        };
        Ok(CommandReceiver { queue, clock: self.clock, set: PhantomData })
    }

    /// Checks that every set has its owner.
    pub fn check(&self) -> Result<(), CompositionError> {
        match self.boxes.iter().find(|(_, slot)| slot.is_some()) {
            Some((kind, _)) => Err(CompositionError::NoOwner { kind: *kind }),
            None => Ok(()),
        }
    }
}

/// Sends commands to their owners. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CommandSender {
    routes: Arc<[Route]>,
}

impl CommandSender {
    /// Posts a command without waiting; what comes back resolves when the owner has answered.
    ///
    /// A component polls it beside its other work and never waits for it alone.
    pub fn post(&self, order: impl Into<CommandRequest>) -> PendingReply {
        let order = order.into();
        let (reply, answer) = oneshot::channel();
        let kind = order.command.kind();
        let urgent = order.command.is_urgent();
        let queued = QueuedCommand { order, reply };
        let refused = match CommandKind::ALL.iter().position(|known| *known == kind) {
            Some(index) => {
                let route = &self.routes[index];
                let queue = if urgent { &route.urgent } else { &route.ordinary };
                queue.try_send(queued).err().map(|error| match error {
                    mpsc::error::TrySendError::Full(_) => {
                        Refused::new(RefusalReason::QueueFull, "too many commands wait; try again")
                    }
                    mpsc::error::TrySendError::Closed(_) => owner_gone(),
                })
            }
            None => Some(owner_gone()),
        };
        PendingReply { answer, refused }
    }

    /// Sends a command and waits for the owner's answer.
    pub async fn send(&self, order: impl Into<CommandRequest>) -> Result<Accepted, Refused> {
        self.post(order).await
    }
}

fn owner_gone() -> Refused {
    Refused::new(RefusalReason::OwnerGone, "the component that does this has ended")
}

/// The owner's answer, once it comes.
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
    queue: Option<CommandQueue>,
    clock: Clock,
    set: PhantomData<fn() -> C>,
}

impl<C: CommandSet> CommandReceiver<C> {
    /// The next command, urgent ones first. Never resolves for a component that owns none; `None` when every sender is
    /// gone. Expired commands are refused here. Safe to cancel.
    pub async fn recv(&mut self) -> Option<ReceivedCommand<C>> {
        let Some(queue) = &mut self.queue else { return std::future::pending().await };
        loop {
            // Biased: a stop must overtake a hundred starts that were queued before it.
            let queued = tokio::select! {
                biased;
                Some(queued) = queue.urgent.recv() => queued,
                Some(queued) = queue.ordinary.recv() => queued,
                else => return None,
            };
            if queued.order.deadline.is_some_and(|deadline| deadline < self.clock.now()) {
                answer(queued.reply, Err(Refused::new(RefusalReason::Expired, "its deadline had passed")));
                continue;
            }
            match C::from_command(queued.order.command) {
                Ok(command) => {
                    return Some(ReceivedCommand { command, cause: queued.order.cause, reply: queued.reply });
                }
                // Routes are by set, so this cannot happen; if it did, the sender would have to know.
                Err(_) => answer(queued.reply, Err(owner_gone())),
            }
        }
    }
}

/// A command that waits for an answer. Dropping it unanswered refuses it.
#[derive(Debug)]
pub struct ReceivedCommand<C> {
    /// What is asked.
    pub command: C,
    /// The event that led here.
    pub cause: Option<Seq>,
    reply: Reply,
}

impl<C> ReceivedCommand<C> {
    /// Accepts; `id` is the `seq` of the `CommandAccepted` event, where one was published.
    pub fn accept(self, id: Option<Seq>) {
        answer(self.reply, Ok(Accepted { id }));
    }

    /// Refuses.
    pub fn refuse(self, refused: Refused) {
        answer(self.reply, Err(refused));
    }

    /// Takes the command out, so that the answer can come later.
    pub fn split(self) -> (C, Option<Seq>, impl FnOnce(Result<Accepted, Refused>)) {
        let reply = self.reply;
        (self.command, self.cause, move |result| answer(reply, result))
    }
}

/// The sender may have gone away meanwhile; then nobody needs the answer.
fn answer(reply: Reply, result: Result<Accepted, Refused>) {
    let _ = reply.send(result);
}
