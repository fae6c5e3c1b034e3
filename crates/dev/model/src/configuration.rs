//! The configurations of the simulated daemon.

use std::sync::{Arc, LazyLock};

use llama_warden_config::{Fleet, ServerSpec};
use llama_warden_events::ServerId;

use crate::SERVERS;

/// How many states a server can have in a configuration.
pub const STATES: u8 = 5;

/// Three servers that differ in everything that the machines read.
static SPECS: LazyLock<Vec<Arc<ServerSpec>>> = LazyLock::new(|| {
    let short =
        "[servers.restart]\nmax-attempts = 2\ninitial-delay = \"1s\"\nmax-delay = \"4s\"\nstable-after = \"20s\"\n";
    let servers = [
        format!("port = 8001\n[servers.stop]\ngrace = \"5s\"\n{short}"),
        format!(
            "port = 8002\nhooks = {{ pre-stop = [\"x\"], timeout = \"3s\" }}\n[servers.stop]\ngrace = \"6s\"\nladder = [\"INT\", \
             \"TERM\"]\n{short}[servers.readiness]\ntimeout = \"30s\"\non-timeout = \"fail\"\nstall-timeout = \"20s\"\n"
        ),
        "port = 8003\nrouter = { ttl = \"15s\" }\n[servers.restart]\npolicy = \"never\"\n[servers.health]\ninterval = \"3s\"\nfailures = 1\n"
            .to_owned(),
    ];
    let ids = ["a", "b", "c"].into_iter();
    ids.zip(servers).map(|(id, keys)| llama_warden_component_kit::spec(id, &keys)).collect()
});

/// The id of a server by its number.
pub fn server(number: u8) -> ServerId {
    SPECS[usize::from(number) % SERVERS].id.clone()
}

/// The fleet in which each server has a state: 0 is absent, 1 and 2 enabled, 3 and 4 not; 2 and 4 have other arguments. `profile`
/// is a bit for each server that it enables; 0 is no profile.
pub fn fleet(states: [u8; SERVERS], profile: u8) -> Fleet {
    let specs = SPECS.iter().zip(states).enumerate().filter(|(_, (_, state))| state % STATES != 0);
    Fleet::new(specs.map(|(number, (spec, state))| {
        let state = state % STATES;
        let enabled = if profile == 0 { state < 3 } else { profile & (1 << number) != 0 };
        let args = if state.is_multiple_of(2) { vec!["--verbose".to_owned()] } else { Vec::new() };
        ServerSpec { enabled, args, ..ServerSpec::clone(spec) }
    }))
}
