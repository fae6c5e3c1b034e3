//! What is asked of a launch, until its task takes it.
//!
//! Hardly anything ever is, and a launch lives for months, so that a place with nothing in it costs next to nothing: a
//! channel would keep room for 32 messages. Invariant: what waits has a bound.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use llama_warden_events::{Rung, Seq, Signal};

/// Signals that wait. A ladder has few rungs; when there is no room the sender may try again.
pub(crate) const MAX_QUEUED_SIGNALS: usize = 8;

/// What a launch is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LaunchOrder {
    /// Somebody asked for a signal.
    Signal(SignalOrder),
    /// The launcher ends, and its launches with it.
    CallOff,
}

/// A signal that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SignalOrder {
    pub(crate) signal: Signal,
    pub(crate) rung: Rung,
    pub(crate) cause: Option<Seq>,
}

/// Somebody asked who listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListenerInquiry {
    pub(crate) cause: Option<Seq>,
}

/// Why an order does not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undelivered {
    /// As many wait as there is room for.
    Full,
    /// The launch is over.
    Over,
}

/// The way to a launch.
#[derive(Debug)]
pub(crate) struct LaunchHandle {
    shared: Arc<Shared>,
}

/// A launch's own end, for the one task of the launch. Dropped, it takes nothing any more.
#[derive(Debug)]
pub(crate) struct LaunchInbox {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    signals: Vec<SignalOrder>,
    inquiry: Option<ListenerInquiry>,
    is_called_off: bool,
    is_over: bool,
    /// The launch's task, while it waits.
    reader: Option<Waker>,
}

/// An empty inbox and the way to it.
pub(crate) fn launch_channel() -> (LaunchHandle, LaunchInbox) {
    let shared = Arc::new(Shared::default());
    (LaunchHandle { shared: Arc::clone(&shared) }, LaunchInbox { shared })
}

impl LaunchHandle {
    /// Brings a signal; signals are taken in the order in which they came.
    pub(crate) fn signal(&self, order: SignalOrder) -> Result<(), Undelivered> {
        self.update(|waiting| {
            let has_room = waiting.signals.len() < MAX_QUEUED_SIGNALS;
            has_room.then(|| waiting.signals.push(order)).ok_or(Undelivered::Full)
        })
    }

    /// Brings a question; one that waits already is answered with it.
    pub(crate) fn ask_listener(&self, inquiry: ListenerInquiry) -> Result<(), Undelivered> {
        self.update(|waiting| {
            waiting.inquiry.get_or_insert(inquiry);
            Ok(())
        })
    }

    /// Tells the launch to end at once; it goes before all signals that wait.
    pub(crate) fn call_off(&self) {
        // One that is over has ended already.
        let _ = self.update(|waiting| {
            waiting.is_called_off = true;
            Ok(())
        });
    }

    fn update(&self, put: impl FnOnce(&mut Waiting) -> Result<(), Undelivered>) -> Result<(), Undelivered> {
        let mut waiting = self.shared.waiting();
        if waiting.is_over {
            return Err(Undelivered::Over);
        }
        put(&mut waiting)?;
        let reader = waiting.reader.take();
        drop(waiting);
        if let Some(reader) = reader {
            reader.wake();
        }
        Ok(())
    }
}

impl LaunchInbox {
    /// The next order. Safe to cancel.
    pub(crate) async fn next_order(&self) -> LaunchOrder {
        poll_fn(|context| self.poll_order(context)).await
    }

    /// The next order, or a wake when there is one.
    pub(crate) fn poll_order(&self, context: &Context<'_>) -> Poll<LaunchOrder> {
        self.poll(context, Waiting::next_order)
    }

    /// The next question, or a wake when there is one.
    pub(crate) fn poll_inquiry(&self, context: &Context<'_>) -> Poll<ListenerInquiry> {
        self.poll(context, |waiting| waiting.inquiry.take())
    }

    /// Wakes the latest task that asked, so that a task may wait for several things and several tasks may not.
    fn poll<T>(&self, context: &Context<'_>, take: impl Fn(&mut Waiting) -> Option<T>) -> Poll<T> {
        let mut waiting = self.shared.waiting();
        if let Some(mail) = take(&mut waiting) {
            return Poll::Ready(mail);
        }
        waiting.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for LaunchInbox {
    fn drop(&mut self) {
        let mut waiting = self.shared.waiting();
        waiting.is_over = true;
        waiting.reader = None;
    }
}

impl Waiting {
    fn next_order(&mut self) -> Option<LaunchOrder> {
        if std::mem::take(&mut self.is_called_off) {
            return Some(LaunchOrder::CallOff);
        }
        (!self.signals.is_empty()).then(|| LaunchOrder::Signal(self.signals.remove(0)))
    }
}

impl Shared {
    /// A poisoned lock only says that a thread died while it moved a value: each is whole.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
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
    async fn a_signal_and_a_question_reach_whoever_waits_for_both() {
        let (handle, inbox) = launch_channel();
        let waits = tokio::spawn(async move {
            tokio::join!(inbox.next_order(), poll_fn(|context| inbox.poll_inquiry(context)));
        });
        tokio::task::yield_now().await;
        handle.ask_listener(ListenerInquiry { cause: None }).expect("room");
        tokio::task::yield_now().await;
        handle.signal(order(0)).expect("room");
        waits.await.expect("no panic");
    }

    #[tokio::test]
    async fn who_is_called_off_hears_that_first_and_once() {
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
    async fn signals_have_a_bound_and_questions_are_joined() {
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
