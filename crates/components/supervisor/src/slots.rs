//! The slots of all servers.

use std::collections::BTreeMap;

use llama_warden_events::ServerId;

use crate::slot::Slot;

/// Slots by server. Each in a box of its own: a map has room for almost twice as many values as there are.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    slots: BTreeMap<ServerId, Box<Slot>>,
}

impl Slots {
    pub(crate) fn get(&self, server: &ServerId) -> Option<&Slot> {
        self.slots.get(server).map(Box::as_ref)
    }

    pub(crate) fn get_mut(&mut self, server: &ServerId) -> Option<&mut Slot> {
        self.slots.get_mut(server).map(Box::as_mut)
    }

    pub(crate) fn contains(&self, server: &ServerId) -> bool {
        self.slots.contains_key(server)
    }

    /// Adds a slot, unless the server has one.
    pub(crate) fn add(&mut self, server: ServerId, slot: impl FnOnce() -> Slot) {
        self.slots.entry(server).or_insert_with(|| Box::new(slot()));
    }

    pub(crate) fn remove(&mut self, server: &ServerId) {
        self.slots.remove(server);
    }

    pub(crate) fn servers(&self) -> impl Iterator<Item = &ServerId> {
        self.slots.keys()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ServerId, &Slot)> {
        self.slots.iter().map(|(server, slot)| (server, slot.as_ref()))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Slot> {
        self.slots.values().map(Box::as_ref)
    }
}
