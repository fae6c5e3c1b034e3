//! Every family that is exposed: the one table behind the series and behind `docs/metrics.md`.

/// A metric family: what all its series have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Its name, with the prefix and, for counters, with `_total`.
    pub name: &'static str,
    /// Its type.
    pub kind: FamilyKind,
    /// Its meaning, in one sentence.
    pub help: &'static str,
    /// Its labels, in the order in which they are written.
    pub labels: &'static [&'static str],
}

/// The type of a family, displayed as `# TYPE` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum FamilyKind {
    /// Only grows while the daemon runs.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations by upper bound.
    Histogram,
}

impl FamilyKind {
    /// The word of `# TYPE`.
    pub(crate) fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Every family, in the order of the documentation.
pub const fn catalogue() -> &'static [Family] {
    ALL
}

macro_rules! families {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(pub(crate) const $constant: Family = Family {
            name: $name,
            kind: FamilyKind::$kind,
            help: $help,
            labels: &[$($label),*],
        };)+
        const ALL: &[Family] = &[$($constant),+];
    };
}

families! {
    BUILD_INFO = Gauge "llama_warden_build_info" ["version", "arch"]
        "Always 1; the labels say what runs.";
    PROFILE_ACTIVE = Gauge "llama_warden_profile_active" ["profile"]
        "1 for the active profile, 0 for the others.";

    SERVER_INFO = Gauge "llama_warden_server_info" ["server", "model", "tier", "port", "detector", "llama_version"]
        "Always 1; the labels say what the server is. The model is its file name; what is not known is empty.";
    SERVER_RUNNING = Gauge "llama_warden_server_running" ["server"]
        "1 while the server has a process.";
    SERVER_READY = Gauge "llama_warden_server_ready" ["server"]
        "1 while the server is ready.";
    SERVER_PHASE = Gauge "llama_warden_server_phase" ["server", "phase"]
        "1 for the phase that the server is in, 0 for the others.";
    SERVER_UPTIME = Gauge "llama_warden_server_uptime_seconds" ["server"]
        "Time since the spawn of the running process; 0 where none runs any more.";
    SERVER_START_TIME = Gauge "llama_warden_server_start_time_seconds" ["server"]
        "Spawn of the running process, in seconds since the Unix epoch; no series where none runs.";
    SERVER_LOAD_PROGRESS = Gauge "llama_warden_server_load_progress_ratio" ["server"]
        "How far the model is loaded: 0 before loading, 1 once it is.";
    SERVER_READY_SECONDS = Histogram "llama_warden_server_ready_seconds" ["server"]
        "Time from spawn to ready.";
    SERVER_STOP_SECONDS = Histogram "llama_warden_server_stop_seconds" ["server"]
        "Time from the request to stop to the reaped process.";
    SERVER_LAUNCHES = Counter "llama_warden_server_launches_total" ["server"]
        "Launches that began, and processes that were taken over.";
    SERVER_BECAME_READY = Counter "llama_warden_server_became_ready_total" ["server", "via"]
        "Launches that became ready, by what proved it.";
    SERVER_EXITS = Counter "llama_warden_server_exits_total" ["server", "outcome"]
        "Processes that ended, by outcome.";
    SERVER_FAILURES = Counter "llama_warden_server_failures_total" ["server", "reason"]
        "Launches that failed, by reason.";
    SERVER_RESTARTS = Counter "llama_warden_server_restarts_total" ["server", "reason"]
        "Processes that the restart policy has started, by the reason of the failure before. A look for what is missing starts none.";
    SERVER_RESTARTS_ABANDONED = Counter "llama_warden_server_restarts_abandoned_total" ["server", "reason"]
        "Times that policy gave a server up, by the reason of the last failure.";
    SERVER_SIGNALS = Counter "llama_warden_server_signals_total" ["server", "signal"]
        "Signals sent by the stop ladder.";
    SERVER_RESIDENT_MEMORY = Gauge "llama_warden_server_resident_memory_bytes" ["server"]
        "Resident memory of the running process and of those below it, mapped model pages included.";
    SERVER_CPU = Counter "llama_warden_server_cpu_seconds_total" ["server"]
        "User and system CPU time of the running process and of those below it; begins at 0 with each launch.";
    SERVER_OUTPUT_LINES = Counter "llama_warden_server_output_lines_total" ["server", "stream"]
        "Lines that the server wrote.";
    SERVER_OUTPUT_DROPPED = Counter "llama_warden_server_output_dropped_lines_total" ["server", "stream"]
        "Lines that were forgotten before a follower read them, or lost while no daemon was there.";
    SERVER_REQUEST_METRICS = Gauge "llama_warden_server_request_metrics" ["server"]
        "1 if the latest launch prints lines about requests. 0: it is silent, or not known to print them, and its requests are not counted.";
    SERVER_SLOTS_BUSY = Gauge "llama_warden_server_slots_busy" ["server"]
        "Slots that work now, those of embeddings included.";
    SERVER_LAST_REQUEST = Gauge "llama_warden_server_last_request_timestamp_seconds" ["server"]
        "When the latest generation ended, in seconds since the Unix epoch.";

    REQUESTS = Counter "llama_warden_requests_total" ["server"]
        "Generations that ended by themselves, also for a client that did not wait; those that were cancelled leave no line.";
    REQUEST_PROMPT_TOKENS = Counter "llama_warden_request_prompt_tokens_total" ["server"]
        "Tokens of prompts that were read, without those in the cache.";
    REQUEST_DECODE_TOKENS = Counter "llama_warden_request_decode_tokens_total" ["server"]
        "Tokens that were generated.";
    REQUEST_PROMPT_SECONDS = Histogram "llama_warden_request_prompt_seconds" ["server"]
        "Time to read the prompt of a request.";
    REQUEST_DECODE_SECONDS = Histogram "llama_warden_request_decode_seconds" ["server"]
        "Time from the first to the last token of a request.";
    REQUEST_TOKEN_SECONDS = Histogram "llama_warden_request_time_per_output_token_seconds" ["server"]
        "Time of one token after the first, the mean of each request.";

    SERVER_SCRAPE_OK = Gauge "llama_warden_server_scrape_ok" ["server", "reason"]
        "1 where the ready server gave its own metrics, 0 where not; the reason says why. With ?servers=1.";
    SERVER_SCRAPES = Counter "llama_warden_server_scrapes_total" ["server", "reason"]
        "Times that the server was looked at for its own metrics, by what came of it. With ?servers=1.";
    SERVER_SCRAPE_DROPPED = Counter "llama_warden_server_scrape_dropped_samples_total" ["server"]
        "Samples of the server's own metrics that were no finite numbers or not well formed. With ?servers=1.";
    SERVER_KV_USED = Gauge "llama_warden_server_kv_used_ratio" ["server"]
        "Tokens in the slots of the server to the tokens that fit, where its build counts them. With ?servers=1.";

    ROUTER_REQUESTS = Counter "llama_warden_router_requests_total" ["server", "route", "outcome"]
        "Requests that ended, by what they were for and how they ended; the server is empty where they came to none. Without those for /health.";
    ROUTER_IN_FLIGHT = Gauge "llama_warden_router_requests_in_flight" ["server"]
        "Requests that a server has and has not answered to the end.";
    ROUTER_WAITING = Gauge "llama_warden_router_requests_waiting" ["server"]
        "Requests that wait for the start or for a slot of a server.";
    ROUTER_DETACHED = Gauge "llama_warden_router_requests_detached" ["server"]
        "Requests in flight whose client has left, and which go on because their stream can be resumed.";
    ROUTER_REJECTIONS = Counter "llama_warden_router_rejections_total" ["code"]
        "Errors that the router answered itself, by the code in the answer.";
    ROUTER_WAIT_SECONDS = Histogram "llama_warden_router_wait_seconds" ["server", "for"]
        "Time that a request waited, by what for: start, eviction (a start for which others had to stop) or slot.";
    ROUTER_REQUEST_SECONDS = Histogram "llama_warden_router_request_seconds" ["server", "route"]
        "Time from the head of a request to the last byte of its answer, waiting included.";
    ROUTER_FIRST_TOKEN_SECONDS = Histogram "llama_warden_router_first_token_seconds" ["server"]
        "Time from the head of a request to the first data of its stream.";
    ROUTER_OVERHEAD_SECONDS = Histogram "llama_warden_router_overhead_seconds" []
        "The router's own time: from the head of a request until it is sent, without waiting and without reading its body, and from the first byte of the answer until it is passed on.";
    ROUTER_TOKENS = Counter "llama_warden_router_tokens_total" ["server", "kind"]
        "Tokens that answers tell: input (of prompts, and read), cached (of prompts, not read again) and output; each is of one kind.";
    ROUTER_RETRIES = Counter "llama_warden_router_retries_total" ["server", "cause"]
        "Requests that were sent again, because of a closed connection, an answer that was lost before it began, or a crash.";
    ROUTER_EVICTIONS = Counter "llama_warden_router_evictions_total" ["server", "because"]
        "Times that the ready server was stopped for the router: memory, count, group, combination (room for others), idle or unload.";
    ROUTER_BODY_BYTES = Gauge "llama_warden_router_body_bytes" []
        "Bytes of request bodies that are held; router.body-memory is the most.";
    ROUTER_CONNECTIONS = Gauge "llama_warden_router_connections" ["side"]
        "Open connections of the router, to clients and to servers.";

    BUS_EVENTS = Counter "llama_warden_bus_events_total" ["kind"]
        "Events, by kind.";
    BUS_FACTS = Counter "llama_warden_bus_facts_total" ["kind"]
        "Deprecated: the old name of llama_warden_bus_events_total, kept for one release.";
    BUS_GAPS = Counter "llama_warden_bus_gaps_total" ["subscriber"]
        "Times a subscriber fell so far behind that it missed events and went on from a snapshot.";
    BUS_ANOMALIES = Counter "llama_warden_bus_anomalies_total" []
        "Events that were stale or impossible in the state they met.";

    GUARDIAN_RESTARTS = Counter "llama_warden_guardian_restarts_total" []
        "Times that the process that forks all others was killed or stopped and started again.";

    EXTENSION_EVENTS = Counter "llama_warden_extension_events_total" ["source", "kind"]
        "Events of components that are not part of llama-warden, by the component and its kind of event.";

    PROCESS_CPU = Counter "process_cpu_seconds_total" []
        "Total user and system CPU time spent in seconds.";
    PROCESS_OPEN_FDS = Gauge "process_open_fds" []
        "Number of open file descriptors.";
    PROCESS_MAX_FDS = Gauge "process_max_fds" []
        "Maximum number of open file descriptors.";
    PROCESS_VIRTUAL_MEMORY = Gauge "process_virtual_memory_bytes" []
        "Virtual memory size in bytes.";
    PROCESS_RESIDENT_MEMORY = Gauge "process_resident_memory_bytes" []
        "Resident memory size in bytes.";
    PROCESS_START_TIME = Gauge "process_start_time_seconds" []
        "Start time of the process since unix epoch in seconds.";
    PROCESS_THREADS = Gauge "process_threads" []
        "Number of OS threads in the process.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        for family in catalogue() {
            let Family { name, kind, help, labels } = family;
            assert_eq!(name.ends_with("_total"), *kind == FamilyKind::Counter, "{name}");
            assert!(name.starts_with("llama_warden_") || name.starts_with("process_"), "{name}");
            assert!(help.ends_with('.') && !help.contains('\n'), "{name}");
            let server = name.starts_with("llama_warden_server_") || name.starts_with("llama_warden_request");
            let router = name.starts_with("llama_warden_router_");
            assert!(router || server == (labels.first() == Some(&"server")), "{name}");
        }
    }

    #[test]
    fn no_two_families_clash_in_openmetrics() {
        let families: BTreeSet<_> =
            catalogue().iter().map(|family| family.name.strip_suffix("_total").unwrap_or(family.name)).collect();
        assert_eq!(families.len(), catalogue().len());
    }
}
