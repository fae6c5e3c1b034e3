//! The keys of docker compose, systemd, supervisord, Kubernetes, llama-swap and Ollama that people write by habit, and options of
//! llama-server that stand beside the keys of a server instead of in its flags.

use crate::toml_tree::{TomlData, TomlNode, TomlTable};

/// Our keys, and the words of other tools for each, in lower case and without hyphens and underscores. A key within a table is written
/// with a full stop.
const KEYS: [(&str, &[&str]); 28] = [
    ("enabled", &["autostart", "autoload", "autorun", "preload", "startonboot", "disabled"]),
    ("id", &["name", "containername", "servicename"]),
    ("binary", &["executable", "program", "entrypoint", "execstart", "llamaserver"]),
    ("args", &["arguments", "extraargs"]),
    ("env", &["environment", "envvars"]),
    ("env-pass", &["passenvironment", "inheritenv"]),
    ("model", &["modelpath", "modelfile", "gguf"]),
    ("port", &["ports", "listenport"]),
    ("host", &["address", "bind", "bindaddress"]),
    ("display-name", &["title", "label"]),
    ("hooks.pre-start", &["execstartpre"]),
    ("hooks.post-ready", &["execstartpost", "poststart"]),
    ("hooks.pre-stop", &["execstop", "cmdstop", "prestop"]),
    ("hooks.post-exit", &["execstoppost", "poststop"]),
    ("stop.grace", &["stopgraceperiod", "timeoutstopsec", "stopwaitsecs", "unloadtimeout", "graceperiod"]),
    ("stop.ladder", &["stopsignal", "killsignal"]),
    ("restart.policy", &["autorestart", "restartpolicy"]),
    ("restart.max-attempts", &["maxretries", "startretries", "startlimitburst"]),
    ("restart.initial-delay", &["restartsec", "restartdelay"]),
    ("readiness.timeout", &["timeoutstartsec", "healthchecktimeout", "startuptimeout", "loadtimeout", "startperiod"]),
    ("health", &["healthcheck", "livenessprobe"]),
    ("router.aliases", &["aliases", "alias"]),
    ("router.hidden", &["unlisted"]),
    ("router.ttl", &["ttl", "globalttl", "unloadafter", "idletimeout", "keepalive"]),
    ("router.concurrency", &["concurrencylimit", "maxconcurrency"]),
    ("max-loaded", &["modelsmax", "maxloadedmodels", "maxinstances"]),
    ("keys-file", &["apikeys"]),
    ("first-port", &["startport"]),
];

/// Options of llama-server that people write beside `model`, as they are spelled in `flags`, and their short forms.
const FLAGS: [(&str, &[&str]); 16] = [
    ("ctx-size", &["ctxsize", "nctx", "context", "contextsize", "numctx", "c"]),
    ("n-gpu-layers", &["ngpulayers", "gpulayers", "ngl", "numgpu"]),
    ("threads", &["threads", "t", "nthreads"]),
    ("batch-size", &["batchsize", "nbatch"]),
    ("ubatch-size", &["ubatchsize", "nubatch"]),
    ("flash-attn", &["flashattn", "flashattention", "fa"]),
    ("parallel", &["parallel", "np", "nparallel"]),
    ("mmap", &["mmap", "nommap"]),
    ("mmproj", &["mmproj"]),
    ("jinja", &["jinja"]),
    ("temp", &["temp", "temperature"]),
    ("cache-type-k", &["cachetypek"]),
    ("cache-type-v", &["cachetypev"]),
    ("embeddings", &["embedding", "embeddings"]),
    ("chat-template", &["chattemplate"]),
    ("metrics", &["metrics"]),
];

/// The counterparts of tables that other tools have, and the names of these tables.
const TABLES: [(&[&str], &str); 5] = [
    (
        &["defaults", "default", "global", "globals", "common", "shared", "settings"],
        "options of every server belong in [flags], their executable, `env` and `args` in [llama-server], and the rest in [stop], \
         [restart], [readiness] and [health]",
    ),
    (
        &["macros", "variables", "vars"],
        "there are no macros: write each value where it is used, or once in [flags] or [llama-server]",
    ),
    (&["hooks"], "hooks belong to a server: write `hooks = { … }` below its [[servers]]"),
    (
        &["volumes", "networks", "secrets", "configs"],
        "remove it: servers are processes of this machine, with its files and its network",
    ),
    (&["version"], "remove it: the format of the file has no version"),
];

/// Names of tables in which other tools list their servers.
const SERVERS: [&str; 6] = ["server", "service", "services", "model", "instances", "programs"];

/// A whole command line, as docker compose, supervisord and llama-swap have it.
const COMMAND: [&str; 4] = ["cmd", "command", "commandline", "run"];

/// The keys of the tables of a file, by which a misplaced key is sent to its own.
#[derive(Debug)]
pub struct KnownTables {
    /// The tables of the file that are written once, and their keys. The first one that has a key is meant.
    pub(crate) once: &'static [(&'static str, &'static [&'static str])],
    /// The keys of `router` of a server.
    pub(crate) router_of_server: &'static [&'static str],
}

