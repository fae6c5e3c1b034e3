//! The alerts: when each fires, how long that has to hold, and the runbook for the person whom it wakes.

use crate::expression::{JOB, SERVER, counted};
use crate::recordings::{DECODE_SPEED_1W, DECODE_SPEED_10M, READY_SECONDS_1H, READY_SECONDS_1W};

/// Where the runbooks are, in the checkout and in the archive. To have the alerts link to a published copy, set
/// `_config.runbooks` of the mixin; `docs/how-to/prometheus.md` says how to change the files.
pub(crate) const RUNBOOKS: &str = "docs/runbooks";

/// An alert.
#[derive(Debug)]
pub(crate) struct Alert {
    /// Its name.
    pub(crate) name: &'static str,
    /// The condition, in PromQL.
    pub(crate) expression: String,
    /// How long the condition has to hold.
    pub(crate) hold: &'static str,
    /// Who has to act, and when.
    pub(crate) severity: AlertSeverity,
    /// What is wrong, in one sentence with the labels of the series.
    pub(crate) summary: &'static str,
    /// What that means for users, with the value.
    pub(crate) description: &'static str,
    /// Its page, without folder and extension. `REASON` is the page of the failure's reason.
    pub(crate) runbook: &'static str,
}

/// Who has to act, and when.
#[derive(Debug, Clone, Copy, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum AlertSeverity {
    /// Somebody, at once: requests fail.
    Critical,
    /// Somebody, during the day: quality is lost.
    Warning,
    /// Nobody, but it explains other alerts.
    Info,
}

/// The page of the reason for which a server failed, or the page for servers that were given up where the policy has not counted one.
pub(crate) const REASON: &str = "{{ or $labels.reason \"given-up\" }}";

/// The page for a failed server whose reason is not in the labels.
#[cfg(test)]
pub(crate) const GIVEN_UP: &str = "given-up";

/// Every alert, the most urgent first.
pub(crate) fn all() -> Vec<Alert> {
    critical().into_iter().chain(warnings()).chain([forced_stop()]).collect()
}

fn critical() -> [Alert; 4] {
    let ids = SERVER;
    [
        Alert {
            name: "LlamaWardenDaemonGone",
            expression: format!("up{{{JOB}}} == 0 or absent(up{{{JOB}}})"),
            hold: "2m",
            severity: AlertSeverity::Critical,
            summary: "llama-warden on {{ or $labels.instance \"every target\" }} is not scraped",
            description: "Prometheus gets no metrics of the daemon. Its servers may still run, but nothing watches them.",
            runbook: "daemon-gone",
        },
        Alert {
            name: "LlamaWardenServerGivenUp",
            expression: format!(
                "llama_warden_server_restarts_abandoned_total > 0 and on ({ids}) (llama_warden_server_phase{{phase=\"failed\"}} == 1)\n\
                 or\n\
                 (llama_warden_server_phase{{phase=\"failed\"}} == 1) unless on ({ids}) (llama_warden_server_restarts_abandoned_total > 0)"
            ),
            hold: "1m",
            severity: AlertSeverity::Critical,
            summary: "{{ $labels.server }} has failed and is not started again{{ with $labels.reason }}: {{ . }}{{ end }}",
            description: "The restart policy has given {{ $labels.server }} up, or does not restart it. It stays down until somebody \
                          acts, or until what it waits for appears.",
            runbook: REASON,
        },
        Alert {
            name: "LlamaWardenServerCrashLooping",
            expression: format!("sum by ({ids}) ({}) >= 3", counted("llama_warden_server_restarts_total", "15m")),
            hold: "0m",
            severity: AlertSeverity::Critical,
            summary: "{{ $labels.server }} fails and is restarted again and again",
            description: "{{ $labels.server }} was restarted {{ $value | humanize }} times in 15 minutes.",
            runbook: "crash-loop",
        },
        Alert {
            name: "LlamaWardenServerNotReady",
            expression: format!(
                "max by ({ids}) (llama_warden_server_phase{{phase=~\"launching|starting|loading|unready|backing-off\"}}) == 1"
            ),
            hold: "15m",
            severity: AlertSeverity::Critical,
            summary: "{{ $labels.server }} should be ready and is not",
            description: "{{ $labels.server }} has been starting, loading, unready or waiting for its next restart for 15 minutes.",
            runbook: "not-ready",
        },
    ]
}

