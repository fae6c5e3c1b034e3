//! A channel to a task that waits for months and hardly ever receives anything.
//!
//! The channel holds one value. Senders change it in place, and the receiver takes parts out of it. An empty channel costs one
//! small allocation, where a tokio channel keeps room for 32 messages from the start. The value decides what happens when more
//! arrives than was taken: it may refuse, replace or join.
//!
//! Invariant: a change that the receiver has not seen wakes it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The receiver was dropped: a change would not be received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the receiver is gone")]
pub struct SlotClosed;

/// The sending half.
#[derive(Debug)]
pub struct SlotSender<T> {
    shared: Arc<Mutex<Slot<T>>>,
}

/// The receiving half, for one task. Dropping it closes the channel.
#[derive(Debug)]
pub struct SlotReceiver<T> {
    shared: Arc<Mutex<Slot<T>>>,
}

#[derive(Debug, Default)]
struct Slot<T> {
    value: T,
    is_closed: bool,
    /// The task that polled last and found nothing.
    waiting: Option<Waker>,
}

/// A channel around the default value.
pub fn slot_channel<T: Default>() -> (SlotSender<T>, SlotReceiver<T>) {
    let shared = Arc::new(Mutex::new(Slot::default()));
    (SlotSender { shared: Arc::clone(&shared) }, SlotReceiver { shared })
}

impl<T> SlotSender<T> {
    /// Changes the value, wakes the receiver, and returns what `change` returned.
    ///
    /// # Errors
    /// If the receiver is gone; `change` is not called then.
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R, SlotClosed> {
        let mut slot = lock(&self.shared);
        if slot.is_closed {
            return Err(SlotClosed);
        }
        let result = change(&mut slot.value);
        let waiting = slot.waiting.take();
        // Woken without the lock: the task may run at once on another thread.
        drop(slot);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
        Ok(result)
    }
}

impl<T> SlotReceiver<T> {
    /// Takes a part out of the value; if `take` finds nothing, wakes the task at the next change.
    ///
    /// One task may poll for several parts: it is woken at any change. Of several tasks only the last to poll would be.
    pub fn poll_take<R>(&self, context: &Context<'_>, take: impl FnOnce(&mut T) -> Option<R>) -> Poll<R> {
        let mut slot = lock(&self.shared);
        match take(&mut slot.value) {
            Some(part) => Poll::Ready(part),
            None => {
                slot.waiting = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for SlotReceiver<T> {
    fn drop(&mut self) {
        let mut slot = lock(&self.shared);
        slot.is_closed = true;
        slot.waiting = None;
    }
}

/// Ignores poisoning: no change is left half done by a panic that a sender can cause.
fn lock<T>(shared: &Mutex<Slot<T>>) -> MutexGuard<'_, Slot<T>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_change_reaches_the_receiver_whether_it_comes_before_or_after_the_wait() {
        let (sender, receiver) = slot_channel::<Option<u8>>();
        sender.update(|value| *value = Some(1)).expect("open");
        assert_eq!(poll_fn(|context| receiver.poll_take(context, Option::take)).await, 1);
        let waits = tokio::spawn(async move { poll_fn(|context| receiver.poll_take(context, Option::take)).await });
        tokio::task::yield_now().await;
        sender.update(|value| *value = Some(2)).expect("open");
        assert_eq!(waits.await.expect("no panic"), 2);
    }

    #[tokio::test]
    async fn a_task_that_waits_for_two_parts_is_woken_by_either() {
        let (sender, receiver) = slot_channel::<(Option<u8>, Option<u8>)>();
        let waits = tokio::spawn(async move {
            let first = poll_fn(|context| receiver.poll_take(context, |value| value.0.take()));
            let second = poll_fn(|context| receiver.poll_take(context, |value| value.1.take()));
            tokio::join!(first, second)
        });
        tokio::task::yield_now().await;
        sender.update(|value| value.1 = Some(2)).expect("open");
        tokio::task::yield_now().await;
        sender.update(|value| value.0 = Some(1)).expect("open");
        assert_eq!(waits.await.expect("no panic"), (1, 2));
    }

    #[test]
    fn a_channel_without_its_receiver_is_closed() {
        let (sender, receiver) = slot_channel::<u8>();
        assert_eq!(sender.update(|value| *value + 1), Ok(1));
        drop(receiver);
        assert_eq!(sender.update(|value| *value + 1), Err(SlotClosed));
    }
}
