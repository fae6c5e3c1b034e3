//! Formats tables and lines for people.

use anstyle::{AnsiColor, Color, Style};
use comfy_table::{Table, presets};
use llama_warden_api_types::{ServerReport, StatusReport};
use llama_warden_events::ServerId;
use llama_warden_state::PhaseName;

/// The status of all servers: a line for each, and one of totals.
pub fn status(report: &StatusReport) -> String {
    let left_out =
        report.profile.as_ref().map_or_else(|| "not enabled".to_owned(), |profile| format!("not in profile {profile}"));
    let rows = report.servers.iter().map(|server| {
        [
            server.model_id.to_string(),
            phase(server),
            server.port.to_string(),
            server.pid.map_or_else(String::new, |pid| pid.to_string()),
            if server.is_running { uptime(server.uptime_seconds) } else { String::new() },
            ready_via(server),
            server.llama_version.clone().unwrap_or_default(),
            note(server, &left_out),
        ]
    });
    let table = plain(["SERVER", "PHASE", "PORT", "PID", "UPTIME", "READY VIA", "BUILD", "NOTE"], rows);
    let refused = report.configuration_refused.as_deref().map_or_else(String::new, |why| {
        let first = why.lines().next().unwrap_or_default();
        format!("\na changed configuration is refused: {first} (`llama-warden check` shows it all)")
    });
    let profile = report.profile.as_ref().map_or_else(String::new, |profile| format!(" · profile {profile}"));
    format!(
        "{table}\n{} of {} ready, {} running{profile}{refused}",
        report.ready_servers, report.total_servers, report.running_servers
    )
}

/// A table of text: a header and rows, without rules and trailing spaces.
pub fn plain<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header).add_rows(rows);
    table.trim_fmt()
}

/// The ids of servers in one line.
pub fn names(servers: &[ServerId]) -> String {
    let names: Vec<_> = servers.iter().map(ServerId::as_str).collect();
    names.join(", ")
}

/// The state of one server in one line, for output that is not a terminal.
pub fn server_line(server: &ServerReport) -> String {
    let mut line = format!("{}: {}", server.model_id, phase(server));
    if let (PhaseName::Ready, Some(seconds)) = (server.phase, server.startup_seconds) {
        line.push_str(&format!(" after {seconds:.2} s via {} on port {}", ready_via(server), server.port));
    }
    let note = note(server, "not started by itself");
    if !note.is_empty() {
        line.push_str(&format!(" ({note})"));
    }
    line
}

/// Colours the phases of a status table; the caller's stream strips the colours if it is not a terminal.
pub fn colour_phases(text: &str) -> String {
    let mut coloured = String::with_capacity(text.len() * 2);
    for line in text.split_inclusive('\n') {
        // Between spaces, so that `ready` is not found in `already`.
        let hit = PhaseName::ALL.into_iter().find_map(|phase| {
            let at = line.find(&format!(" {phase} "))? + 1;
            Some((at, phase.as_str().len(), style_of(phase)))
        });
        match hit {
            Some((at, len, style)) => {
                let (before, rest) = line.split_at(at);
                let (word, after) = rest.split_at(len);
                coloured.push_str(&format!("{before}{style}{word}{style:#}{after}"));
            }
            None => coloured.push_str(line),
        }
    }
    coloured
}

fn style_of(phase: PhaseName) -> Style {
    let colour = match phase {
        PhaseName::Ready => AnsiColor::Green,
        PhaseName::Failed | PhaseName::Unready => AnsiColor::Red,
        PhaseName::Launching | PhaseName::Starting | PhaseName::Loading => AnsiColor::Cyan,
        PhaseName::Stopping | PhaseName::BackingOff => AnsiColor::Yellow,
        PhaseName::Idle | PhaseName::Exited => AnsiColor::BrightBlack,
    };
    Style::new().fg_color(Some(Color::Ansi(colour)))
}

/// The phase of a server, and how far it is loaded.
pub fn phase(server: &ServerReport) -> String {
    match (server.phase, server.progress) {
        (PhaseName::Loading, Some(progress)) => format!("loading {:.0} %", progress * 100.0),
        (phase, _) => phase.to_string(),
    }
}

fn ready_via(server: &ServerReport) -> String {
    let via = server.ready_via.filter(|_| server.is_running);
    via.map_or_else(String::new, |via| via.to_string())
}

