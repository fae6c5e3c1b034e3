//! Executables that servers run in place of the configured ones, and the canary: what `canary` and `canary --switch` change.
//!
//! The configuration file is the user's and is never written. Invariants:
//!
//! * An override lasts as long as the configuration names the executable that it replaces. Naming another one there ends it.
//! * A trial is in memory only: a daemon that ends in the middle of one begins with what ran before.
//! * There is at most one canary.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llama_warden_config::{Fleet, ServerSpec};
use llama_warden_events::{BuildChange, RefusalReason, Refused, ServerId};
use llama_warden_support::{Durability, read_regular, replace_file};
use serde::{Deserialize, Serialize};

/// The file's name in the state directory.
const FILE: &str = "builds.json";

/// Longest file in bytes: some hundred for each server.
const MAX_BYTES: u64 = 16 << 20;

/// Changes the executables of a fleet.
#[derive(Debug)]
pub struct BuildOverrides {
    /// `None` keeps nothing for the next run.
    path: Option<PathBuf>,
    kept: BTreeMap<ServerId, BuildOverride>,
    trial: Option<(ServerId, BuildOverride)>,
    canary: Option<Canary>,
}

/// An executable in place of the configured one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct BuildOverride {
    /// What runs.
    binary: PathBuf,
    /// What the configuration names.
    replaces: PathBuf,
}

/// The server that a canary stands beside, and its own executable and port.
#[derive(Debug)]
struct Canary {
    server: ServerId,
    binary: PathBuf,
    port: u16,
}

impl BuildOverrides {
    /// Those that the latest run kept in the state directory. None if the file is missing or invalid: the configuration holds.
    pub fn read(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE);
        let read = read_regular(&path, MAX_BYTES).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { path: Some(path), kept: read.unwrap_or_default(), trial: None, canary: None }
    }

    /// None, and none is kept.
    pub const fn none() -> Self {
        Self { path: None, kept: BTreeMap::new(), trial: None, canary: None }
    }

    /// Logs the overrides in force, each with the line that makes it unnecessary.
    pub fn log(&self) {
        for (server, BuildOverride { binary, replaces }) in &self.kept {
            let (binary, replaces) = (binary.display(), replaces.display());
            tracing::warn!(
                %server, %binary, %replaces,
                "a server runs another executable than configured, as `canary --switch` decided; write it as its `binary`"
            );
        }
    }

    /// The fleet of a configuration, with the overrides and the canary. Forgets overrides that are over.
    pub fn apply(&mut self, fleet: &Fleet) -> Fleet {
        let is_over = |server: &ServerId, over: &BuildOverride| {
            fleet.get(server.as_str()).is_some_and(|spec| *spec.binary != *over.replaces)
        };
        let before = self.kept.len();
        self.kept.retain(|server, kept| !is_over(server, kept));
        self.trial.take_if(|(server, trial)| is_over(server, trial));
        if self.kept.len() != before {
            self.save();
        }
        if self.kept.is_empty() && self.trial.is_none() && self.canary.is_none() {
            return fleet.clone();
        }
        let mut specs: Vec<Arc<ServerSpec>> = fleet.iter().map(|spec| self.overridden(spec)).collect();
        if let Some(Canary { server, binary, port }) = &self.canary
            && let Some(spec) = fleet.get(server.as_str())
        {
            specs.push(spec.canary(binary, *port).into());
        }
        Fleet::new(specs)
    }

    /// Makes a change. `fleet` is that of the configuration.
    ///
    /// # Errors
    /// The server is not configured, there is a canary already, or no port is free for one.
    pub fn change(&mut self, server: &ServerId, change: &BuildChange, fleet: &Fleet) -> Result<(), Refused> {
        let Some(spec) = fleet.get(server.as_str()) else {
            // The end of a trial of a server that has left the configuration meanwhile.
            if matches!(change, BuildChange::RemoveCanary | BuildChange::Keep | BuildChange::Revert) {
                self.canary.take_if(|canary| canary.server == *server);
                self.trial.take_if(|(tried, _)| tried == server);
                return Ok(());
            }
            return Err(Refused::new(RefusalReason::UnknownServer, format!("no server `{server}` is configured")));
        };
        match change {
            BuildChange::AddCanary { binary } => {
                if let Some(canary) = &self.canary {
                    let detail = format!("{} has a canary already; one at a time", canary.server);
                    return Err(Refused::new(RefusalReason::WrongPhase, detail));
                }
                let port = free_port(&spec.host).map_err(|error| {
                    let detail = format!("no port of {} is free for the canary: {error}", spec.host);
                    Refused::new(RefusalReason::WrongPhase, detail)
                })?;
                self.canary = Some(Canary { server: server.clone(), binary: binary.clone(), port });
            }
            BuildChange::RemoveCanary => {
                self.canary.take_if(|canary| canary.server == *server);
            }
            BuildChange::Try { binary } => {
                let trial = BuildOverride { binary: binary.clone(), replaces: spec.binary.to_path_buf() };
                self.trial = Some((server.clone(), trial));
            }
            BuildChange::Keep => {
                if let Some((server, trial)) = self.trial.take_if(|(tried, _)| tried == server) {
                    if trial.binary == trial.replaces {
                        self.kept.remove(&server);
                    } else {
                        self.kept.insert(server, trial);
                    }
                    self.save();
                }
            }
            BuildChange::Revert => {
                self.trial.take_if(|(tried, _)| tried == server);
            }
        }
        Ok(())
    }

    fn overridden(&self, spec: &Arc<ServerSpec>) -> Arc<ServerSpec> {
        let trial = self.trial.as_ref().filter(|(server, _)| *server == spec.id).map(|(_, trial)| trial);
        match trial.or_else(|| self.kept.get(&spec.id)) {
            Some(over) => Arc::new(ServerSpec { binary: over.binary.as_path().into(), ..ServerSpec::clone(spec) }),
            None => Arc::clone(spec),
        }
    }

    fn save(&self) {
        let Some(path) = &self.path else { return };
        let saved = serde_json::to_vec(&self.kept)
            .map_err(std::io::Error::from)
            .and_then(|text| replace_file(path, &text, Durability::PowerCut));
        if let Err(error) = saved {
            tracing::warn!(%error, "cannot save which executables servers run; the next start takes the configured ones");
        }
    }
}

