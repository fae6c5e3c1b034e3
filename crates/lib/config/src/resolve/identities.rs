//! Assigns every configured server its id and port, and reports duplicates.

use std::collections::BTreeMap;
use std::path::PathBuf;

use llama_warden_events::ServerId;
use llama_warden_fleet::RouterAddress;

use crate::file::reader::Located;
use crate::file::tables::Server;
use crate::problem::{ConfigProblem, Location};
use crate::resolve::cross_checks::CrossChecker;
use crate::resolve::derived_id::derived_id;
use crate::resolve::profiles::{KnownServers, Undecided, WrittenNames};

/// Every server that has an id and a port, in the order of the file.
pub(crate) struct Identities<'a> {
    pub(crate) servers: Vec<IdentifiedServer<'a>>,
    /// Whether every configured server got an id and a port.
    pub(crate) is_complete: bool,
}

/// A server with its identity.
pub(crate) struct IdentifiedServer<'a> {
    pub(crate) id: ServerId,
    pub(crate) port: u16,
    pub(crate) written: &'a Server,
    pub(crate) location: &'a Location,
    /// Its place in the file.
    pub(crate) index: usize,
}

impl<'a> Identities<'a> {
    /// The id of each server, and where it is written.
    pub(crate) fn places(&'a self) -> Vec<(&'a str, Location)> {
        let place = |server: &'a IdentifiedServer<'a>| server.written.name_place(server.location).clone();
        self.servers.iter().map(|server| (server.id.as_str(), place(server))).collect()
    }

    /// The servers that profiles can select, before the model files are read.
    pub(crate) fn known(&'a self, written: &'a WrittenNames, model_dirs: &[PathBuf]) -> KnownServers<'a> {
        let tier = |server: &'a IdentifiedServer<'a>| server.written.tier.as_ref().map(|tier| tier.value.0.as_str());
        let servers: Vec<_> = self.servers.iter().map(|server| (server.id.as_str(), tier(server))).collect();
        let undecided = if !model_dirs.is_empty() {
            Undecided::Servers
        } else if servers.iter().any(|(_, tier)| tier.is_none()) {
            Undecided::Tiers
        } else {
            Undecided::Nothing
        };
        KnownServers::new(servers, written, undecided)
    }
}

impl<'a> CrossChecker<'a> {
    /// Gives each server its id and port; duplicates are problems that name both.
    pub(crate) fn identities(&mut self) -> Identities<'a> {
        let written: &[Located<Server>] = self.file.servers.as_ref().map_or(&[], |servers| &servers.value);
        let ids: Vec<_> = written.iter().enumerate().map(|(index, server)| self.identify(index, server)).collect();
        self.unique_ids(written, &ids);
        let planned = ids.into_iter().zip(self.ports(written)).zip(written).enumerate();
        let identified = planned.filter_map(|(index, ((id, port), server))| {
            Some(IdentifiedServer { id: id?, port: port?, written: &server.value, location: &server.location, index })
        });
        let servers: Vec<_> = identified.collect();
        Identities { is_complete: servers.len() == written.len(), servers }
    }

    fn identify(&mut self, index: usize, server: &Located<Server>) -> Option<ServerId> {
        let model = server.value.model.as_ref();
        if model.is_none() && !self.written.contains(&format!("servers[{index}].model")) {
            self.refuse(&server.location, "this server has no key `model`", "add model = \"path/to/model.gguf\"");
        }
        if let Some(id) = &server.value.id {
            if id.value.is_canary() {
                let message = format!("`{}` is the name of a canary, which the daemon gives", id.value);
                self.refuse(&id.location, message, "leave out `~canary`");
            }
            return Some(id.value.clone());
        }
        let model = model.filter(|_| !self.written.contains(&format!("servers[{index}].id")))?;
        let derived = derived_id(&model.value.0);
        if derived.is_none() {
            let message = "no id can be derived from the model's file name";
            self.refuse(&model.location, message, "give the server a key `id`");
        }
        derived
    }

    fn unique_ids(&mut self, servers: &[Located<Server>], ids: &[Option<ServerId>]) {
        let mut seen: BTreeMap<&ServerId, Location> = BTreeMap::new();
        for (server, id) in servers.iter().zip(ids) {
            let Some(id) = id else { continue };
            let location = server.value.name_place(&server.location);
            if let Some(first) = seen.get(id) {
                let message = format!("two servers are called `{id}`: this one and {first}");
                let problem = ConfigProblem::error(location, message, "give one of them another `id`");
                self.problems.push(problem.related(first, "the first one"));
            } else {
                seen.insert(id, location.clone());
            }
        }
    }

    fn ports(&mut self, servers: &[Located<Server>]) -> Vec<Option<u16>> {
        let mut taken: BTreeMap<u16, Location> = BTreeMap::new();
        if let Some(listen) = self.file.daemon.as_ref().and_then(|daemon| daemon.value.listen.as_ref())
            && let Some(tcp) = listen.value.tcp()
        {
            taken.insert(tcp.port, listen.location.clone());
        }
        let router = self.file.router.as_ref().and_then(|router| router.value.listen.as_ref());
        let router = router.and_then(|listen| match &listen.value {
            RouterAddress::Tcp(tcp) if tcp.port > 0 => Some((tcp.port, &listen.location, "choose another port")),
            _ => None,
        });
        let own = servers.iter().filter_map(|server| server.value.port.as_ref());
        let own = own.map(|port| (port.value.get(), &port.location, "choose another port, or leave it out"));
        for (number, location, help) in router.into_iter().chain(own) {
            if let Some(first) = taken.get(&number) {
                let message = format!("port {number} is taken twice: here and {first}");
                let problem = ConfigProblem::error(location, message, help);
                self.problems.push(problem.related(first, "taken here"));
            } else {
                taken.insert(number, location.clone());
            }
        }
        let first_port = self.file.llama_server.as_ref().and_then(|section| section.value.first_port.as_ref());
        let mut free = first_port.map_or(1, |port| port.value.get())..=u16::MAX;
        let mut next_free = || free.find(|port| !taken.contains_key(port));
        let written = servers.iter().map(|server| server.value.port.as_ref().map(|port| port.value.get()));
        let ports: Vec<Option<u16>> = written.map(|port| port.or_else(&mut next_free)).collect();
        if let Some((server, _)) = servers.iter().zip(&ports).find(|(_, port)| port.is_none()) {
            let message = "no port from `llama-server.first-port` up is left for this server";
            self.refuse(&server.location, message, "lower `first-port`, or give the server a key `port`");
        }
        ports
    }
}
