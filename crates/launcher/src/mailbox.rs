//! What is asked of a launch, until its task takes it.
//!
//! Hardly anything ever is, and a launch lives for months, so that a place with nothing in it costs next to nothing: a
//! channel would keep room for 32 messages. Invariant: what waits has a bound.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use llama_warden_events::{Rung, Seq, Signal};
use tokio::sync::Notify;

/// Signals that wait. A ladder has few rungs; when there is no room the sender may try again.
pub(crate) const SIGNALS: usize = 8;

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
pub(crate) struct Postman {
    shared: Arc<Shared>,
}

/// A launch's own end. Dropped, it takes nothing any more.
#[derive(Debug)]
pub(crate) struct Mailbox {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    signals: VecDeque<SignalOrder>,
    inquiry: Option<ListenerInquiry>,
    is_over: bool,
}

/// An empty mailbox and the way to it.
pub(crate) fn mailbox() -> (Postman, Mailbox) {
    let shared = Arc::new(Shared::default());
    (Postman { shared: Arc::clone(&shared) }, Mailbox { shared })
}

impl Postman {
    /// Brings a signal; signals are taken in the order in which they came.
    pub(crate) fn signal(&self, order: SignalOrder) -> Result<(), Undelivered> {
        self.bring(|waiting| {
            let has_room = waiting.signals.len() < SIGNALS;
            has_room.then(|| waiting.signals.push_back(order)).ok_or(Undelivered::Full)
        })
    }

    /// Brings a question; one that waits already is answered with it.
    pub(crate) fn inquire(&self, inquiry: ListenerInquiry) -> Result<(), Undelivered> {
        self.bring(|waiting| {
            waiting.inquiry.get_or_insert(inquiry);
            Ok(())
        })
    }

    fn bring(&self, put: impl FnOnce(&mut Waiting) -> Result<(), Undelivered>) -> Result<(), Undelivered> {
        let mut waiting = self.shared.waiting();
        if waiting.is_over {
            return Err(Undelivered::Over);
        }
        put(&mut waiting)?;
        drop(waiting);
        self.shared.news.notify_waiters();
        Ok(())
    }
}

impl Mailbox {
    /// The next signal. Safe to cancel.
    pub(crate) async fn next_signal(&self) -> SignalOrder {
        self.next(|waiting| waiting.signals.pop_front()).await
    }

    /// The next question. Safe to cancel.
    pub(crate) async fn next_inquiry(&self) -> ListenerInquiry {
        self.next(|waiting| waiting.inquiry.take()).await
    }

    async fn next<T>(&self, take: impl Fn(&mut Waiting) -> Option<T>) -> T {
        loop {
            // Before the look: what comes after it is heard.
            let news = self.shared.news.notified();
            if let Some(mail) = take(&mut self.shared.waiting()) {
                return mail;
            }
            news.await;
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.shared.waiting().is_over = true;
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
        let (postman, mailbox) = mailbox();
        postman.signal(order(0)).expect("room");
        postman.signal(order(1)).expect("room");
        assert_eq!(mailbox.next_signal().await, order(0));
        assert_eq!(mailbox.next_signal().await, order(1));
        let waits = tokio::spawn(async move { mailbox.next_signal().await });
        tokio::task::yield_now().await;
        postman.signal(order(2)).expect("room");
        assert_eq!(waits.await.expect("no panic"), order(2));
    }

    #[tokio::test]
    async fn a_signal_and_a_question_reach_whoever_waits_for_both() {
        let (postman, mailbox) = mailbox();
        let waits = tokio::spawn(async move {
            tokio::join!(mailbox.next_signal(), mailbox.next_inquiry());
        });
        tokio::task::yield_now().await;
        postman.inquire(ListenerInquiry { cause: None }).expect("room");
        postman.signal(order(0)).expect("room");
        waits.await.expect("no panic");
    }

    #[tokio::test]
    async fn signals_have_a_bound_and_questions_are_joined() {
        let (postman, mailbox) = mailbox();
        for rung in 0..SIGNALS {
            postman.signal(order(u8::try_from(rung).expect("small"))).expect("room");
        }
        assert_eq!(postman.signal(order(9)), Err(Undelivered::Full));
        for cause in [Some(Seq::new(1)), Some(Seq::new(2))] {
            postman.inquire(ListenerInquiry { cause }).expect("room");
        }
        assert_eq!(mailbox.next_inquiry().await.cause, Some(Seq::new(1)));
        drop(mailbox);
        assert_eq!(postman.inquire(ListenerInquiry { cause: None }), Err(Undelivered::Over));
    }
}
