//! [`ServerSpec`] and its parts: one validated server with every default filled in.
//!
//! Invariants: paths are absolute, ids and ports are unique in the fleet, durations are in range.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use llama_warden_events::{ServerCard, ServerId, Signal};

use crate::model_repository::REPOSITORY_PREFIX;
use crate::routing::RouterSpec;

/// The option with the folder in which a build saves slots.
pub const SLOTS_OPTION: &str = "slot-save-path";

/// All servers of a configuration, by id. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fleet {
    servers: Arc<BTreeMap<ServerId, Arc<ServerSpec>>>,
}

impl Fleet {
    /// Collects specs; of two with one id the later one wins (validation lets that never happen).
    pub fn new<S: Into<Arc<ServerSpec>>>(specs: impl IntoIterator<Item = S>) -> Self {
        let servers = specs.into_iter().map(Into::into).map(|spec| (spec.id.clone(), spec)).collect();
        Self { servers: Arc::new(servers) }
    }

    /// The spec of one server.
    pub fn get(&self, server: &str) -> Option<&Arc<ServerSpec>> {
        self.servers.get(server)
    }

    /// All specs, by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<ServerSpec>> {
        self.servers.values()
    }

    /// Whether no server is configured.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }
}

/// One server, every default filled in. Servers with equal settings share them by `Arc`.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerSpec {
    /// Its name.
    pub id: ServerId,
    /// Its name for people.
    pub display_name: Arc<str>,
    /// The model file, absolute; or `hf:` and a repository, see [`Self::model_repository`].
    pub model: PathBuf,
    /// The port, 1 to 65535, unique in the fleet.
    pub port: u16,
    /// The address that the server binds, or the path of a unix socket (ends in `.sock`).
    pub host: Arc<str>,
    /// Whether it is started by itself.
    pub enabled: bool,
    /// Quantisation or another class of quality.
    pub tier: Option<Arc<str>>,
    /// Whether the model thinks before it answers.
    pub thinking: bool,
    /// The executable: an absolute path, or a bare name that is looked up in PATH at launch.
    pub binary: Arc<Path>,
    /// The flag dialect, or `None` to choose by build.
    pub dialect: Option<Arc<str>>,
    /// Options by long name without dashes, translated for the build at launch.
    pub flags: Arc<Flags>,
    /// The folder of the configuration: paths in `flags` are relative to it.
    pub directory: Arc<Path>,
    /// Arguments passed verbatim, after the options and before model, host and port.
    pub args: Vec<String>,
    /// Set in the child's environment.
    pub env: Arc<BTreeMap<String, String>>,
    /// More names, as globs, that the child inherits.
    pub env_pass: Vec<String>,
    /// A file with the keys that the server asks clients for, one a line.
    pub api_key_file: Option<PathBuf>,
    /// How it becomes ready.
    pub readiness: Arc<ReadinessSpec>,
    /// How it is stopped.
    pub stop: Arc<StopSpec>,
    /// When it is started again.
    pub restart: Arc<RestartSpec>,
    /// How a ready server is checked.
    pub health: Arc<HealthSpec>,
    /// Its hooks.
    pub hooks: Arc<HooksSpec>,
    /// How requests reach it.
    pub router: Arc<RouterSpec>,
    /// Bytes kept per output stream.
    pub log_ring_bytes: usize,
}

/// One exists per server for as long as the daemon runs.
const _: () = assert!(size_of::<ServerSpec>() <= 288);

impl ServerSpec {
    /// The same server with `enabled` set; the same `Arc` if it is set already.
    #[must_use]
    pub fn enabled_as(self: &Arc<Self>, enabled: bool) -> Arc<Self> {
        self.resolved(&self.flags, enabled)
    }

    /// The same server with these options; the same `Arc` if nothing differs.
    pub fn resolved(self: &Arc<Self>, flags: &Arc<Flags>, enabled: bool) -> Arc<Self> {
        if self.enabled == enabled && self.flags == *flags {
            return Arc::clone(self);
        }
        Arc::new(Self { flags: flags.clone(), enabled, ..Self::clone(self) })
    }

