//! Recorded help texts and a server's specification, for unit tests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use llama_warden_config::{
    Confirm, Flag, FlagOrigin, FlagValue, HealthSpec, ListenerPolicy, OnTimeout, ReadinessSpec, RestartPolicy,
    RestartSpec, ServerSpec, StopSpec,
};
use llama_warden_events::{ServerId, Signal};
use llama_warden_plugin_files::PluginFile as _;

use crate::dialect::Dialect;
use crate::load::DialectSet;

/// The builds with recorded output, and the number of long options that their help lists.
pub(crate) const HELP_OPTION_COUNTS: [(&str, usize); 4] =
    [("2024-07-py0.2.80", 162), ("2024-11-py0.3.2", 133), ("2025-08-py0.3.16", 187), ("b11669-debian", 331)];

/// The recorded help text of a build.
pub(crate) fn help(build: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../tests/fixtures/transcripts");
    std::fs::read_to_string(folder.join(build).join("help.txt")).expect("the fixture exists")
}

/// The built-in dialect.
pub(crate) fn dialect() -> Dialect {
    DialectSet::built_in().get(Dialect::FALLBACK).expect("the built-in dialect is valid").clone()
}

pub(crate) fn user_flag(value: FlagValue) -> Flag {
    Flag { value, origin: FlagOrigin::User }
}

/// A server without flags.
pub(crate) fn server(id: &str) -> ServerSpec {
    let seconds = Duration::from_secs;
    ServerSpec {
        id: ServerId::new(id).expect("a valid id"),
        display_name: id.into(),
        model: PathBuf::from("/models/tiny.gguf"),
        port: 8001,
        host: "127.0.0.1".into(),
        enabled: true,
        tier: None,
        thinking: false,
        binary: Path::new("llama-server").into(),
        dialect: None,
        flags: Default::default(),
        directory: Path::new("/").into(),
        args: Vec::new(),
        env: Default::default(),
        env_pass: Vec::new(),
        api_key_file: None,
        readiness: ReadinessSpec {
            timeout: seconds(120),
            on_timeout: OnTimeout::AssumeReady,
            stall_timeout: None,
            detector: None,
            confirm: Confirm::Health,
            listener: ListenerPolicy::Own,
        }
        .into(),
        stop: StopSpec { grace: seconds(10), ladder: vec![Signal::TERM] }.into(),
        restart: RestartSpec {
            policy: RestartPolicy::OnFailure,
            max_attempts: 5,
            initial_delay: seconds(1),
            max_delay: seconds(60),
            stable_after: seconds(60),
        }
        .into(),
        health: HealthSpec { interval: seconds(10), timeout: seconds(2), failures: 3, inference: None }.into(),
        hooks: Default::default(),
        router: Default::default(),
        log_ring_bytes: 256 * 1024,
    }
}
