//! The endpoints. A handler reads one snapshot or sends one command; its [`Route`] stands beside it.

mod canary;
mod configuration;
mod control;
mod description;
mod events;
mod logs;
mod memory;
mod models;
mod peers;
mod probes;
mod profiles;
mod status;
mod targets;

use crate::route::{Route, ServedRoute};

/// Whether a path is that of a probe, for which places are kept.
pub(crate) fn is_probe(path: &str) -> bool {
    [probes::LIVENESS.path, probes::READINESS.path].contains(&path)
}

/// Makes two tables of one list: what the OpenAPI document describes, and what a daemon serves.
macro_rules! routes {
    ($($module:ident :: $route:ident),* $(,)?) => {
        pub(crate) const ROUTES: &[Route] = &[$($module::$route),*];
        pub(crate) const SERVED: &[ServedRoute] = &[$($module::$route.served()),*];
    };
}

routes![
    probes::LIVENESS,
    probes::READINESS,
    status::STATUS,
    status::SERVERS,
    status::SERVER,
    control::START,
    control::STOP,
    control::RESTART,
    control::SHUT_DOWN,
    canary::RUN,
    logs::LOGS,
    events::EVENTS,
    profiles::LIST,
    profiles::ACTIVE,
    profiles::DEACTIVATE,
    profiles::PROFILE,
    profiles::ACTIVATE,
    profiles::RELOAD,
    configuration::CONFIGURATION,
    memory::MEMORY,
    models::MODELS,
    peers::PEERS,
    targets::TARGETS,
    description::DESCRIPTION,
];
