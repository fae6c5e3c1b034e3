//! The format of the file, as written: every key optional, every value with its place.
//!
//! This is the one declaration of the keys; the reader, the overlay and the JSON Schema are made from it.

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use llama_warden_events::{ServerId, Signal};
use llama_warden_fleet::{
    Confirm, ListenAddress, ListenerPolicy, OnTimeout, PeerUrl, Progress, RestartPolicy, RouterAddress,
};

use crate::flag_table::FlagTable;
use crate::other_words::KnownTables;
use crate::reader::{Located, ValueReader, table};
use crate::routing_values::{Auto, EvictCost, JsonTable, MemberName, ModelName, PageOrigin};
use crate::selector::Selector;
use crate::values::{ByteSize, GlobPattern, HostName, OptionalPeriod, PositiveDuration, SingleLine};
use llama_warden_fleet::{AdmissionPolicy, LocalUsers, OnDaemonDeath};
use llama_warden_located_toml::Location;

/// By which a misplaced key is sent to its table.
const KNOWN_TABLES: KnownTables = KnownTables {
    once: &[
        ("llama-server", LlamaServer::KEYS),
        ("router", Router::KEYS),
        ("readiness", Readiness::KEYS),
        ("stop", Stop::KEYS),
        ("restart", Restart::KEYS),
        ("health", Health::KEYS),
        ("models", Models::KEYS),
        ("daemon", Daemon::KEYS),
        ("logs", Logs::KEYS),
        ("start", Start::KEYS),
        ("metrics", Metrics::KEYS),
    ],
    router_of_server: ServerRouter::KEYS,
};

/// A reader of the values of a file.
pub const fn reader() -> ValueReader {
    ValueReader::new(&KNOWN_TABLES)
}

table! {
    /// The configuration of llama-warden.
    ConfigFile {
        /// The daemon itself.
        "daemon" => daemon: Daemon,
        /// How llama-server is launched.
        "llama-server" => llama_server: LlamaServer,
        /// Options of every server, by the long option's name without dashes; translated for each build.
        "flags" => flags: FlagTable,
        /// How a server becomes ready.
        "readiness" => readiness: Readiness,
        /// How a server is stopped.
        "stop" => stop: Stop,
        /// How much output and how many events are kept.
        "logs" => logs: Logs,
        /// When a server is started again.
        "restart" => restart: Restart,
        /// How a ready server is checked.
        "health" => health: Health,
        /// How servers are started together.
        "start" => start: Start,
        /// Where model files are searched.
        "models" => models: Models,
        /// What /metrics has.
        "metrics" => metrics: Metrics,
        /// One address for all models.
        "router" => router: Router,
        /// The daemons of other machines whose servers are shown too, by name; read only.
        "peers" => peers: BTreeMap<String, Located<Peer>>,
        /// One server each.
        "servers" => servers: Vec<Located<Server>>,
        /// Named sets of servers.
        "profiles" => profiles: BTreeMap<String, Located<Profile>>,
        /// Tables of components of other programs, by the component's name; not interpreted.
        "extensions" => extensions: BTreeMap<String, Located<toml::Table>>,
    }
}

table! {
    /// The daemon itself.
    Daemon {
        /// HTTP address for status, control and metrics, as HOST:PORT; "" = only the unix socket.
        "listen" => listen: ListenAddress,
        /// The state directory; "" = $XDG_STATE_HOME/llama-warden, or /var/lib/llama-warden as root.
        "state-dir" => state_dir: SingleLine,
        /// File with the bearer token that HTTP requires; "" = none.
        "token-file" => token_file: SingleLine,
        /// The profile to start; "" = every enabled server.
        "profile" => profile: String,
        /// What happens to the servers when the daemon dies: "kill"; or "adopt", they run on and the next daemon takes them over.
        "on-daemon-death" => on_daemon_death: OnDaemonDeath,
        /// Further names, without port, that a request on loopback may have in Host: those of a reverse proxy.
        "hosts" => hosts: Vec<Located<HostName>>,
        /// Which users of this machine are served on loopback without a token: "same" = the daemon's own and root, or "any".
        "local-users" => local_users: LocalUsers,
        /// Whether `/` answers with the dashboard.
        "dashboard" => dashboard: bool,
        /// Longest time for a shutdown.
        "shutdown-deadline" => shutdown_deadline: PositiveDuration,
    }
}

