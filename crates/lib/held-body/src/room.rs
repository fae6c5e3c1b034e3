//! The memory that the bodies of requests take together.
//!
//! Who gets no room is not read. A part of the memory is kept for the body that has been read for longest, so that bodies of unknown
//! length, each of which has a part of the room that it needs, do not wait for one another for ever.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use llama_warden_support::lock;
use llama_warden_traffic::{Counted, RouterTraffic};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::refused::{BodyRefusal, BodyRefused};

/// Longest wait for room.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The memory of all bodies.
#[derive(Debug)]
pub(crate) struct BodyMemory {
    /// The most that is taken at a time.
    most: u64,
    /// How much of it only the oldest reader takes.
    kept: u64,
    traffic: Arc<RouterTraffic>,
    taken: Mutex<TakenMemory>,
}

#[derive(Debug, Default)]
struct TakenMemory {
    bytes: u64,
    /// By their age.
    bodies: BTreeMap<u64, TakenRoom>,
    next_age: u64,
    /// How many of them wait.
    waiting: usize,
    /// Whose bytes are in what is kept for the oldest.
    beyond: Option<u64>,
}

#[derive(Debug)]
struct TakenRoom {
    bytes: u64,
    is_read: bool,
    /// It waits for so many bytes more.
    wants: Option<(u64, oneshot::Sender<()>)>,
}

/// The room of one body, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct BodyRoom {
    memory: Arc<BodyMemory>,
    age: u64,
    counted: Counted,
}

impl BodyMemory {
    /// `longest` is the length of the longest body.
    pub(crate) fn new(most: u64, longest: u64, traffic: Arc<RouterTraffic>) -> Arc<Self> {
        Arc::new(Self { most, kept: longest.min(most / 2), traffic, taken: Mutex::default() })
    }

    /// Room for a body that is read from now on: none at first.
    pub(crate) fn room(self: &Arc<Self>) -> BodyRoom {
        let mut taken = lock(&self.taken);
        taken.next_age += 1;
        let age = taken.next_age;
        taken.bodies.insert(age, TakenRoom { bytes: 0, is_read: true, wants: None });
        BodyRoom { memory: self.clone(), age, counted: self.traffic.hold_body(0) }
    }

    /// What every reader may take of, and not the oldest alone.
    const fn shared(&self) -> u64 {
        self.most - self.kept
    }

    /// Takes room at once, where nobody waits for it and all of them may take it.
    fn takes(&self, age: u64, bytes: u64) -> bool {
        let mut taken = lock(&self.taken);
        let after = taken.bytes + bytes;
        if taken.waiting > 0 || after > self.shared() {
            return false;
        }
        taken.bytes = after;
        if let Some(room) = taken.bodies.get_mut(&age) {
            room.bytes += bytes;
        }
        true
    }

    /// Gives room to those that wait, the oldest first. One that wants more than there is keeps nobody waiting.
    fn settle(&self, taken: &mut TakenMemory) {
        let shared = self.shared();
        if taken.bytes <= shared {
            taken.beyond = None;
        }
        if taken.waiting == 0 {
            return;
        }
        let oldest = taken.bodies.iter().find(|(_, room)| room.is_read).map(|(age, _)| *age);
        for (age, room) in &mut taken.bodies {
            let Some((wanted, _)) = &room.wants else { continue };
            let after = taken.bytes + wanted;
            let is_first = Some(*age) == oldest && taken.beyond.is_none_or(|beyond| beyond == *age);
            if after > if is_first { self.most } else { shared } {
                continue;
            }
            if after > shared {
                taken.beyond = Some(*age);
            }
            taken.bytes = after;
            room.bytes += wanted;
            if let Some((_, told)) = room.wants.take() {
                taken.waiting -= 1;
                // One that has left gives it back when it is dropped.
                let _ = told.send(());
            }
        }
    }
}