/// A port that nobody listens on now. Another program may take it before the canary does; its launch says so.
fn free_port(host: &str) -> std::io::Result<u16> {
    // A unix socket needs no port, but a specification has one.
    let host = if host.ends_with(".sock") { "127.0.0.1" } else { host.trim_matches(['[', ']']) };
    TcpListener::bind((host, 0)).and_then(|listener| Ok(listener.local_addr()?.port()))
}

#[cfg(test)]
mod tests {
    use llama_warden_component_kit::{fleet, server};

    use super::*;

    fn configured(binary: &str) -> Fleet {
        fleet(&format!(
            "[[servers]]\nid = 'a'\nmodel = '/m.gguf'\nbinary = '{binary}'\n[[servers]]\nid = 'b'\nmodel = '/b.gguf'"
        ))
    }

    /// The executable of `a` under a configuration that names `binary`.
    fn runs(overrides: &mut BuildOverrides, binary: &str) -> String {
        let fleet = overrides.apply(&configured(binary));
        fleet.get("a").expect("configured").binary.display().to_string()
    }

    fn change(overrides: &mut BuildOverrides, change: BuildChange) {
        overrides.change(&server("a"), &change, &configured("/old")).expect("accepted");
    }

    fn try_new() -> BuildChange {
        BuildChange::Try { binary: "/new".into() }
    }

    #[test]
    fn what_proved_itself_is_kept_across_runs_until_the_configuration_names_another() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let mut overrides = BuildOverrides::read(folder.path());
        change(&mut overrides, try_new());
        assert_eq!(runs(&mut overrides, "/old"), "/new");
        assert_eq!(runs(&mut BuildOverrides::read(folder.path()), "/old"), "/old", "a trial is not kept");
        change(&mut overrides, BuildChange::Keep);
        let mut next = BuildOverrides::read(folder.path());
        assert_eq!(runs(&mut next, "/old"), "/new");
        assert_eq!(runs(&mut next, "/newer"), "/newer");
        assert_eq!(runs(&mut BuildOverrides::read(folder.path()), "/old"), "/old", "it is over for good");
    }

    #[test]
    fn a_trial_that_is_reverted_leaves_what_was_kept_before() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let mut overrides = BuildOverrides::read(folder.path());
        change(&mut overrides, try_new());
        change(&mut overrides, BuildChange::Keep);
        change(&mut overrides, BuildChange::Try { binary: "/newest".into() });
        assert_eq!(runs(&mut overrides, "/old"), "/newest");
        change(&mut overrides, BuildChange::Revert);
        assert_eq!(runs(&mut overrides, "/old"), "/new");
    }

    #[test]
    fn a_canary_differs_from_its_server_in_what_it_must() {
        let mut overrides = BuildOverrides::none();
        change(&mut overrides, BuildChange::AddCanary { binary: "/new".into() });
        let fleet = overrides.apply(&configured("/old"));
        let (canary, own) = (fleet.get("a~canary").expect("added"), fleet.get("a").expect("configured"));
        assert_eq!((&*canary.binary, &*own.binary), (Path::new("/new"), Path::new("/old")));
        assert!(canary.port != own.port && canary.port != 0 && canary.model == own.model && canary.flags == own.flags);
        assert!(!canary.card().enabled, "nobody waits for it");
        let second = overrides.change(&server("b"), &BuildChange::AddCanary { binary: "/x".into() }, &fleet);
        assert!(second.is_err_and(|refused| refused.detail.contains("a has a canary already")));
        change(&mut overrides, BuildChange::RemoveCanary);
        assert_eq!(overrides.apply(&configured("/old")), configured("/old"));
    }

    #[test]
    fn a_canary_on_a_socket_has_one_of_its_own_and_runs_no_hook_and_writes_no_log_file() {
        let keys =
            "host = '/run/a.sock'\nflags = { log-file = '/l', ctx-size = 1 }\nhooks = { post-ready = ['/tell'] }";
        let configured = fleet(&format!("[[servers]]\nid = 'a'\nmodel = '/m.gguf'\n{keys}"));
        let mut overrides = BuildOverrides::none();
        let add = BuildChange::AddCanary { binary: "/new".into() };
        overrides.change(&server("a"), &add, &configured).expect("accepted");
        let canary = overrides.apply(&configured).get("a~canary").cloned().expect("added");
        assert_eq!(&*canary.host, "/run/a~canary.sock");
        assert!(canary.hooks.post_ready.is_none() && !canary.flags.contains_key("log-file"));
        assert!(canary.flags.contains_key("ctx-size"));
    }

    #[test]
    fn a_file_of_garbage_counts_as_none() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(folder.path().join(FILE), "{\"a\":").expect("writable");
        assert_eq!(runs(&mut BuildOverrides::read(folder.path()), "/old"), "/old");
    }
}