table! {
    /// How llama-server is launched.
    LlamaServer {
        /// The executable: a name that is searched in PATH, or a path.
        "binary" => binary: SingleLine,
        /// The address that servers bind.
        "host" => host: SingleLine,
        /// First port for servers without a port of their own.
        "first-port" => first_port: NonZeroU16,
        /// Added to the environment of every server.
        "env" => env: BTreeMap<String, Located<String>>,
        /// More names of variables, as globs, that every server inherits.
        "env-pass" => env_pass: Vec<Located<GlobPattern>>,
        /// Arguments of every server, verbatim, after the options and before model, host and port.
        "args" => args: Vec<Located<SingleLine>>,
        /// The name of a flag dialect, for executables whose help cannot be read; "auto" = chosen by build.
        "dialect" => dialect: String,
        /// Folder with more flag dialects; "" = none.
        "dialects-dir" => dialects_dir: SingleLine,
    }
}

table! {
    /// How a server becomes ready.
    Readiness {
        /// The hard cap from launch to ready.
        "timeout" => timeout: PositiveDuration,
        /// What happens to a silent server at the cap: "assume-ready" or "fail".
        "on-timeout" => on_timeout: OnTimeout,
        /// A server that gives no sign of life for this long has failed; "0s" = off.
        "stall-timeout" => stall_timeout: Duration,
        /// The name of a detector pack; "auto" = chosen by build.
        "detector" => detector: String,
        /// Folder with more detector packs; "" = none. For all servers: only in `[readiness]`.
        "detectors-dir" => detectors_dir: SingleLine,
        /// What confirms a ready line: "health" (the probe) or "none" (the line is trusted).
        "confirm" => confirm: Confirm,
        /// Which process may listen on the port: "own" (the server or a descendant) or "any" (`docker run`, `systemd-run`).
        "listener" => listener: ListenerPolicy,
    }
}

table! {
    /// How a server is stopped.
    Stop {
        /// Time before KILL; "0s" = KILL at once.
        "grace" => grace: Duration,
        /// Signals before KILL, each at most once; each gets its share of the grace.
        "ladder" => ladder: Vec<Located<Signal>>,
    }
}

table! {
    /// How much output and how many events are kept.
    Logs {
        /// Output kept per server and stream, from 4KiB to 1GiB.
        "ring" => ring: ByteSize,
        /// Size at which the event log is rotated; "0" = no event log.
        "event-log" => event_log: ByteSize,
    }
}

table! {
    /// When a server is started again.
    Restart {
        /// Ready for this long clears the count of failures.
        "stable-after" => stable_after: Duration,
        /// "never", "on-failure" or "always".
        "policy" => policy: RestartPolicy,
        /// Consecutive failures since a stable ready before giving up.
        "max-attempts" => max_attempts: u32,
        /// First delay.
        "initial-delay" => initial_delay: Duration,
        /// Longest delay.
        "max-delay" => max_delay: Duration,
    }
}

table! {
    /// How a ready server is checked.
    Health {
        /// Time between probes.
        "interval" => interval: PositiveDuration,
        /// Longest time for an answer.
        "timeout" => timeout: PositiveDuration,
        /// Failed checks in a row after which the server counts as not ready. One more check in which it neither answers nor
        /// computes, and it has failed.
        "failures" => failures: NonZeroU32,
        /// Time between requests for one token, which find a server that answers /health but does not work; "off" = none.
        "inference" => inference: OptionalPeriod,
    }
}

table! {
    /// How servers are started together.
    Start {
        /// Servers that may load at a time; 0 = all.
        "max-concurrent" => max_concurrent: u32,
        /// Admission by estimated memory, for a server that may not fit: "off" starts it, "warn" starts it with a warning,
        /// "enforce" waits for memory that an ending server is about to free, and otherwise refuses it.
        "memory" => memory: AdmissionPolicy,
    }
}

table! {
    /// Where model files are searched.
    Models {
        /// Folders that are scanned for *.gguf. Each model that no server names becomes a server that starts only on request.
        "dirs" => dirs: Vec<Located<SingleLine>>,
        /// Whether links to folders outside of them are followed. Links to files always are.
        "follow-links" => follow_links: bool,
    }
}

table! {
    /// What /metrics has.
    Metrics {
        /// Whether the own metrics of every ready llama-server are added, as llamacpp_*; none is woken. Per scrape: ?servers=1.
        "servers" => servers: bool,
    }
}

