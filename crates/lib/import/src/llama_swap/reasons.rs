//! Why a key of a file of llama-swap is left out that nobody has taken: its value is not what the key takes, or the key is unknown.

use super::node::Node;
use crate::command_line::NO_SECONDS;

/// What is said of keys that llama-swap has learned since.
pub(crate) const UNKNOWN: &str = "llama-warden knows no such setting";

/// Why nothing but a command can have `${PORT}`.
pub(crate) const PORT_IS_CHOSEN: &str = "the port is chosen when the server starts, and `--port` is added";

/// What a key takes.
#[derive(Debug, Clone, Copy)]
enum KeyShape {
    Seconds,
    Port,
    Limit,
    Switch,
    Text,
    Texts,
    Map,
}

/// The keys that are read, and what they take.
const SHAPES: [(KeyShape, &[&str]); 7] = [
    (KeyShape::Seconds, &["ttl", "globalTTL", "unloadTimeout", "healthCheckTimeout"]),
    (KeyShape::Port, &["startPort"]),
    (KeyShape::Limit, &["concurrencyLimit"]),
    (
        KeyShape::Switch,
        &["unlisted", "sendLoadingState", "logRequests", "includeAliasesInList", "swap", "exclusive", "persistent"],
    ),
    (
        KeyShape::Text,
        &["name", "description", "checkEndpoint", "cmdStop", "use", "strategy", "stripParams", "strip_params"],
    ),
    (KeyShape::Texts, &["aliases", "env", "members", "preload", "targets"]),
    (
        KeyShape::Map,
        &[
            "macros",
            "filters",
            "metadata",
            "capabilities",
            "setParams",
            "setParamsByID",
            "hooks",
            "on_startup",
            "selectors",
            "upstream",
            "routing",
            "router",
            "settings",
            "scheduler",
            "fifo",
            "priority",
            "groups",
            "matrix",
            "vars",
            "evict_costs",
            "sets",
        ],
    ),
];

/// Why this key, which nobody has taken, is left out.
pub(crate) fn reason_for(key: &str, node: &Node) -> &'static str {
    let shape = SHAPES.iter().find(|(_, keys)| keys.contains(&key)).map(|(shape, _)| *shape);
    match shape {
        Some(KeyShape::Seconds) => NO_SECONDS,
        Some(KeyShape::Port) => "its value is no port from 1 to 65535",
        Some(KeyShape::Limit) => "its value is no number from 0 to 4294967295",
        Some(KeyShape::Switch) if !matches!(node, Node::Switch(_)) => "its value is neither true nor false",
        Some(KeyShape::Text) if matches!(node, Node::List(_) | Node::Map(_)) => "its value is no text",
        Some(KeyShape::Texts) if !node.is_texts() => "its value is no list of texts, or what is listed here is none",
        Some(KeyShape::Map) if !matches!(node, Node::Map(_)) => "its value is no map",
        _ => UNKNOWN,
    }
}
