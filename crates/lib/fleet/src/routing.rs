//! How requests are routed: [`RouterSettings`] is `[router]`, [`RouterSpec`] the part of it that one server can override.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use globset::{Glob, GlobMatcher};
use llama_warden_events::ServerId;

use crate::address::RouterAddress;

/// Members of a JSON object.
pub type JsonObject = serde_json::Map<String, serde_json::Value>;

/// `[router]`, without the keys that every server has in its [`RouterSpec`].
#[derive(Debug, Clone, PartialEq)]
pub struct RouterSettings {
    /// Where it listens.
    pub listen: RouterAddress,
    /// The file with the keys of clients, absolute.
    pub keys_file: Option<PathBuf>,
    /// Whether everybody may call from other machines without a key.
    pub open: bool,
    /// The origins of browser pages that may call, as a browser sends them; `*` is any.
    pub cors_origins: Vec<String>,
    /// The id, alias or variant for requests that name no model.
    pub default_model: Option<String>,
    /// Whether a request may start a server.
    pub on_demand: bool,
    /// How many servers may run at a time.
    pub max_loaded: MaxLoaded,
    /// The sets of servers that may run together; empty = any.
    pub combinations: Vec<Vec<ServerPattern>>,
    /// `[router.groups]`, by name. A server is in one group at most.
    pub groups: BTreeMap<String, ServerGroup>,
    /// How long a busy server may keep the requests for another one waiting before it takes no more.
    pub evict_busy_after: Duration,
    /// Longest wait for requests in flight before a switch, reload or unload goes on.
    pub drain: Duration,
    /// Longest wait of one request until it is sent, above zero.
    pub queue_timeout: Duration,
    /// Longest time from sending a request to the last byte of its answer; `None` is off.
    pub request_timeout: Option<Duration>,
    /// Largest body of a request, in bytes.
    pub max_body: u64,
    /// Bytes of request bodies that are held at a time; at least `max_body`.
    pub body_memory: u64,
    /// A streaming request that waits longer gets its head and a comment at this interval; `None` is never.
    pub ping_after: Option<Duration>,
    /// Whether each finished request is a line of the log.
    pub access_log: bool,
    /// Bytes of the files in which the content of slots is kept, all servers together.
    pub keep_cache_size: u64,
}

/// How many servers may run at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxLoaded {
    /// As many as memory allows where the memory that they use is measured, else one.
    Auto,
    /// As many as memory allows.
    Unlimited,
    /// At most so many.
    AtMost(NonZeroU32),
}

/// `[router.groups.NAME]`: servers of which some exclude others.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerGroup {
    /// Its members.
    pub servers: Vec<ServerPattern>,
    /// Members that may run at a time; `None` = all.
    pub at_most: Option<NonZeroU32>,
    /// Whether a start of a member stops every server outside the group.
    pub is_exclusive: bool,
    /// Whether servers outside the group never evict its members.
    pub is_persistent: bool,
}

impl ServerGroup {
    /// Whether the server is a member.
    pub fn contains(&self, server: &ServerId) -> bool {
        self.servers.iter().any(|pattern| pattern.matches(server))
    }
}

/// An id, or a glob over ids.
#[derive(Debug, Clone)]
pub struct ServerPattern {
    text: String,
    /// `None` for a plain id, and for a glob that does not compile, which validation refuses.
    glob: Option<GlobMatcher>,
}

impl ServerPattern {
    /// An id, or a glob over ids.
    pub fn new(text: &str) -> Self {
        let is_glob = text.contains(['*', '?', '[', '{', '\\', '!']);
        let glob = if is_glob { Glob::new(text).ok().map(|glob| glob.compile_matcher()) } else { None };
        Self { text: text.to_owned(), glob }
    }

    /// Whether it means this server.
    pub fn matches(&self, server: &ServerId) -> bool {
        self.glob.as_ref().map_or(self.text == server.as_str(), |glob| glob.is_match(server.as_str()))
    }
}

impl PartialEq for ServerPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// `router = { … }` of one server, over the keys of the same name in `[router]`.
#[derive(Debug, Clone, PartialEq)]
pub struct RouterSpec {
    /// Further names in requests; unique over the ids, aliases and variants of the configuration.
    pub aliases: Vec<String>,
    /// Whether lists of models leave it out.
    pub is_hidden: bool,
    /// Whether it is never stopped for another server.
    pub is_kept: bool,
    /// Demands of a higher priority are met first.
    pub priority: i32,
    /// How dear its eviction is, as a factor of its load time; 0 or more.
    pub evict_cost: f64,
    /// Idle time after which it is stopped; `None` = never.
    pub ttl: Option<Duration>,
    /// Requests at work at a time; `None` = as many as its slots, and one.
    pub concurrency: Option<NonZeroU32>,
    /// Requests that may wait for it.
    pub queue: u32,
    /// What a streaming client that waits is told.
    pub progress: Progress,
    /// Whether the content of its slots is kept over a stop that was not asked for by hand.
    pub keeps_cache: bool,
    /// Top-level members that are removed from the bodies of requests.
    pub strip: Vec<String>,
    /// Top-level members that the bodies of requests get, over what they have.
    pub set: JsonObject,
    /// Names in requests that stand for this server with further members of the body.
    pub variants: BTreeMap<String, JsonObject>,
    /// What the list of models tells about it, not interpreted.
    pub metadata: JsonObject,
}

impl Default for RouterSpec {
    fn default() -> Self {
        Self {
            aliases: Vec::new(),
            is_hidden: false,
            is_kept: false,
            priority: 0,
            evict_cost: 1.0,
            ttl: None,
            concurrency: None,
            queue: 256,
            progress: Progress::Off,
            keeps_cache: false,
            strip: Vec::new(),
            set: JsonObject::new(),
            variants: BTreeMap::new(),
            metadata: JsonObject::new(),
        }
    }
}

impl RouterSpec {
    /// What a canary has: no names, since those stay with the server, and nothing that is kept.
    #[must_use]
    pub fn of_canary(&self) -> Self {
        Self { aliases: Vec::new(), variants: BTreeMap::new(), is_hidden: true, keeps_cache: false, ..self.clone() }
    }
}

/// What a streaming client that waits for a server is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It waits in silence.
    Off,
    /// The progress of the load, as comments of the event stream.
    Comments,
}