table! {
    /// One address for all models: the model's name in a request decides which server gets it.
    Router {
        /// Where it listens: HOST:PORT, or a path ending in .sock; "" = off.
        "listen" => listen: RouterAddress,
        /// File with the keys of clients; "" = none.
        "keys-file" => keys_file: SingleLine,
        /// Whether clients on other machines need no key.
        "open" => open: bool,
        /// Origins of browser pages that may call, such as `https://chat.example.org`; "*" = any.
        "cors-origins" => cors_origins: Vec<Located<PageOrigin>>,
        /// The id, alias or variant for requests that name no model; "" = the only server there is.
        "default-model" => default_model: String,
        /// Whether a request may start a server.
        "on-demand" => on_demand: bool,
        /// Servers running at a time; 0 = as memory allows; "auto" = 0 where the memory that they use is measured, else 1.
        "max-loaded" => max_loaded: Auto<u32>,
        /// Sets of servers that may run together, by ids or globs; [] = any.
        "combinations" => combinations: Vec<Located<Vec<Located<GlobPattern>>>>,
        /// Sets of servers of which some exclude others.
        "groups" => groups: BTreeMap<String, Located<RouterGroup>>,
        /// Idle time after which a server is stopped; "0s" = never.
        "ttl" => ttl: Duration,
        /// How long a busy server may keep requests for another one waiting before it takes no more.
        "evict-busy-after" => evict_busy_after: Duration,
        /// Longest wait for requests in flight before a switch, reload or unload goes on.
        "drain" => drain: Duration,
        /// Requests that may wait for one server; the next one gets 429.
        "queue" => queue: u32,
        /// Longest wait of one request: start, eviction and slot together.
        "queue-timeout" => queue_timeout: PositiveDuration,
        /// Longest time from sending a request to the last byte of its answer; "0s" = none.
        "request-timeout" => request_timeout: Duration,
        /// Requests at work per server; "auto" = its slots and one.
        "concurrency" => concurrency: Auto<NonZeroU32>,
        /// Largest body of a request.
        "max-body" => max_body: ByteSize,
        /// Bodies of requests that are held at a time.
        "body-memory" => body_memory: ByteSize,
        /// What a streaming client that waits is told: "off", or "comments" (`: loading 42 %`).
        "progress" => progress: Progress,
        /// A streaming request that waits longer gets its head, and a comment at this interval; "0s" = never.
        "ping-after" => ping_after: Duration,
        /// Whether each finished request is a line of the log.
        "access-log" => access_log: bool,
        /// Whether what a server has computed of conversations is saved before it makes room, and restored at its next start.
        "keep-cache" => keep_cache: bool,
        /// Bytes of the files for that, all servers together.
        "keep-cache-size" => keep_cache_size: ByteSize,
    }
}

table! {
    /// A set of servers of which some exclude others.
    RouterGroup {
        /// Its servers: ids, or globs over ids. A server is in one group at most. Required.
        "servers" => servers: Vec<Located<GlobPattern>>,
        /// Members running at a time; 0 = all. Default: 1.
        "at-most" => at_most: u32,
        /// Whether a start of a member stops every server outside the group. Default: false.
        "exclusive" => exclusive: bool,
        /// Whether servers outside the group never evict its members. Default: false.
        "persistent" => persistent: bool,
    }
}

table! {
    /// How requests reach one server.
    ServerRouter {
        /// Further names in requests.
        "aliases" => aliases: Vec<Located<ModelName>>,
        /// Whether lists of models leave it out. Default: false.
        "hidden" => hidden: bool,
        /// Whether it is never stopped for another server. Default: false.
        "keep" => keep: bool,
        /// Demands of a higher priority are met first. Default: 0.
        "priority" => priority: i32,
        /// How dear its eviction is, as a factor of its load time. Default: 1.0.
        "evict-cost" => evict_cost: EvictCost,
        /// Overrides `ttl` of `[router]`.
        "ttl" => ttl: Duration,
        /// Overrides `concurrency` of `[router]`.
        "concurrency" => concurrency: Auto<NonZeroU32>,
        /// Overrides `queue` of `[router]`.
        "queue" => queue: u32,
        /// Overrides `progress` of `[router]`.
        "progress" => progress: Progress,
        /// Overrides `keep-cache` of `[router]`.
        "keep-cache" => keep_cache: bool,
        /// Top-level members that are removed from the bodies of requests.
        "strip" => strip: Vec<Located<MemberName>>,
        /// Top-level members that the bodies of requests get, over what they have.
        "set" => set: JsonTable,
        /// Names in requests that stand for this server with further members of the body.
        "variants" => variants: BTreeMap<String, Located<JsonTable>>,
        /// What the list of models tells about it, not interpreted.
        "metadata" => metadata: JsonTable,
    }
}