    /// The same server, with a folder in which it can save its slots; unchanged where a folder is written for it.
    #[must_use]
    pub fn saving_slots_in(self: &Arc<Self>, folder: &Path) -> Arc<Self> {
        let is_written = self.flags.contains_key(SLOTS_OPTION) || self.argument(&[SLOTS_OPTION]).is_some();
        let Some(folder) = folder.to_str().filter(|_| !is_written) else { return Arc::clone(self) };
        let mut flags = Flags::clone(&self.flags);
        let value = FlagValue::Text(folder.to_owned());
        flags.insert(SLOTS_OPTION.to_owned(), Flag { value, origin: FlagOrigin::BuiltIn });
        self.resolved(&Arc::new(flags), self.enabled)
    }

    /// The folder in which it can save its slots, unless that is one of the user.
    pub fn slots_folder(&self) -> Option<&Path> {
        match self.flags.get(SLOTS_OPTION) {
            Some(Flag { value: FlagValue::Text(folder), origin: FlagOrigin::BuiltIn }) => Some(Path::new(folder)),
            _ => None,
        }
    }

    /// The same server without that folder.
    #[must_use]
    pub fn saving_no_slots(self: &Arc<Self>) -> Arc<Self> {
        let mut flags = Flags::clone(&self.flags);
        flags.remove(SLOTS_OPTION);
        self.resolved(&Arc::new(flags), self.enabled)
    }

    /// The canary of this server: the same server with another executable on another port, for a short while.
    ///
    /// It runs no hooks: they tell others about the server that they know. It is not restarted, writes to no log file of the
    /// server, and is reached under no name of the server.
    #[must_use]
    pub fn canary(&self, binary: &Path, port: u16) -> Self {
        let mut flags = Flags::clone(&self.flags);
        flags.remove("log-file");
        flags.remove(SLOTS_OPTION);
        let host = match self.host.strip_suffix(".sock") {
            Some(path) => format!("{path}~canary.sock").into(),
            None => self.host.clone(),
        };
        Self {
            id: self.id.canary(),
            binary: binary.into(),
            port,
            host,
            enabled: true,
            flags: flags.into(),
            restart: RestartSpec { policy: RestartPolicy::Never, ..RestartSpec::clone(&self.restart) }.into(),
            hooks: HooksSpec::default().into(),
            router: self.router.of_canary().into(),
            ..self.clone()
        }
    }

    /// Whether a process that was launched from `other` must be replaced to fit this specification.
    pub fn needs_new_process(&self, other: &Self) -> bool {
        let command = |spec: &Self| {
            let Self { model, port, host, binary, dialect, flags, directory, .. } = spec.clone();
            let Self { args, env, env_pass, api_key_file, .. } = spec.clone();
            (model, port, host, binary, dialect, flags, directory, args, env, env_pass, api_key_file)
        };
        command(self) != command(other)
    }

    /// The repository of Hugging Face that names the model in place of a file: `ORG/REPO` or `ORG/REPO:QUANT`.
    pub fn model_repository(&self) -> Option<&str> {
        self.model.to_str()?.strip_prefix(REPOSITORY_PREFIX)
    }

    /// The part of the specification that `ServerConfigured` publishes.
    pub fn card(&self) -> ServerCard {
        ServerCard {
            display_name: self.display_name.to_string(),
            model: Some(self.model.clone()),
            port: self.port,
            host: self.host.to_string(),
            tier: self.tier.as_ref().map(|tier| tier.to_string()),
            thinking: self.thinking,
            // Nobody waits for a canary: it is no part of the servers that should be ready.
            enabled: self.enabled && !self.id.is_canary(),
        }
    }
}

/// Options by long name without dashes, with where each was set.
pub type Flags = BTreeMap<String, Flag>;

/// One option.
#[derive(Debug, Clone, PartialEq)]
pub struct Flag {
    /// Its value.
    pub value: FlagValue,
    /// Its origin. If a build does not list an option, a default is dropped silently, a user's with a warning.
    pub origin: FlagOrigin,
}