/// Why a server is down or what it waits for. `left_out` is the note of a server that is down because it is not enabled.
fn note(server: &ServerReport, left_out: &str) -> String {
    match (&server.waiting_for, &server.last_failure) {
        (Some(waiting_for), Some(failure)) if server.phase == PhaseName::BackingOff => {
            format!("{}; waits for {waiting_for}", failure.reason)
        }
        (Some(waiting_for), _) => format!("waits for {waiting_for}"),
        (None, Some(failure)) if server.phase == PhaseName::Failed => {
            // A permanent failure is never retried, so its note does not mention it.
            let given_up = server.restart_abandoned.as_ref().filter(|_| !failure.reason.is_permanent());
            let given_up = given_up.map_or_else(String::new, |because| format!("; given up: {because}"));
            format!("{}: {}{given_up}", failure.reason, failure.detail)
        }
        _ if !server.enabled && matches!(server.phase, PhaseName::Idle | PhaseName::Exited) => left_out.to_owned(),
        _ => String::new(),
    }
}

/// An uptime in its two largest units: `4s`, `2m07s`, `3h05m`, `2d04h`.
fn uptime(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use llama_warden_api_types::FailureReport;
    use llama_warden_events::{FailureReason, Seq, ServerCard, ServerId, Timestamp, Uptime};
    use llama_warden_state::ServerRecord;

    use super::*;

    #[test]
    fn an_uptime_has_two_units_at_most() {
        let texts: Vec<_> = [0, 59, 127, 11_100, 187_200].into_iter().map(uptime).collect();
        assert_eq!(texts, ["0s", "59s", "2m07s", "3h05m", "2d04h"]);
    }

    /// A server that is down, with the failure `reason` where one is named.
    fn report(phase: PhaseName, reason: Option<FailureReason>) -> ServerReport {
        let card = ServerCard {
            display_name: "A".to_owned(),
            model: None,
            port: 8001,
            host: "127.0.0.1".to_owned(),
            tier: None,
            thinking: false,
            enabled: true,
        };
        let record = ServerRecord::new(card.into(), Uptime::default());
        let at = Timestamp::new("2026-11-22T13:05:01Z".parse().expect("valid"));
        let failure = |reason| FailureReport { reason, detail: "why".to_owned(), at, lines: Vec::new() };
        ServerReport {
            phase,
            last_failure: reason.map(failure),
            restarts: 10,
            ..ServerReport::of(&ServerId::new("a").expect("valid"), &record, Uptime::default())
        }
    }

    #[test]
    fn a_note_says_why_a_server_is_down_and_what_comes() {
        let waits = |report| ServerReport { waiting_for: Some("restart 3 in 0.2 s".to_owned()), ..report };
        let abandoned = |report| ServerReport { restart_abandoned: Some("6 failures".to_owned()), ..report };
        let left_out = |phase| ServerReport { enabled: false, ..report(phase, None) };
        let (crashed, busy) = (Some(FailureReason::Crashed), Some(FailureReason::PortInUse));
        let absent = Some(FailureReason::ModelNotFound);
        let table = [
            (waits(report(PhaseName::BackingOff, busy)), "port-in-use; waits for restart 3 in 0.2 s"),
            (waits(report(PhaseName::Stopping, busy)), "waits for restart 3 in 0.2 s"),
            (report(PhaseName::Failed, crashed), "crashed: why"),
            (abandoned(report(PhaseName::Failed, crashed)), "crashed: why; given up: 6 failures"),
            (abandoned(report(PhaseName::Failed, absent)), "model-not-found: why"),
            (report(PhaseName::Idle, None), ""),
            (left_out(PhaseName::Idle), "left out"),
            (left_out(PhaseName::Exited), "left out"),
            (left_out(PhaseName::Ready), ""),
        ];
        for (report, expected) in table {
            assert_eq!(note(&report, "left out"), expected, "{:?}", report.phase);
        }
    }

    #[test]
    fn a_server_that_is_left_out_is_told_from_one_that_is_not_enabled() {
        let report_of = |profile: Option<&str>| StatusReport {
            total_servers: 1,
            ready_servers: 0,
            running_servers: 0,
            profile: profile.map(str::to_owned),
            configuration_refused: None,
            seq: Seq::default(),
            servers: vec![ServerReport { enabled: false, ..report(PhaseName::Idle, None) }],
        };
        for (profile, expected) in [(Some("night"), "not in profile night"), (None, "not enabled")] {
            let shown = status(&report_of(profile));
            assert!(shown.lines().any(|line| line.ends_with(expected)), "{shown}");
        }
    }

    #[test]
    fn a_phase_is_coloured_as_a_word_of_its_own() {
        let text = colour_phases(" already  ready  8001\n");
        assert!(text.starts_with(" already  \u{1b}[32mready\u{1b}[0m"), "{text:?}");
    }
}
