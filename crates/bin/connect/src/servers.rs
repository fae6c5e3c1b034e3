//! Names servers on the command line: by id, or by a glob over ids.

use std::str::FromStr;

use globset::{Glob, GlobMatcher};
use llama_warden_api_types::{AllStatusReport, PeerReport, StatusReport};
use llama_warden_events::ServerId;
use llama_warden_exit::CommandFailure;

/// An id, or a glob such as `'co*'`.
#[derive(Debug, Clone)]
pub struct ServerSelector {
    text: String,
    glob: GlobMatcher,
}

impl FromStr for ServerSelector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match Glob::new(text) {
            Ok(glob) if !text.is_empty() => Ok(Self { text: text.to_owned(), glob: glob.compile_matcher() }),
            Ok(_) => Err("an id, or a glob such as 'qwen*', has a character at least".to_owned()),
            Err(error) => Err(format!("it is no glob: {}; `*`, `?`, `[a-z]` and `{{a,b}}` are known", error.kind())),
        }
    }
}

impl ServerSelector {
    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it can name one server only.
    pub fn is_id(&self) -> bool {
        ServerId::new(&self.text).is_ok()
    }

    /// Whether it names this server.
    pub fn matches(&self, id: &ServerId) -> bool {
        self.text == id.as_str() || self.glob.is_match(id.as_str())
    }
}

/// The report with only the named servers; with all if none is named.
///
/// # Errors
/// A name means no server.
pub fn keep_named(report: StatusReport, selectors: &[ServerSelector]) -> Result<StatusReport, CommandFailure> {
    keep_named_of_all(AllStatusReport { own: report, peers: Vec::new() }, selectors).map(|report| report.own)
}

/// The same for the servers of all machines.
///
/// # Errors
/// A name means no server of this machine or of a peer that has answered.
pub fn keep_named_of_all(
    mut report: AllStatusReport,
    selectors: &[ServerSelector],
) -> Result<AllStatusReport, CommandFailure> {
    let statuses = || std::iter::once(&report.own).chain(report.peers.iter().filter_map(|peer| peer.status.as_ref()));
    let ids = || statuses().flat_map(|status| status.servers.iter().map(|server| &server.model_id));
    if let Some(unknown) = selectors.iter().find(|selector| !ids().any(|id| selector.matches(id))) {
        return Err(CommandFailure::unknown_server(&unknown.text, ids().map(ServerId::as_str)));
    }
    retain_named(&mut report.own, selectors);
    retain_named_of_peers(&mut report.peers, selectors);
    Ok(report)
}

/// Leaves only the named servers that there are; all if none is named.
pub fn retain_named(report: &mut StatusReport, selectors: &[ServerSelector]) {
    if !selectors.is_empty() {
        report.servers.retain(|server| selectors.iter().any(|selector| selector.matches(&server.model_id)));
    }
}

/// The same for what peers say. A peer without a status stays: nobody knows whether a named server is there.
pub fn retain_named_of_peers(peers: &mut [PeerReport], selectors: &[ServerSelector]) {
    peers.iter_mut().filter_map(|peer| peer.status.as_mut()).for_each(|status| retain_named(status, selectors));
}

#[cfg(test)]
mod tests {
    use llama_warden_api_types::ServerReport;
    use llama_warden_component_kit::{card, server};
    use llama_warden_events::{BootId, Uptime};
    use llama_warden_state::{ServerRecord, Snapshot};

    use super::*;

    fn report(ids: &[&str]) -> StatusReport {
        let servers = ids.iter().map(|id| {
            let record = ServerRecord::new(card(&server(id)).into(), Uptime::default());
            ServerReport::of(&server(id), &record, Uptime::default())
        });
        let nothing = StatusReport::of(&Snapshot::new(BootId::from_random(1)), Uptime::default());
        StatusReport { servers: servers.collect(), ..nothing }
    }

    #[test]
    fn a_name_is_an_id_or_a_glob() {
        let id = |text| ServerId::new(text).expect("valid");
        let selector = |text: &str| text.parse::<ServerSelector>().expect("valid");
        assert!(selector("coder").matches(&id("coder")) && !selector("coder").matches(&id("coder2")));
        for glob in ["co*", "*er", "{coder,embed}", "code?", "c[a-z]der"] {
            assert!(selector(glob).matches(&id("coder")) && !selector(glob).is_id(), "{glob}");
        }
        assert!(!selector("co*").matches(&id("embed")) && selector("a.b-c_d").is_id());
        assert!("".parse::<ServerSelector>().is_err() && "[".parse::<ServerSelector>().is_err());
    }

    #[test]
    fn a_named_server_that_is_gone_leaves_the_other_named_ones() {
        let selectors = ["a", "gone"].map(|text| text.parse::<ServerSelector>().expect("valid"));
        let names = |selectors: &[ServerSelector]| {
            let mut report = report(&["a", "b"]);
            retain_named(&mut report, selectors);
            report.servers.into_iter().map(|server| server.model_id.to_string()).collect::<Vec<_>>()
        };
        assert_eq!((names(&selectors), names(&[])), (vec!["a".to_owned()], vec!["a".to_owned(), "b".to_owned()]));
        assert!(keep_named(report(&["a", "b"]), &selectors).is_err());
    }
}