/// The key of each table that people mean who write a single value in its place.
const MAIN_KEYS: [(&str, &str); 11] = [
    ("llama-server", "binary"),
    ("router", "listen"),
    ("readiness", "timeout"),
    ("stop", "grace"),
    ("restart", "policy"),
    ("health", "interval"),
    ("models", "dirs"),
    ("daemon", "listen"),
    ("logs", "ring"),
    ("start", "max-concurrent"),
    ("hooks", "pre-start"),
];

/// A word without what people write differently.
fn plain(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect()
}

/// What to write in place of a single value where a table is expected.
pub(crate) fn main_key(node: &TomlNode) -> Option<String> {
    let (outer, name) = node.path.rsplit_once('.').unwrap_or(("", &node.path));
    match (name, &node.data) {
        ("models", TomlData::Array(items)) if items.iter().all(|item| matches!(item.data, TomlData::Table(_))) => {
            return Some("[models] names folders: write [[servers]] above each model".to_owned());
        }
        ("flags", _) => {
            return Some("write a table such as { ctx-size = 8192 }; whole words belong into `args`".to_owned());
        }
        ("env", _) => return Some("write a table such as { NAME = \"value\" }".to_owned()),
        _ => {}
    }
    let (_, key) = MAIN_KEYS.iter().find(|(table, _)| *table == name)?;
    let value = match &node.data {
        TomlData::String(text) if text.len() < 64 && *key != "dirs" && *key != "pre-start" => format!("{text:?}"),
        TomlData::String(text) if text.len() < 64 => format!("[{text:?}]"),
        _ => "…".to_owned(),
    };
    Some(match outer {
        "" => format!("write [{name}], and `{key} = {value}` below it"),
        _ => format!("write `{name} = {{ {key} = {value} }}`"),
    })
}

/// Where to write a key that its own table does not know and another one does.
pub(crate) fn place(key: &str, value: &TomlNode, known: &[&str], tables: &KnownTables) -> Option<String> {
    let is_in_server = value.path.starts_with("servers[");
    if known.contains(&"router") && is_in_server && tables.router_of_server.contains(&key) {
        return Some(format!("write `router = {{ {key} = … }}`"));
    }
    let is_top = !value.path.contains('.');
    if is_top && matches!(key, "model" | "id" | "port" | "display-name" | "tier" | "api-key-file") {
        return Some(format!("it is a key of a server: write [[servers]] above `{key}`"));
    }
    let (table, _) = tables.once.iter().filter(|_| !is_in_server).find(|(_, keys)| keys.contains(&key))?;
    Some(format!("it is a key of [{table}]: write it below that"))
}

/// What to write in place of a key that its table does not know, where it is a word of another tool.
pub(crate) fn advice(key: &str, value: &TomlNode, known: &[&str], tables: &KnownTables) -> Option<String> {
    let plain = plain(key);
    let is_top = !value.path.contains('.');
    if is_top && let Some((_, advice)) = TABLES.iter().find(|(others, _)| others.contains(&&*plain)) {
        return Some((*advice).to_owned());
    }
    let holds_tables =
        |entries: &TomlTable| entries.values().any(|(_, inner)| matches!(inner.data, TomlData::Table(_)));
    if is_top && SERVERS.contains(&&*plain) && !matches!(value.data, TomlData::String(_)) {
        let id = match &value.data {
            TomlData::Table(entries) if holds_tables(entries) => entries.keys().next(),
            _ => None,
        };
        let id = id.map(|id| format!(", and `id = {id:?}` below it")).unwrap_or_default();
        return Some(format!("write [[servers]] above each server{id}"));
    }
    if value.path == format!("models.{key}") && matches!(value.data, TomlData::Table(_)) {
        return Some(format!("[models] names folders: write [[servers]], and `id = {key:?}` below it"));
    }
    if COMMAND.contains(&&*plain) && known.contains(&"binary") {
        return Some(
            "write its program as `binary`, its model as `model`, and its options as `flags` or, word by word, as `args`; \
             `llama-warden import` converts whole files"
                .to_owned(),
        );
    }
    let ours = |list: &[(&'static str, &[&str])]| {
        list.iter().find(|(_, others)| others.contains(&&*plain)).map(|(ours, _)| *ours)
    };
    if let Some(ours) = ours(&KEYS) {
        let (table, inner) = ours.split_once('.').unwrap_or(("", ours));
        if known.contains(&inner) {
            return Some(format!("did you mean `{inner}`?"));
        }
        if known.contains(&table) {
            return Some(match is_top {
                true => format!("write [{table}], and `{inner} = …` below it"),
                false => format!("write `{table} = {{ {inner} = … }}`"),
            });
        }
        if let Some(advice) = place(inner, value, known, tables) {
            return Some(advice.replace("it is", &format!("`{inner}` is")));
        }
    }
    let flag = ours(&FLAGS).filter(|_| known.contains(&"flags"))?;
    Some(match is_top {
        true => format!("it is an option of llama-server: write [flags], and `{flag} = …` below it"),
        false => format!("it is an option of llama-server: write `flags = {{ {flag} = … }}`"),
    })
}