fn warnings() -> [Alert; 4] {
    let ids = SERVER;
    [
        Alert {
            name: "LlamaWardenServerUnresponsive",
            expression: format!(
                "sum by ({ids}, reason) ({}) > 0",
                counted("llama_warden_server_failures_total{reason=~\"unresponsive|wedged\"}", "15m")
            ),
            hold: "0m",
            severity: AlertSeverity::Warning,
            summary: "{{ $labels.server }} stopped answering: {{ $labels.reason }}",
            description: "{{ $labels.server }} was ready, and then its health checks failed {{ $value | humanize }} times in 15 minutes. \
                          It is restarted.",
            runbook: REASON,
        },
        Alert {
            name: "LlamaWardenServerLoadsSlowly",
            expression: format!(
                "(llama_warden_server_uptime_seconds and on ({ids}) (max by ({ids}) \
                 (llama_warden_server_phase{{phase=~\"starting|loading\"}}) == 1))\n\
                 > on ({ids}) (2 * {READY_SECONDS_1W} + 10)\n\
                 or\n\
                 {READY_SECONDS_1H} > on ({ids}) (2 * {READY_SECONDS_1W} + 10)"
            ),
            hold: "0m",
            severity: AlertSeverity::Warning,
            summary: "{{ $labels.server }} takes longer to load than it used to",
            description: "A launch of {{ $labels.server }} took or takes {{ $value | humanizeDuration }}, more than twice its mean of the week.",
            runbook: "slow-load",
        },
        Alert {
            name: "LlamaWardenServerDecodesSlowly",
            expression: format!(
                "{DECODE_SPEED_10M} < on ({ids}) (0.7 * {DECODE_SPEED_1W})\n\
                 and on ({ids}) increase(llama_warden_requests_total[10m]) >= 5"
            ),
            hold: "10m",
            severity: AlertSeverity::Warning,
            summary: "{{ $labels.server }} generates tokens more slowly than in the week before",
            description: "{{ $labels.server }} generates {{ $value | humanize }} tokens per second and request, less than 70 % of its mean of the \
                          week.",
            runbook: "slow-decode",
        },
        Alert {
            name: "LlamaWardenServerMemoryGrows",
            expression: format!(
                "llama_warden_server_resident_memory_bytes / (llama_warden_server_resident_memory_bytes offset 6h) > 1.25\n\
                 and on ({ids}) llama_warden_server_uptime_seconds > 7 * 3600\n\
                 and on ({ids}) deriv(llama_warden_server_resident_memory_bytes[1h]) > 0"
            ),
            hold: "30m",
            severity: AlertSeverity::Warning,
            summary: "the memory of {{ $labels.server }} grows",
            description: "The same process of {{ $labels.server }} has {{ $value | humanize }} times the memory of six hours ago, and more \
                          every minute.",
            runbook: "memory-growth",
        },
    ]
}

fn forced_stop() -> Alert {
    Alert {
        name: "LlamaWardenServerForcedStop",
        expression: format!(
            "sum by ({SERVER}) ({}) > 0",
            counted("llama_warden_server_signals_total{signal=\"KILL\"}", "1h")
        ),
        hold: "0m",
        severity: AlertSeverity::Info,
        summary: "{{ $labels.server }} had to be killed",
        description: "{{ $labels.server }} did not end within its grace {{ $value | humanize }} times in an hour, or somebody forced it.",
        runbook: "forced-stop",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use llama_warden_events::FailureReason;

    use super::*;

    /// The pages that the alerts name, one for each reason among them.
    fn pages() -> Vec<String> {
        let named = all().into_iter().map(|alert| alert.runbook).filter(|page| *page != REASON);
        let reasons = FailureReason::ALL.into_iter().map(FailureReason::as_str);
        named.chain([GIVEN_UP]).chain(reasons).map(|page| format!("{page}.md")).collect()
    }

    #[test]
    fn every_alert_and_every_reason_of_a_failure_has_a_runbook_that_is_complete() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs/runbooks");
        for page in pages() {
            let text = std::fs::read_to_string(folder.join(&page)).unwrap_or_default();
            for part in
                ["# ", "\n## What it means\n", "\n## Look at\n", "\n## Usual causes\n", "\n```sh\nllama-warden "]
            {
                assert!(text.contains(part), "docs/runbooks/{page} lacks {part:?}");
            }
        }
    }

    #[test]
    fn no_runbook_is_left_over() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs/runbooks");
        let pages = pages();
        for entry in std::fs::read_dir(folder).expect("readable").flatten() {
            let name = entry.file_name().into_string().expect("text");
            assert!(name == "README.md" || pages.contains(&name), "nothing leads to docs/runbooks/{name}");
        }
    }
}
