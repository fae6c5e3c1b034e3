//! A row of the table: a server of this daemon, one of a peer, or a peer that does not say what it has.

use std::borrow::Cow;
use std::cmp::Ordering;

use llama_warden_api_types::{AllStatusReport, PeerProblemReport, PeerReport, ServerReport};
use llama_warden_events::ServerId;
use llama_warden_terminal::advice;
use llama_warden_terminal::server_order::{by_trouble, urgency};
use llama_warden_terminal::server_text::phase;

/// What a row shows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TopRow<'a> {
    /// A server of this daemon.
    Own(&'a ServerReport),
    /// A server of a peer. It is commanded by its own daemon.
    OfPeer(&'a PeerReport, &'a ServerReport),
    /// A peer without a status.
    Silent(&'a PeerReport, &'a PeerProblemReport),
}

impl<'a> TopRow<'a> {
    /// The rows of a report.
    pub(crate) fn all(report: &'a AllStatusReport) -> impl Iterator<Item = Self> {
        let of_peer = |peer: &'a PeerReport| {
            let servers = peer.status.iter().flat_map(|status| &status.servers);
            servers
                .map(|server| Self::OfPeer(peer, server))
                .chain(peer.problem.iter().map(|why| Self::Silent(peer, why)))
        };
        report.own.servers.iter().map(Self::Own).chain(report.peers.iter().flat_map(of_peer))
    }

    /// `coder`, `gpu2/coder`, or `gpu3/`: no other row has it, since no id has a slash.
    pub(crate) fn name(&self) -> Cow<'a, str> {
        match self {
            Self::Own(server) => server.model_id.as_str().into(),
            Self::OfPeer(peer, server) => format!("{}/{}", peer.name, server.model_id).into(),
            Self::Silent(peer, _) => format!("{}/", peer.name).into(),
        }
    }

    /// The server, if its daemon says so.
    pub(crate) const fn server(&self) -> Option<&'a ServerReport> {
        match self {
            Self::Own(server) | Self::OfPeer(_, server) => Some(server),
            Self::Silent(..) => None,
        }
    }

    /// The server, if this daemon commands it.
    pub(crate) const fn own(&self) -> Option<&'a ServerId> {
        match self {
            Self::Own(server) => Some(&server.model_id),
            Self::OfPeer(..) | Self::Silent(..) => None,
        }
    }

    /// The command line that does it on another machine.
    pub(crate) fn elsewhere(&self, command: &str) -> Option<String> {
        match self {
            Self::Own(_) => None,
            Self::OfPeer(PeerReport { name, url, .. }, server) => {
                let id = &server.model_id;
                let command = advice::command(&format!("{command} {id} --address {url}"));
                Some(format!("{name} commands its own servers: {command}"))
            }
            Self::Silent(PeerReport { name, url, .. }, _) => {
                let command = advice::command(&format!("status --address {url}"));
                Some(format!("{name} does not tell its servers; see `{command}`"))
            }
        }
    }

    /// Whether its name, display name or phase has a text in lower case.
    pub(crate) fn has_text(&self, wanted: &str) -> bool {
        let has = |text: &str| text.to_lowercase().contains(wanted);
        let of_server = |server: &ServerReport| has(&server.display_name) || has(&phase(server));
        wanted.is_empty() || has(&self.name()) || self.server().is_some_and(of_server)
    }

    /// Those in trouble first. Of those alike, the ones of this daemon come first, then those of each peer together.
    pub(crate) fn by_trouble(left: &Self, right: &Self) -> Ordering {
        // A peer that does not answer comes behind failed servers: it may be one that is off at night.
        let urgency = |row: &Self| row.server().map_or(1, urgency);
        let order = urgency(left).cmp(&urgency(right)).then_with(|| left.peer().cmp(&right.peer()));
        order.then_with(|| match (left.server(), right.server()) {
            (Some(left), Some(right)) => by_trouble(left, right),
            (left, right) => left.is_some().cmp(&right.is_some()),
        })
    }

    fn peer(&self) -> Option<&'a str> {
        match self {
            Self::Own(_) => None,
            Self::OfPeer(peer, _) | Self::Silent(peer, _) => Some(&peer.name),
        }
    }
}
