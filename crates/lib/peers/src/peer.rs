//! One peer: the question, its bounded answer, and what is remembered of it.

use std::net::IpAddr;
use std::sync::Mutex;

use llama_warden_api_types::{
    PeerProblem, PeerProblemReport, PeerReport, ServerReport, StatusReport, TargetGroup, base_url,
};
use llama_warden_client::{Client, ClientError, DaemonAddress};
use llama_warden_events::Timestamp;
use llama_warden_fleet::{PeerSettings, TcpAddress};
use llama_warden_support::{blocking, lock, read_token_line};
use serde_json::Value;
use tokio::time::timeout;

use crate::lookup::Lookup;
use crate::{DEADLINE, PeerTargets, targets};

/// What to do about something else that answers.
const NO_DAEMON: &str = "let `url` name the `listen` of a llama-warden, not that of a server or router";

/// A peer, and what its answers of this run of the daemon left behind.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) settings: PeerSettings,
    memory: Mutex<PeerMemory>,
    lookup: Lookup,
}

#[derive(Debug, Default)]
struct PeerMemory {
    failing_since: Option<Timestamp>,
    answered_at: Option<Timestamp>,
    targets: Vec<TargetGroup>,
}

/// Why a question has no answer.
struct PeerFailure {
    reason: PeerProblem,
    detail: String,
    next_step: String,
}

impl Peer {
    pub(crate) fn new(settings: PeerSettings) -> Self {
        Self { settings, memory: Mutex::default(), lookup: Lookup::default() }
    }

    /// What it says of its servers.
    pub(crate) async fn status(&self) -> PeerReport {
        let asked =
            self.within_deadline(async { read(self.client(true).await?.status_json().await.map_err(failure)?) }).await;
        let now = Timestamp::new(jiff::Timestamp::now());
        let mut memory = lock(&self.memory);
        let (status, problem) = match asked {
            Ok(status) => {
                *memory = PeerMemory { failing_since: None, answered_at: Some(now), ..std::mem::take(&mut memory) };
                (Some(seen_from_here(status, self.settings.url.address())), None)
            }
            Err(PeerFailure { reason, detail, next_step }) => {
                let since = *memory.failing_since.get_or_insert(now);
                (None, Some(PeerProblemReport { reason, detail, next_step, since }))
            }
        };
        let answered_at = memory.answered_at;
        PeerReport {
            name: self.settings.name.clone(),
            url: self.settings.url.to_string(),
            problem,
            answered_at,
            status,
        }
    }

    /// Its targets, or those that it gave last.
    pub(crate) async fn targets(&self) -> PeerTargets {
        // The path is an open one, so the token stays here.
        let asked = self.within_deadline(async { self.client(false).await?.targets().await.map_err(failure) }).await;
        let mut memory = lock(&self.memory);
        if let Ok(groups) = asked {
            memory.targets = targets::of_peer(groups, &self.settings.name);
        }
        PeerTargets { peer: self.settings.name.clone(), groups: memory.targets.clone() }
    }

    async fn within_deadline<T>(&self, asking: impl Future<Output = Result<T, PeerFailure>>) -> Result<T, PeerFailure> {
        let late = |_| {
            Err(PeerFailure {
                reason: PeerProblem::TimedOut,
                detail: format!("no answer within {} s", DEADLINE.as_secs()),
                next_step: format!("see whether `llama-warden status --address {}` works there", self.settings.url),
            })
        };
        timeout(DEADLINE, asking).await.unwrap_or_else(late)
    }

    async fn client(&self, with_token: bool) -> Result<Client, PeerFailure> {
        let token_file = self.settings.token_file.clone().filter(|_| with_token);
        let token = match token_file {
            None => None,
            Some(path) => {
                let shown = path.display().to_string();
                let read = blocking(move || read_token_line(&path)).await;
                let read =
                    read.map_err(|error| error.to_string()).and_then(|read| read.map_err(|error| error.to_string()));
                Some(read.map_err(|error| PeerFailure {
                    reason: PeerProblem::TokenUnusable,
                    detail: format!("cannot use the token file {shown}: {error}"),
                    next_step: "write the other daemon's token into its first line".to_owned(),
                })?)
            }
        };
        let TcpAddress { host, port } = self.settings.url.address().clone();
        let addresses = self.lookup.of(self.settings.url.address()).await.map_err(|error| PeerFailure {
            reason: PeerProblem::Unreachable,
            detail: format!("the name {host} is not found: {error}"),
            next_step: format!("check the url of [peers.{}]", self.settings.name),
        })?;
        Ok(Client::new(DaemonAddress::Tcp { host, port }, token).connecting_to(addresses))
    }
}

/// Reads a status. One that is there and cannot be read is of a daemon of another version.
fn read(answer: Value) -> Result<StatusReport, PeerFailure> {
    let is_status = answer["servers"].is_array() && answer["total_servers"].is_number();
    let version = answer["version"].as_str().unwrap_or("another version").to_owned();
    serde_json::from_value(answer).map_err(|error| {
        if is_status {
            PeerFailure {
                reason: PeerProblem::OtherVersion,
                detail: format!("its status is that of {version}, and cannot be read: {error}"),
                next_step: "let both machines run one version of llama-warden".to_owned(),
            }
        } else {
            PeerFailure {
                reason: PeerProblem::NotADaemon,
                detail: "its answer is no status".to_owned(),
                next_step: NO_DAEMON.to_owned(),
            }
        }
    })
}

/// Takes the status out of a report that must not show it.
pub(crate) fn withhold(report: &mut PeerReport, reason: PeerProblem, detail: String, next_step: &str) {
    let since = report.answered_at.unwrap_or_else(|| Timestamp::new(jiff::Timestamp::now()));
    report.status = None;
    report.problem = Some(PeerProblemReport { reason, detail, next_step: next_step.to_owned(), since });
}

/// A server that listens on every address is reached where its daemon is.
fn seen_from_here(mut status: StatusReport, peer: &TcpAddress) -> StatusReport {
    let is_everywhere = |server: &ServerReport| {
        let first = server.host.split(',').next().unwrap_or_default().trim();
        first.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
    };
    for server in status.servers.iter_mut().filter(|server| is_everywhere(server)) {
        if let Some(port) = server.port {
            server.base_url = base_url(&peer.host, port);
        }
    }
    status
}

fn failure(error: ClientError) -> PeerFailure {
    let because =
        |reason, detail: String, next_step: &str| PeerFailure { reason, detail, next_step: next_step.to_owned() };
    match error {
        ClientError::Unreachable { source, .. } => {
            let step = "start the daemon there, and see that it listens on an address that this machine reaches";
            because(PeerProblem::Unreachable, source.to_string(), step)
        }
        ClientError::NoAnswer { limit, .. } => {
            because(PeerProblem::TimedOut, format!("no answer within {limit:?}"), "see why the daemon there hangs")
        }
        ClientError::Problem(problem) => match problem.status {
            401 => because(
                PeerProblem::Unauthorized,
                problem.detail,
                "let `token-file` name a file with the token of that daemon",
            ),
            403 => because(PeerProblem::Unauthorized, problem.detail, problem.next_step.as_deref().unwrap_or_default()),
            _ => because(PeerProblem::Refused, problem.detail, problem.next_step.as_deref().unwrap_or_default()),
        },
        ClientError::Protocol { detail, .. } => because(PeerProblem::NotADaemon, detail, NO_DAEMON),
    }
}