/// The value of an option.
#[derive(Debug, Clone, PartialEq)]
pub enum FlagValue {
    /// `flash-attn = true`: the option is on, or off.
    Switch(bool),
    /// `ctx-size = 8192`.
    Integer(i64),
    /// `temp = 0.7`.
    Float(f64),
    /// `alias = "x"`.
    Text(String),
    /// `lora = ["a", "b"]`: given once per value, or as one list, as the build wants it.
    Many(Vec<String>),
}

impl FlagValue {
    /// `ctx-size = "default"`: the option is not passed, so that the build's own default applies.
    pub fn is_default(&self) -> bool {
        matches!(self, Self::Text(text) if text == "default")
    }
}

/// The origin of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagOrigin {
    /// The built-in defaults.
    BuiltIn,
    /// The configuration: `[flags]`, a profile, or the server.
    User,
}

/// `[readiness]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadinessSpec {
    /// The hard cap from spawn to ready.
    pub timeout: Duration,
    /// What happens at the cap.
    pub on_timeout: OnTimeout,
    /// A server that gives no sign of life for this long has failed; `None` is off.
    pub stall_timeout: Option<Duration>,
    /// A pack's name, or `None` to choose by build.
    pub detector: Option<String>,
    /// What confirms a ready line.
    pub confirm: Confirm,
    /// Which process may listen on the port.
    pub listener: ListenerPolicy,
}

/// What happens to a silent server at the cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnTimeout {
    /// It counts as ready, with a warning.
    AssumeReady,
    /// It fails with `ready-timeout`.
    Fail,
}

/// What confirms a ready line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirm {
    /// The probe.
    Health,
    /// Nothing: the line is trusted.
    None,
}

/// Which process may listen on the port of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerPolicy {
    /// The server itself or a descendant.
    Own,
    /// Any process: the server has it run elsewhere, as `docker run` and `systemd-run` do.
    Any,
}

/// `[stop]`.
#[derive(Debug, Clone, PartialEq)]
pub struct StopSpec {
    /// Time before KILL.
    pub grace: Duration,
    /// Signals before KILL; each gets its equal share of the grace. Never the same one twice.
    pub ladder: Vec<Signal>,
}

/// `[restart]`.
#[derive(Debug, Clone, PartialEq)]
pub struct RestartSpec {
    /// Which kinds of exit are followed by a restart.
    pub policy: RestartPolicy,
    /// Consecutive failures since a stable ready before giving up.
    pub max_attempts: u32,
    /// First delay.
    pub initial_delay: Duration,
    /// Longest delay.
    pub max_delay: Duration,
    /// Ready for this long clears the count.
    pub stable_after: Duration,
}

/// When a server is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// The server stays down.
    Never,
    /// After every failure and every end that was not requested.
    OnFailure,
    /// The same: an end that was not requested is a failure.
    Always,
}

/// `[health]`.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthSpec {
    /// Time between probes.
    pub interval: Duration,
    /// Longest answer.
    pub timeout: Duration,
    /// Consecutive failed checks before the server counts as not ready, 1 or more. At one more in which it neither answers nor
    /// computes, it fails.
    pub failures: u32,
    /// Time between requests for one token, which find a server that answers `/health` but does not work; `None` is off.
    pub inference: Option<Duration>,
}

/// The hooks of a server, as argument lists without a shell. A program that is a path is absolute.
#[derive(Debug, Clone, PartialEq)]
pub struct HooksSpec {
    /// Runs before the checks of a launch.
    pub pre_start: Option<Vec<String>>,
    /// Runs after the server became ready.
    pub post_ready: Option<Vec<String>>,
    /// Runs before the first signal of a stop.
    pub pre_stop: Option<Vec<String>>,
    /// Runs after the process exited.
    pub post_exit: Option<Vec<String>>,
    /// Longest time for each command, above zero.
    pub timeout: Duration,
}

impl HooksSpec {
    /// Longest time for a command where none is set.
    pub const TIMEOUT: Duration = Duration::from_secs(30);
}

impl Default for HooksSpec {
    fn default() -> Self {
        Self { pre_start: None, post_ready: None, pre_stop: None, post_exit: None, timeout: Self::TIMEOUT }
    }
}