table! {
    /// Hooks: commands as argument lists without a shell. A program with a slash is relative to the configuration file; one
    /// without is searched in PATH.
    Hooks {
        /// Runs before the checks of a launch, which waits for it and fails if it fails.
        "pre-start" => pre_start: Vec<Located<SingleLine>>,
        /// Runs after the server became ready.
        "post-ready" => post_ready: Vec<Located<SingleLine>>,
        /// Runs before the first signal of a stop, which waits for it for a share of its grace.
        "pre-stop" => pre_stop: Vec<Located<SingleLine>>,
        /// Runs after the process exited.
        "post-exit" => post_exit: Vec<Located<SingleLine>>,
        /// Longest time for each command; then it is killed with its process group. Default: 30s.
        "timeout" => timeout: PositiveDuration,
    }
}

table! {
    /// One server.
    Server {
        /// 1 to 64 of A-Z a-z 0-9 . _ -; default: derived from the model's file name.
        "id" => id: ServerId,
        /// The GGUF file, or hf:ORG/REPO:QUANT for one that llama-server downloads. Required.
        "model" => model: SingleLine,
        /// Its port; default: the next free one from first-port.
        "port" => port: NonZeroU16,
        /// Whether it is started when no profile is active.
        "enabled" => enabled: bool,
        /// Its name for people; default: the id.
        "display-name" => display_name: SingleLine,
        /// Quantisation or another class of quality; default: from the GGUF header.
        "tier" => tier: SingleLine,
        /// Whether the model thinks before it answers.
        "thinking" => thinking: bool,
        /// Its executable, in place of the one in `[llama-server]`.
        "binary" => binary: SingleLine,
        /// Its flag dialect, in place of the one in `[llama-server]`.
        "dialect" => dialect: String,
        /// The address that it binds, or the path of a unix socket that ends in .sock.
        "host" => host: SingleLine,
        /// A file with the API keys that the server requires of clients, one a line; lines that begin with # are comments.
        "api-key-file" => api_key_file: SingleLine,
        /// Its options; they override those of the profile and of `[flags]`.
        "flags" => flags: FlagTable,
        /// Its arguments, verbatim, after those of `[llama-server]`.
        "args" => args: Vec<Located<SingleLine>>,
        /// Added to its environment.
        "env" => env: BTreeMap<String, Located<String>>,
        /// More names of variables, as globs, that it inherits.
        "env-pass" => env_pass: Vec<Located<GlobPattern>>,
        /// Its hooks.
        "hooks" => hooks: Hooks,
        /// Overrides keys of `[readiness]`.
        "readiness" => readiness: Readiness,
        /// Overrides keys of `[stop]`.
        "stop" => stop: Stop,
        /// Overrides keys of `[restart]`.
        "restart" => restart: Restart,
        /// Overrides keys of `[health]`.
        "health" => health: Health,
        /// How requests reach it; `ttl`, `concurrency`, `queue`, `progress` and `keep-cache` override those of `[router]`.
        "router" => router: ServerRouter,
    }
}

table! {
    /// The daemon of another machine.
    Peer {
        /// Where its API answers, as http://HOST:PORT; without a port 9888. Required.
        "url" => url: PeerUrl,
        /// File with its token; "" = none.
        "token-file" => token_file: SingleLine,
    }
}

table! {
    /// A named set of servers.
    Profile {
        /// Its purpose, for people.
        "description" => description: String,
        /// Its servers: ids, globs over ids, or { tier = "glob" }. Required.
        "servers" => servers: Vec<Located<Selector>>,
        /// Options of its servers; they override `[flags]`.
        "flags" => flags: FlagTable,
    }
}

impl Server {
    /// Where its id is written, or the model that it is derived from.
    pub fn name_place<'a>(&'a self, whole: &'a Location) -> &'a Location {
        let (id, model) = (self.id.as_ref(), self.model.as_ref());
        id.map(|id| &id.location).or(model.map(|model| &model.location)).unwrap_or(whole)
    }
}
