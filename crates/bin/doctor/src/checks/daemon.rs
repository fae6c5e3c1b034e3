//! The daemon of this configuration, if one runs.

use llama_warden_connect::{GlobalArgs, to_daemon};
use llama_warden_exit::Exit;
use llama_warden_inventory::LoadedConfig;

use crate::finding::{Area, Finding};

/// Longest path of a unix socket in bytes, without the NUL (unix(7)).
const LONGEST_SOCKET_PATH: usize = 107;

/// What is known of the daemon.
#[derive(Debug)]
pub(crate) struct DaemonLook {
    /// Whether it answers.
    pub(crate) answers: bool,
    pub(crate) findings: Vec<Finding>,
}

pub(crate) async fn look(global: &GlobalArgs, loaded: &LoadedConfig) -> DaemonLook {
    let mut findings = Vec::new();
    if let Ok(socket) = loaded.control_socket()
        && socket.as_os_str().len() > LONGEST_SOCKET_PATH
    {
        let length = socket.as_os_str().len();
        findings.push(Area::Daemon.fault(
            format!("the path of the control socket has {length} bytes, and the kernel takes {LONGEST_SOCKET_PATH}"),
            "name a shorter `daemon.state-dir`",
        ));
        return DaemonLook { answers: false, findings };
    }
    let status = match to_daemon(global).await {
        Ok(client) => client.status().await.map_err(|error| error.to_string()),
        Err(failure) if failure.exit == Exit::NoDaemon => {
            findings.push(Area::Daemon.good("none runs; `llama-warden up` starts it"));
            return DaemonLook { answers: false, findings };
        }
        Err(failure) => {
            findings.extend(Area::Daemon.failure(&failure));
            return DaemonLook { answers: false, findings };
        }
    };
    let answers = status.is_ok();
    findings.push(match status {
        Ok(status) if status.configuration_refused.is_some() => Area::Daemon.warning(
            "it runs with an earlier configuration: the present one was refused",
            "`llama-warden check` shows why, `llama-warden reload` tries again",
        ),
        Ok(status) => Area::Daemon.good(format!(
            "it answers; {} of {} servers run, {} ready",
            status.running_servers, status.total_servers, status.ready_servers
        )),
        Err(error) => Area::Daemon.fault(error, "`llama-warden down --force`, or read its log"),
    });
    DaemonLook { answers, findings }
}
