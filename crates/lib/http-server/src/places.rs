//! Places for connections: a limited number, of which one that waits for a request gives way to a newcomer.
//!
//! Anybody who reaches a listener can open connections and say nothing. Of those, the one that has waited longest loses its place, so
//! that a newcomer never waits, and a client that asks soon is answered however many others come. A connection whose request is
//! being answered keeps its place.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use llama_warden_support::lock;
use tokio::sync::Notify;

/// The places of one listener.
#[derive(Debug)]
pub(crate) struct ConnectionPlaces {
    most: usize,
    taken: Mutex<TakenPlaces>,
}

#[derive(Debug, Default)]
struct TakenPlaces {
    /// Connections whose request is being answered.
    busy: usize,
    /// Connections that wait for a request, the one that has waited longest first.
    waiting: BTreeMap<u64, Arc<Notify>>,
    next_ticket: u64,
}

impl TakenPlaces {
    fn wait(&mut self, given_up: Arc<Notify>) -> PlaceState {
        self.next_ticket += 1;
        self.waiting.insert(self.next_ticket, given_up);
        PlaceState::Waiting(self.next_ticket)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlaceState {
    /// The number under which it waits.
    Waiting(u64),
    Busy,
    /// It has lost its place.
    GivenUp,
}

/// The place of one connection. Dropping it frees it.
#[derive(Debug)]
pub(crate) struct ConnectionPlace {
    places: Arc<ConnectionPlaces>,
    state: Mutex<PlaceState>,
    given_up: Arc<Notify>,
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct Answering(Arc<ConnectionPlace>);

impl ConnectionPlaces {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// A place for a connection that waits for its first request. `None` if every place is busy.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Arc<ConnectionPlace>> {
        let mut taken = lock(&self.taken);
        if taken.busy + taken.waiting.len() >= self.most {
            let (_, oldest) = taken.waiting.pop_first()?;
            oldest.notify_one();
        }
        let given_up = Arc::new(Notify::new());
        let state = Mutex::new(taken.wait(given_up.clone()));
        Some(Arc::new(ConnectionPlace { places: self.clone(), state, given_up }))
    }
}

impl ConnectionPlace {
    /// Returns when the connection has to end for a newcomer. For one task.
    pub(crate) async fn given_up(&self) {
        self.given_up.notified().await;
    }

    /// Whether the answer to a request is not handed to the connection yet.
    pub(crate) fn is_busy(&self) -> bool {
        *lock(&self.state) == PlaceState::Busy
    }

    /// Keeps the place until the answer to a request is dropped, whole or not.
    pub(crate) fn answer(self: &Arc<Self>) -> Answering {
        let mut state = lock(&self.state);
        if let PlaceState::Waiting(ticket) = *state {
            let mut taken = lock(&self.places.taken);
            *state = match taken.waiting.remove(&ticket) {
                Some(_) => {
                    taken.busy += 1;
                    PlaceState::Busy
                }
                None => PlaceState::GivenUp,
            };
        }
        Answering(self.clone())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        if *state == PlaceState::Busy {
            let mut taken = lock(&self.0.places.taken);
            taken.busy -= 1;
            *state = taken.wait(self.0.given_up.clone());
        }
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        // Not busy: an answer holds the place.
        if let PlaceState::Waiting(ticket) = *lock(&self.state) {
            lock(&self.places.taken).waiting.remove(&ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn is_given_up(place: &ConnectionPlace) -> bool {
        place.given_up().now_or_never().is_some()
    }

    #[test]
    fn a_newcomer_gets_the_place_of_the_connection_that_has_waited_longest() {
        let places = ConnectionPlaces::new(3);
        let [first, second, third] = [(); 3].map(|()| places.take().expect("free"));
        let answering = first.answer();
        let fourth = places.take().expect("the second one's");
        assert_eq!([&first, &second, &third, &fourth].map(|place| is_given_up(place)), [false, true, false, false]);
        // The first one waits again, so that it is behind the others now.
        drop(answering);
        let _fifth = places.take().expect("the third one's");
        assert_eq!([&first, &third, &fourth].map(|place| is_given_up(place)), [false, true, false]);
        // One that has lost its place neither frees one nor takes one again.
        drop(second.answer());
        drop(second);
        let _sixth = places.take().expect("the fourth one's");
        assert_eq!([&first, &fourth].map(|place| is_given_up(place)), [false, true]);
    }

    #[test]
    fn a_connection_that_is_answered_keeps_its_place_until_it_ends() {
        let places = ConnectionPlaces::new(2);
        let [first, second] = [(); 2].map(|()| places.take().expect("free"));
        let answers = [first.answer(), second.answer()];
        assert!(places.take().is_none());
        drop((answers, first));
        let _third = places.take().expect("the first one's");
        assert!(!is_given_up(&second));
    }
}
