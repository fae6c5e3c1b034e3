//! The state of one server in words, for tables and lines.

use llama_warden_api_types::ServerReport;
use llama_warden_events::RouterCard;
use llama_warden_state::PhaseName;
use llama_warden_support::{for_cell, naming_program};

/// The state of one server in one line, for output that is not a terminal.
pub fn server_line(server: &ServerReport) -> String {
    let mut line = format!("{}: {}", server.model_id, phase(server));
    if let (PhaseName::Ready, false, Some(seconds)) = (server.phase, server.is_sleeping, server.startup_seconds) {
        line.push_str(&format!(" after {seconds:.2} s via {} on {}", ready_via(server), base_url(server)));
    }
    let idle = if server.model_id.is_canary() { "" } else { "not started by itself" };
    let note = note(server, idle);
    if !note.is_empty() {
        line.push_str(&format!(" ({})", for_cell(&note)));
    }
    line
}

/// What [`server_line`] says, without the times that pass while a server waits.
pub fn server_state(server: &ServerReport) -> String {
    let failure = server.last_failure.as_ref().map(|failure| (failure.reason, failure.at));
    let waits = server.waiting_for.is_some();
    // Whole tenths: a load of an hour prints ten lines.
    let tenths = server.progress.map_or(0, |progress| (progress * 10.0) as u32);
    format!("{} {tenths} {} {failure:?} {waits} {:?}", server.phase, server.incarnation, server.restart_abandoned)
}

/// The address of a server for its clients.
pub fn base_url(server: &ServerReport) -> String {
    if !server.base_url.is_empty() {
        return server.base_url.clone();
    }
    // Without a port, the host is the path of a socket.
    llama_warden_api_types::base_url(&server.host, server.port.unwrap_or_default())
}

/// The phase of a server, how far it is loaded, and whether it sleeps.
pub fn phase(server: &ServerReport) -> String {
    match (server.phase, server.progress) {
        (PhaseName::Ready, _) if server.is_sleeping => "sleeping".to_owned(),
        (PhaseName::Loading, Some(progress)) => format!("loading {:.0} %", progress * 100.0),
        (phase, _) => phase.to_string(),
    }
}

pub(crate) fn ready_via(server: &ServerReport) -> String {
    let via = server.ready_via.filter(|_| server.is_running);
    via.map_or_else(String::new, |via| via.to_string())
}

/// Where requests for every model go.
pub fn router_line(router: &RouterCard) -> String {
    let path = if router.port.is_some() { "/v1" } else { "" };
    let key = if router.needs_key { "; clients need a key" } else { "" };
    format!("one address for all models: {}{path} (`model` is the server's id{key})", router.base_url)
}

/// Why a server is in its phase. `left_out` is the note of a server that is down because it is not enabled.
pub(crate) fn note(server: &ServerReport, left_out: &str) -> String {
    let is_left_out = !server.enabled && matches!(server.phase, PhaseName::Idle | PhaseName::Exited);
    match &server.note {
        Some(note) => naming_program(note.clone()),
        None if is_left_out => left_out.to_owned(),
        None => String::new(),
    }
}

/// A time in its two largest units: `4s`, `2m07s`, `3h05m`, `2d04h`.
pub fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use llama_warden_component_kit::{card, server};
    use llama_warden_events::{ReadyVia, Uptime};
    use llama_warden_state::ServerRecord;

    use super::*;

    #[test]
    fn a_ready_server_that_sleeps_is_shown_so_and_the_line_of_one_that_is_awake_says_how_it_became_ready() {
        let record = ServerRecord::new(card(&server("a")).into(), Uptime::default());
        let report = ServerReport::of(&server("a"), &record, Uptime::default());
        let (ready_via, startup_seconds) = (Some(ReadyVia::Health), Some(2.0));
        let ready = ServerReport { phase: PhaseName::Ready, is_running: true, ready_via, startup_seconds, ..report };
        assert_eq!(phase(&ready), "ready");
        assert_eq!(server_line(&ready), "a: ready after 2.00 s via health on http://127.0.0.1:8001");
        let asleep = ServerReport { is_sleeping: true, note: Some("why".to_owned()), ..ready };
        assert_eq!(phase(&asleep), "sleeping");
        assert_eq!(server_line(&asleep), "a: sleeping (why)");
    }

    #[test]
    fn an_uptime_has_two_units_at_most() {
        let texts: Vec<_> = [0, 59, 127, 11_100, 187_200].into_iter().map(age).collect();
        assert_eq!(texts, ["0s", "59s", "2m07s", "3h05m", "2d04h"]);
    }
}
