//! The one table of paths.

use axum::routing::{delete, get, post};

use super::{Operation, Route, RouteMethod};
use crate::endpoints;
use crate::http_security::Access;

pub(crate) const ROUTES: &[Route] = &[
    Route {
        verb: RouteMethod::Get,
        path: "/livez",
        operation: Operation::GetLiveness,
        access: Access::Open,
        handler: || get(endpoints::livez),
    },
    Route {
        verb: RouteMethod::Get,
        path: "/readyz",
        operation: Operation::GetReadiness,
        access: Access::Open,
        handler: || get(endpoints::readyz),
    },
    Route {
        verb: RouteMethod::Get,
        path: "/metrics",
        operation: Operation::GetMetrics,
        access: Access::Open,
        handler: || get(endpoints::metrics),
    },
    Route {
        verb: RouteMethod::Get,
        path: "/api/v1/status",
        operation: Operation::GetStatus,
        access: Access::Guarded,
        handler: || get(endpoints::status),
    },
    Route {
        verb: RouteMethod::Get,
        path: "/api/v1/servers",
        operation: Operation::ListServers,
        access: Access::Guarded,
        handler: || get(endpoints::servers),
    },
    Route {
        verb: RouteMethod::Get,
        path: "/api/v1/servers/{id}",
        operation: Operation::GetServer,
        access: Access::Guarded,
        handler: || get(endpoints::server),
    },
    Route {
        verb: RouteMethod::Post,
        path: "/api/v1/servers/{id}/start",
        operation: Operation::StartServer,
        access: Access::Guarded,
        handler: || post(endpoints::start),
    },
    Route {
        verb: RouteMethod::Post,
        path: "/api/v1/servers/{id}/stop",
        operation: Operation::StopServer,
        access: Access::Guarded,
        handler: || post(endpoints::stop),
    },
    Route {
        verb: RouteMethod::Post,
        path: "/api/v1/servers/{id}/restart",
        operation: Operation::RestartServer,
        access: Access::Guarded,
        handler: || post(endpoints::restart),
    },
    Route {
        verb: RouteMethod::Get,
        path: "/api/v1/servers/{id}/logs",
        operation: Operation::GetLogs,
        access: Access::Guarded,
        handler: || get(endpoints::logs),
    },
    Route {
        verb: RouteMethod::Get,
        path: "/api/v1/events",
        operation: Operation::GetEvents,
        access: Access::Guarded,
        handler: || get(endpoints::events),
    },
    Route {
        verb: RouteMethod::Get,
        path: "/api/v1/profiles",
        operation: Operation::ListProfiles,
        access: Access::Guarded,
        handler: || get(endpoints::profiles),
    },
    Route {
        verb: RouteMethod::Get,
        path: "/api/v1/profiles/active",
        operation: Operation::GetActiveProfile,
        access: Access::Guarded,
        handler: || get(endpoints::active_profile),
    },
    Route {
        verb: RouteMethod::Delete,
        path: "/api/v1/profiles/active",
        operation: Operation::DeactivateProfile,
        access: Access::Guarded,
        handler: || delete(endpoints::deactivate),
    },
    Route {
        verb: RouteMethod::Get,
        path: "/api/v1/profiles/{name}",
        operation: Operation::GetProfile,
        access: Access::Guarded,
        handler: || get(endpoints::profile),
    },
    Route {
        verb: RouteMethod::Post,
        path: "/api/v1/profiles/{name}/activate",
        operation: Operation::ActivateProfile,
        access: Access::Guarded,
        handler: || post(endpoints::activate),
    },
    Route {
        verb: RouteMethod::Post,
        path: "/api/v1/reload",
        operation: Operation::Reload,
        access: Access::Guarded,
        handler: || post(endpoints::reload),
    },
    Route {
        verb: RouteMethod::Get,
        path: "/api/v1/models",
        operation: Operation::ListModels,
        access: Access::Guarded,
        handler: || get(endpoints::models),
    },
    Route {
        verb: RouteMethod::Get,
        path: "/api/v1/sd",
        operation: Operation::GetTargets,
        access: Access::Open,
        handler: || get(endpoints::targets),
    },
    Route {
        verb: RouteMethod::Post,
        path: "/api/v1/shutdown",
        operation: Operation::ShutDown,
        access: Access::Guarded,
        handler: || post(endpoints::shut_down),
    },
    Route {
        verb: RouteMethod::Get,
        path: "/openapi.json",
        operation: Operation::GetDescription,
        access: Access::Guarded,
        handler: || get(endpoints::description),
    },
];