impl BodyRoom {
    /// Takes more, as soon as there is room.
    pub(crate) async fn grow(&mut self, bytes: u64) -> Result<(), BodyRefused> {
        if !self.memory.takes(self.age, bytes) && timeout(LONGEST_WAIT, self.wait(bytes)).await.is_err() {
            let message = "the memory for bodies of requests is taken (`router.body-memory`): try again";
            return Err(BodyRefused::new(BodyRefusal::NoRoom, message));
        }
        self.counted.grow(bytes);
        Ok(())
    }

    /// Waits among the others until there is room, and takes it.
    async fn wait(&self, bytes: u64) {
        let (told, granted) = oneshot::channel();
        {
            let mut taken = lock(&self.memory.taken);
            if let Some(room) = taken.bodies.get_mut(&self.age) {
                room.wants = Some((bytes, told));
                taken.waiting += 1;
            }
            self.memory.settle(&mut taken);
        }
        // Not dropped untold: the room of this body is there as long as it waits.
        let _ = granted.await;
    }

    /// The body is read, or is read no further than it is sent.
    pub(crate) fn is_read(&self) {
        let mut taken = lock(&self.memory.taken);
        if let Some(room) = taken.bodies.get_mut(&self.age) {
            room.is_read = false;
        }
        self.memory.settle(&mut taken);
    }
}

impl Drop for BodyRoom {
    fn drop(&mut self) {
        let mut taken = lock(&self.memory.taken);
        if let Some(room) = taken.bodies.remove(&self.age) {
            taken.bytes -= room.bytes;
            taken.waiting -= usize::from(room.wants.is_some());
        }
        if taken.beyond == Some(self.age) {
            taken.beyond = None;
        }
        self.memory.settle(&mut taken);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn memory() -> Arc<BodyMemory> {
        BodyMemory::new(100, 40, Arc::default())
    }

    fn grows(room: &mut BodyRoom, bytes: u64) -> bool {
        matches!(room.grow(bytes).now_or_never(), Some(Ok(())))
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_reader_goes_on_while_the_others_have_what_is_left() {
        let memory = memory();
        let [mut first, mut second, mut third] = [(); 3].map(|()| memory.room());
        assert!(grows(&mut first, 20) && grows(&mut second, 40));
        let mut waiting = Box::pin(third.grow(10));
        assert!((&mut waiting).now_or_never().is_none(), "the rest is kept for the first");
        assert!(grows(&mut first, 40), "and taken by it");
        // The first is read, and the second is the oldest reader now; but the first still has what is kept for it.
        first.is_read();
        assert!(!grows(&mut second, 10));
        drop(first);
        assert!(waiting.now_or_never().expect("there is room").is_ok());
        assert!(grows(&mut second, 40));
        assert!(!grows(&mut third, 1));
        assert_eq!(memory.traffic.body_bytes(), 90);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gets_no_room_in_time_is_told_so_and_a_small_one_passes_it() {
        let memory = memory();
        let [mut first, mut second, mut third] = [(); 3].map(|()| memory.room());
        assert!(grows(&mut first, 40));
        first.is_read();
        second.is_read();
        let fault = {
            let mut waiting = Box::pin(second.grow(30));
            assert!((&mut waiting).now_or_never().is_none());
            assert!(grows(&mut third, 20));
            waiting.await.expect_err("it waits too long")
        };
        assert_eq!(fault.because, BodyRefusal::NoRoom);
        drop((first, second, third));
        assert_eq!((memory.traffic.body_bytes(), lock(&memory.taken).bytes), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_leaves_while_it_waits_takes_nothing() {
        let memory = memory();
        let [mut first, mut second] = [(); 2].map(|()| memory.room());
        assert!(grows(&mut first, 60) && !grows(&mut second, 60));
        drop(second);
        drop(first);
        assert!(grows(&mut memory.room(), 100));
        assert_eq!(lock(&memory.taken).bytes, 0);
    }
}
