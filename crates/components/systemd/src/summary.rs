//! One line about all servers, for `systemctl status`.

use std::fmt::Write;

use llama_warden_events::ServerId;
use llama_warden_state::{DaemonPhase, Phase, ServerRecord, Snapshot};

/// Names of servers beyond this number are counted.
const NAMED: usize = 3;

/// What is ready, what loads and what failed.
pub(crate) fn summary(snapshot: &Snapshot) -> String {
    let enabled = || snapshot.servers.iter().filter(|(_, server)| server.card.enabled);
    match snapshot.daemon.phase {
        DaemonPhase::Starting => return "starting".to_owned(),
        DaemonPhase::Stopping => return format!("stopping, {} still running", snapshot.running_servers()),
        DaemonPhase::Stopped => return "every server has stopped".to_owned(),
        DaemonPhase::Running => {}
    }
    let ready = enabled().filter(|(_, server)| server.is_ready()).count();
    let mut line = format!("{ready} of {} servers ready", enabled().count());
    let servers = || enabled().map(|(id, server)| (id, server.as_ref()));
    append(&mut line, "loading", servers().filter_map(|(id, server)| loading(id, server)));
    append(&mut line, "failed", servers().filter(|(_, server)| is_failed(server)).map(|(id, _)| id.to_string()));
    if snapshot.daemon.configuration_refused.is_some() {
        line.push_str("; the changed configuration was refused");
    }
    line
}

fn append(line: &mut String, what: &str, names: impl Iterator<Item = String>) {
    let names: Vec<_> = names.collect();
    if names.is_empty() {
        return;
    }
    let (named, others) = names.split_at(names.len().min(NAMED));
    let _ = write!(line, "; {what} {}", named.join(", "));
    if !others.is_empty() {
        let _ = write!(line, " and {} more", others.len());
    }
}

fn loading(id: &ServerId, server: &ServerRecord) -> Option<String> {
    match server.phase {
        Phase::Loading { progress: Some(progress) } => Some(format!("{id} {:.0} %", progress * 100.0)),
        Phase::Launching | Phase::Starting | Phase::Loading { progress: None } => Some(id.to_string()),
        _ => None,
    }
}

fn is_failed(server: &ServerRecord) -> bool {
    matches!(server.phase, Phase::Failed { .. } | Phase::BackingOff { .. })
}
