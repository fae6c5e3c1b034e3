//! The one table of paths.

use axum::routing::{delete, get, post};

use super::{Operation, Route, Verb};
use crate::edge::Access;
use crate::handlers;

pub(crate) const ROUTES: &[Route] = &[
    Route {
        verb: Verb::Get,
        path: "/livez",
        operation: Operation::GetLiveness,
        access: Access::Open,
        handler: || get(handlers::livez),
    },
    Route {
        verb: Verb::Get,
        path: "/readyz",
        operation: Operation::GetReadiness,
        access: Access::Open,
        handler: || get(handlers::readyz),
    },
    Route {
        verb: Verb::Get,
        path: "/metrics",
        operation: Operation::GetMetrics,
        access: Access::Open,
        handler: || get(handlers::metrics),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/status",
        operation: Operation::GetStatus,
        access: Access::Guarded,
        handler: || get(handlers::status),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/servers",
        operation: Operation::ListServers,
        access: Access::Guarded,
        handler: || get(handlers::servers),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/servers/{id}",
        operation: Operation::GetServer,
        access: Access::Guarded,
        handler: || get(handlers::server),
    },
    Route {
        verb: Verb::Post,
        path: "/api/v1/servers/{id}/start",
        operation: Operation::StartServer,
        access: Access::Guarded,
        handler: || post(handlers::start),
    },
    Route {
        verb: Verb::Post,
        path: "/api/v1/servers/{id}/stop",
        operation: Operation::StopServer,
        access: Access::Guarded,
        handler: || post(handlers::stop),
    },
    Route {
        verb: Verb::Post,
        path: "/api/v1/servers/{id}/restart",
        operation: Operation::RestartServer,
        access: Access::Guarded,
        handler: || post(handlers::restart),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/servers/{id}/logs",
        operation: Operation::GetLogs,
        access: Access::Guarded,
        handler: || get(handlers::logs),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/events",
        operation: Operation::GetEvents,
        access: Access::Guarded,
        handler: || get(handlers::events),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/profiles",
        operation: Operation::ListProfiles,
        access: Access::Guarded,
        handler: || get(handlers::profiles),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/profiles/active",
        operation: Operation::GetActiveProfile,
        access: Access::Guarded,
        handler: || get(handlers::active_profile),
    },
    Route {
        verb: Verb::Delete,
        path: "/api/v1/profiles/active",
        operation: Operation::DeactivateProfile,
        access: Access::Guarded,
        handler: || delete(handlers::deactivate),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/profiles/{name}",
        operation: Operation::GetProfile,
        access: Access::Guarded,
        handler: || get(handlers::profile),
    },
    Route {
        verb: Verb::Post,
        path: "/api/v1/profiles/{name}/activate",
        operation: Operation::ActivateProfile,
        access: Access::Guarded,
        handler: || post(handlers::activate),
    },
    Route {
        verb: Verb::Post,
        path: "/api/v1/reload",
        operation: Operation::Reload,
        access: Access::Guarded,
        handler: || post(handlers::reload),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/models",
        operation: Operation::ListModels,
        access: Access::Guarded,
        handler: || get(handlers::models),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/sd",
        operation: Operation::GetTargets,
        access: Access::Open,
        handler: || get(handlers::targets),
    },
    Route {
        verb: Verb::Post,
        path: "/api/v1/shutdown",
        operation: Operation::ShutDown,
        access: Access::Guarded,
        handler: || post(handlers::shut_down),
    },
    Route {
        verb: Verb::Get,
        path: "/openapi.json",
        operation: Operation::GetDescription,
        access: Access::Guarded,
        handler: || get(handlers::description),
    },
];
