//! Orders for a running launch, queued until its task takes them.
//!
//! Hardly any order ever comes, and a launch lives for months, hence the slot channel. Invariant: the queue is bounded.

use std::future::poll_fn;
use std::task::{Context, Poll};

use llama_warden_events::{Rung, Seq, Signal};
use llama_warden_support::{SlotReceiver, SlotSender, slot_channel};

/// Signals that may be queued. A ladder has few rungs; a sender that finds the queue full may try again.
pub(crate) const MAX_QUEUED_SIGNALS: usize = 8;

/// An order that a launch carries out at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LaunchOrder {
    /// Deliver a signal.
    Signal(SignalOrder),
    /// Tell the next daemon that the server was ready.
    NoteReady,
    /// Leave the process to the next daemon.
    Leave,
    /// End now, because the launcher ends.
    CallOff,
}

/// A signal to deliver, and what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SignalOrder {
    pub(crate) signal: Signal,
    pub(crate) rung: Rung,
    pub(crate) cause: Option<Seq>,
}

/// A question: which process listens on the server's address?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListenerInquiry {
    pub(crate) cause: Option<Seq>,
}

/// An order that was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undelivered {
    /// [`MAX_QUEUED_SIGNALS`] signals are queued already.
    Full,
    /// The launch has ended.
    Over,
}

/// Sends orders to a launch.
#[derive(Debug)]
pub(crate) struct LaunchHandle(SlotSender<QueuedOrders>);

/// Receives the orders, in the one task of the launch. Dropping it ends the launch for every sender.
#[derive(Debug)]
pub(crate) struct LaunchInbox(SlotReceiver<QueuedOrders>);

#[derive(Debug, Default)]
struct QueuedOrders {
    signals: Vec<SignalOrder>,
    inquiry: Option<ListenerInquiry>,
    is_ready_noted: bool,
    is_left: bool,
    is_called_off: bool,
}

/// An empty inbox and the handle that sends to it.
pub(crate) fn launch_channel() -> (LaunchHandle, LaunchInbox) {
    let (sender, receiver) = slot_channel();
    (LaunchHandle(sender), LaunchInbox(receiver))
}

impl LaunchHandle {
    /// Queues a signal; signals are taken in the order in which they came.
    pub(crate) fn signal(&self, order: SignalOrder) -> Result<(), Undelivered> {
        self.update(|queued| {
            let has_room = queued.signals.len() < MAX_QUEUED_SIGNALS;
            has_room.then(|| queued.signals.push(order)).ok_or(Undelivered::Full)
        })
    }

    /// Queues a question. If one is queued already, its answer answers both.
    pub(crate) fn ask_listener(&self, inquiry: ListenerInquiry) -> Result<(), Undelivered> {
        self.update(|queued| {
            queued.inquiry.get_or_insert(inquiry);
            Ok(())
        })
    }

    /// Notes for the next daemon that the server was ready.
    pub(crate) fn note_ready(&self) {
        // A closed channel is a launch that has ended already.
        let _ = self.0.update(|queued| queued.is_ready_noted = true);
    }

    /// Has the launch leave its process to the next daemon.
    pub(crate) fn leave(&self) {
        // A closed channel is a launch that has ended already.
        let _ = self.0.update(|queued| queued.is_left = true);
    }

    /// Has the launch end at once, before it takes any queued signal.
    pub(crate) fn call_off(&self) {
        // A closed channel is a launch that has ended already.
        let _ = self.0.update(|queued| queued.is_called_off = true);
    }

    fn update(&self, change: impl FnOnce(&mut QueuedOrders) -> Result<(), Undelivered>) -> Result<(), Undelivered> {
        self.0.update(change).unwrap_or(Err(Undelivered::Over))
    }
}

impl LaunchInbox {
    /// The next order. Safe to cancel.
    pub(crate) async fn next_order(&self) -> LaunchOrder {
        poll_fn(|context| self.poll_order(context)).await
    }

    /// The next order, or a wake when there is one.
    pub(crate) fn poll_order(&self, context: &Context<'_>) -> Poll<LaunchOrder> {
        self.0.poll_take(context, QueuedOrders::next_order)
    }

    /// The next question, or a wake when there is one.
    pub(crate) fn poll_inquiry(&self, context: &Context<'_>) -> Poll<ListenerInquiry> {
        self.0.poll_take(context, |queued| queued.inquiry.take())
    }
}

impl QueuedOrders {
    fn next_order(&mut self) -> Option<LaunchOrder> {
        if std::mem::take(&mut self.is_called_off) {
            return Some(LaunchOrder::CallOff);
        }
        if std::mem::take(&mut self.is_ready_noted) {
            return Some(LaunchOrder::NoteReady);
        }
        if std::mem::take(&mut self.is_left) {
            return Some(LaunchOrder::Leave);
        }
        (!self.signals.is_empty()).then(|| LaunchOrder::Signal(self.signals.remove(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(index: u8) -> SignalOrder {
        SignalOrder { signal: Signal::TERM, rung: Rung { index, signal: Signal::TERM }, cause: None }
    }

    #[tokio::test]
    async fn signals_are_taken_in_order_whether_they_come_before_or_after_the_wait() {
        let (handle, inbox) = launch_channel();
        handle.signal(order(0)).expect("room");
        handle.signal(order(1)).expect("room");
        assert_eq!(inbox.next_order().await, LaunchOrder::Signal(order(0)));
        assert_eq!(inbox.next_order().await, LaunchOrder::Signal(order(1)));
        let waits = tokio::spawn(async move { inbox.next_order().await });
        tokio::task::yield_now().await;
        handle.signal(order(2)).expect("room");
        assert_eq!(waits.await.expect("no panic"), LaunchOrder::Signal(order(2)));
    }

    #[tokio::test]
    async fn a_call_off_comes_before_queued_signals_and_once() {
        let (handle, inbox) = launch_channel();
        handle.signal(order(0)).expect("room");
        handle.call_off();
        assert_eq!(inbox.next_order().await, LaunchOrder::CallOff);
        assert_eq!(inbox.next_order().await, LaunchOrder::Signal(order(0)));
        let waits = tokio::spawn(async move { inbox.next_order().await });
        tokio::task::yield_now().await;
        handle.call_off();
        assert_eq!(waits.await.expect("no panic"), LaunchOrder::CallOff);
        handle.call_off();
    }

    #[tokio::test]
    async fn signals_are_bounded_and_questions_are_joined() {
        let (handle, inbox) = launch_channel();
        for rung in 0..MAX_QUEUED_SIGNALS {
            handle.signal(order(u8::try_from(rung).expect("small"))).expect("room");
        }
        assert_eq!(handle.signal(order(9)), Err(Undelivered::Full));
        for cause in [Some(Seq::new(1)), Some(Seq::new(2))] {
            handle.ask_listener(ListenerInquiry { cause }).expect("room");
        }
        let inquiry = poll_fn(|context| inbox.poll_inquiry(context)).await;
        assert_eq!(inquiry.cause, Some(Seq::new(1)));
        drop(inbox);
        assert_eq!(handle.ask_listener(ListenerInquiry { cause: None }), Err(Undelivered::Over));
    }
}
