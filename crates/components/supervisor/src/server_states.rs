//! The slots of all servers.

use std::collections::BTreeMap;

use llama_warden_events::ServerId;

use crate::server_state::ServerState;

/// ServerStates by server. Each in a box of its own: a map has room for almost twice as many values as there are.
#[derive(Debug, Default)]
pub(crate) struct ServerStates {
    slots: BTreeMap<ServerId, Box<ServerState>>,
}

impl ServerStates {
    pub(crate) fn get(&self, server: &ServerId) -> Option<&ServerState> {
        self.slots.get(server).map(Box::as_ref)
    }

    pub(crate) fn get_mut(&mut self, server: &ServerId) -> Option<&mut ServerState> {
        self.slots.get_mut(server).map(Box::as_mut)
    }

    pub(crate) fn contains(&self, server: &ServerId) -> bool {
        self.slots.contains_key(server)
    }

    /// Adds a state, unless the server has one.
    pub(crate) fn add(&mut self, server: ServerId, state: impl FnOnce() -> ServerState) {
        self.slots.entry(server).or_insert_with(|| Box::new(state()));
    }

    pub(crate) fn remove(&mut self, server: &ServerId) {
        self.slots.remove(server);
    }

    pub(crate) fn servers(&self) -> impl Iterator<Item = &ServerId> {
        self.slots.keys()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ServerId, &ServerState)> {
        self.slots.iter().map(|(server, state)| (server, state.as_ref()))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &ServerState> {
        self.slots.values().map(Box::as_ref)
    }
}
