//! What people write who come from docker compose, systemd, supervisord, Kubernetes, llama-swap or Ollama, and options of llama-server
//! that stand beside the keys of a server and not in its flags.

/// Our keys, and the words of others for each, in lower case and without hyphens and underscores. A key within a table is written
/// with a full stop.
const KEYS: [(&str, &[&str]); 28] = [
    ("enabled", &["autostart", "autoload", "autorun", "preload", "startonboot", "disabled"]),
    ("id", &["name", "containername", "servicename"]),
    ("binary", &["executable", "program", "entrypoint", "execstart", "llamaserver"]),
    ("args", &["cmd", "command", "arguments", "extraargs"]),
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

/// What to write in place of a key that its table does not know, where it is a word of another tool.
pub(crate) fn advice(key: &str, known: &[&str]) -> Option<String> {
    let plain: String = key.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect();
    let ours = |list: &[(&'static str, &[&str])]| {
        list.iter().find(|(_, others)| others.contains(&&*plain)).map(|(ours, _)| *ours)
    };
    if let Some(ours) = ours(&KEYS) {
        let (table, inner) = ours.split_once('.').unwrap_or(("", ours));
        if known.contains(&inner) {
            return Some(format!("did you mean `{inner}`?"));
        }
        if known.contains(&table) {
            return Some(format!("write `{table} = {{ {inner} = … }}`"));
        }
    }
    let flag = ours(&FLAGS).filter(|_| known.contains(&"flags"))?;
    Some(format!("it is an option of llama-server: write `flags = {{ {flag} = … }}`"))
}
