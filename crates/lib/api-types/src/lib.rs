//! The vocabulary of the HTTP API: its JSON as types, and routes that components add to it.
//!
//! The server, the client and the generator of the OpenAPI document share these types, so they agree on every field. The
//! crate depends on neither an HTTP server nor an HTTP client.
//!
//! * `report`: reports of servers, made from a snapshot.
//! * `memory_report`: the memory of the machine, and what the servers hold of it.
//! * `peer_report`: the daemons of other machines.
//! * `request_report`: the requests of a server, from the lines that it prints.
//! * `wire`: answers to commands, profiles, and the records of the event and log streams.
//! * `problem`: errors as RFC 9457 problems.
//! * `extra_route`: what a component implements to answer a path of its own, as metrics does for `/metrics`.

mod extra_route;
mod memory_report;
mod peer_report;
mod problem;
mod report;
mod request_report;
mod wire;

pub use extra_route::{Access, ExtraRoute, ExtraRouteParameter, ExtraRouteSpec, RouteFuture, RouteHandler};
pub use memory_report::{GpuRoom, HostRoom, MachineMemory};
pub use peer_report::{AllStatusReport, PeerProblem, PeerProblemReport, PeerReport};
pub use problem::{ApiProblem, PROBLEM_JSON};
pub use report::{
    FailureReport, GuardianReport, HealthReport, ServerDetail, ServerReport, SlotsReport, StatusReport, UseReport,
    WarningReport, base_url,
};
pub use request_report::RequestReport;
pub use wire::{
    ActiveProfileReport, CommandAnswer, ConfigurationPlace, EventRecord, GapReport, LogRecord, ProfileReport,
    ShutdownAnswer, SwitchAnswer, TargetGroup,
};
