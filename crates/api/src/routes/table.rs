//! The one table of paths.

use axum::routing::{delete, get, post};
use llama_warden_state::{ServerDetail, ServerReport, StatusReport};
use schemars::{Schema, json_schema};

use super::{Answer, Parameter, ParameterKind, Route, Shape, Verb};
use crate::edge::Access;
use crate::handlers;
use crate::{
    ActiveProfileReport, CommandAnswer, EventRecord, LogRecord, Problem, ProfileReport, ShutdownAnswer, SwitchAnswer,
    TargetGroup,
};

const JSON: &str = "application/json";
const TEXT: &str = "text/plain";
const SSE: &str = "text/event-stream";
const NDJSON: &str = "application/x-ndjson";
const PROBLEM: (&str, Shape) =
    (crate::problem::PROBLEM_JSON, Shape::Value(|generator| generator.subschema_for::<Problem>()));

const VERBOSE: Parameter = Parameter { name: "verbose", about: "One line per check.", kind: ParameterKind::Switch };
const WAIT: Parameter = Parameter {
    name: "wait",
    about: "Answer when the command is done, at most this much later. Never changes what the command does.",
    kind: ParameterKind::Duration,
};
const GRACE: Parameter = Parameter {
    name: "grace",
    about: "Time before KILL, instead of the configured one.",
    kind: ParameterKind::Duration,
};
const FORCE: Parameter = Parameter { name: "force", about: "Kill at once.", kind: ParameterKind::Switch };

const DRY_RUN: Parameter =
    Parameter { name: "dry_run", about: "Only plan: nothing is touched.", kind: ParameterKind::Switch };

const SWITCH_ANSWER: &[(&str, Shape)] = &[(JSON, Shape::Value(|generator| generator.subschema_for::<SwitchAnswer>()))];
const SWITCH_ANSWERS: &[Answer] = &[
    Answer { status: 200, about: "Done, with `wait`, or planned, with `dry_run`.", content: SWITCH_ANSWER },
    Answer { status: 202, about: "Accepted and not done yet: the plan.", content: SWITCH_ANSWER },
    Answer { status: 404, about: "No such profile.", content: &[PROBLEM] },
];

const COMMAND_ANSWER: &[(&str, Shape)] =
    &[(JSON, Shape::Value(|generator| generator.subschema_for::<CommandAnswer>()))];
const COMMAND_ANSWERS: &[Answer] = &[
    Answer { status: 200, about: "Done, with `wait`: the server's record.", content: COMMAND_ANSWER },
    Answer { status: 202, about: "Accepted and not done yet: the server's record.", content: COMMAND_ANSWER },
    Answer { status: 404, about: "No such server.", content: &[PROBLEM] },
    Answer { status: 409, about: "A later command asked for something else.", content: &[PROBLEM] },
    Answer { status: 502, about: "The server failed, with `wait`; `reason` is the failure's.", content: &[PROBLEM] },
];

pub(crate) const ROUTES: &[Route] = &[
    Route {
        verb: Verb::Get,
        path: "/livez",
        operation: "getLiveness",
        summary: "Whether the daemon runs",
        access: Access::Open,
        parameters: &[VERBOSE],
        answers: &[Answer { status: 200, about: "It does.", content: &[(TEXT, Shape::Text)] }],
        handler: || get(handlers::livez),
    },
    Route {
        verb: Verb::Get,
        path: "/readyz",
        operation: "getReadiness",
        summary: "Whether every enabled server is ready",
        access: Access::Open,
        parameters: &[VERBOSE],
        answers: &[
            Answer { status: 200, about: "All are.", content: &[(TEXT, Shape::Text)] },
            Answer { status: 503, about: "These are not.", content: &[PROBLEM, (TEXT, Shape::Text)] },
        ],
        handler: || get(handlers::readyz),
    },
    Route {
        verb: Verb::Get,
        path: "/metrics",
        operation: "getMetrics",
        summary: "Metrics for Prometheus",
        access: Access::Open,
        parameters: &[],
        answers: &[Answer {
            status: 200,
            about: "OpenMetrics where the client asks for it.",
            content: &[(TEXT, Shape::Text), ("application/openmetrics-text", Shape::Text)],
        }],
        handler: || get(handlers::metrics),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/status",
        operation: "getStatus",
        summary: "All servers at a glance, with totals",
        access: Access::Guarded,
        parameters: &[],
        answers: &[Answer {
            status: 200,
            about: "The status.",
            content: &[(JSON, Shape::Value(|generator| generator.subschema_for::<StatusReport>()))],
        }],
        handler: || get(handlers::status),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/servers",
        operation: "listServers",
        summary: "All servers at a glance",
        access: Access::Guarded,
        parameters: &[],
        answers: &[Answer {
            status: 200,
            about: "By id.",
            content: &[(JSON, Shape::Value(|generator| generator.subschema_for::<Vec<ServerReport>>()))],
        }],
        handler: || get(handlers::servers),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/servers/{id}",
        operation: "getServer",
        summary: "One server: phase, history, last failure, command line, detector",
        access: Access::Guarded,
        parameters: &[],
        answers: &[
            Answer {
                status: 200,
                about: "The server's record.",
                content: &[(JSON, Shape::Value(|generator| generator.subschema_for::<ServerDetail>()))],
            },
            Answer { status: 404, about: "No such server.", content: &[PROBLEM] },
        ],
        handler: || get(handlers::server),
    },
    Route {
        verb: Verb::Post,
        path: "/api/v1/servers/{id}/start",
        operation: "startServer",
        summary: "Start a server",
        access: Access::Guarded,
        parameters: &[WAIT],
        answers: COMMAND_ANSWERS,
        handler: || post(handlers::start),
    },
    Route {
        verb: Verb::Post,
        path: "/api/v1/servers/{id}/stop",
        operation: "stopServer",
        summary: "Stop a server; a repeated stop joins the first",
        access: Access::Guarded,
        parameters: &[WAIT, GRACE, FORCE],
        answers: COMMAND_ANSWERS,
        handler: || post(handlers::stop),
    },
    Route {
        verb: Verb::Post,
        path: "/api/v1/servers/{id}/restart",
        operation: "restartServer",
        summary: "Stop a server if it runs, then start it",
        access: Access::Guarded,
        parameters: &[WAIT, GRACE, FORCE],
        answers: COMMAND_ANSWERS,
        handler: || post(handlers::restart),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/servers/{id}/logs",
        operation: "getLogs",
        summary: "The output of a server: what is kept, then what comes",
        access: Access::Guarded,
        parameters: &[
            Parameter {
                name: "tail",
                about: "The latest lines only; all kept ones without it.",
                kind: ParameterKind::Count,
            },
            Parameter { name: "follow", about: "Go on with what comes.", kind: ParameterKind::Switch },
            Parameter { name: "stream", about: "One stream only.", kind: ParameterKind::Stream },
        ],
        answers: &[
            Answer {
                status: 200,
                about: "Lines; `line` and `lost` events with a record as data; or a record a line.",
                content: &[
                    (TEXT, Shape::Text),
                    (SSE, Shape::Value(|generator| generator.subschema_for::<LogRecord>())),
                    (NDJSON, Shape::Value(|generator| generator.subschema_for::<LogRecord>())),
                ],
            },
            Answer { status: 404, about: "No such server.", content: &[PROBLEM] },
        ],
        handler: || get(handlers::logs),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/events",
        operation: "getEvents",
        summary: "The facts: id is the seq, event the type, data the envelope; `gap` where facts are missing",
        access: Access::Guarded,
        parameters: &[
            Parameter {
                name: "since",
                about: "Begin after this seq, as the header Last-Event-ID does; without both, with what comes.",
                kind: ParameterKind::Count,
            },
            Parameter {
                name: "follow",
                about: "0: what is kept, then the end. Without it the stream goes on.",
                kind: ParameterKind::Switch,
            },
        ],
        answers: &[Answer {
            status: 200,
            about: "Events, or a record a line.",
            content: &[
                (SSE, Shape::Value(|generator| generator.subschema_for::<EventRecord>())),
                (NDJSON, Shape::Value(|generator| generator.subschema_for::<EventRecord>())),
            ],
        }],
        handler: || get(handlers::events),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/profiles",
        operation: "listProfiles",
        summary: "All configured profiles",
        access: Access::Guarded,
        parameters: &[],
        answers: &[Answer {
            status: 200,
            about: "By name.",
            content: &[(JSON, Shape::Value(|generator| generator.subschema_for::<Vec<ProfileReport>>()))],
        }],
        handler: || get(handlers::profiles),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/profiles/active",
        operation: "getActiveProfile",
        summary: "The active profile: which servers should be ready, and which of them are not",
        access: Access::Guarded,
        parameters: &[],
        answers: &[Answer {
            status: 200,
            about: "The profile; null where there is none and every enabled server should be ready.",
            content: &[(JSON, Shape::Value(|generator| generator.subschema_for::<ActiveProfileReport>()))],
        }],
        handler: || get(handlers::active_profile),
    },
    Route {
        verb: Verb::Delete,
        path: "/api/v1/profiles/active",
        operation: "deactivateProfile",
        summary: "Leave the active profile: bring the fleet to every enabled server",
        access: Access::Guarded,
        parameters: &[DRY_RUN, WAIT],
        answers: SWITCH_ANSWERS,
        handler: || delete(handlers::deactivate),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/profiles/{name}",
        operation: "getProfile",
        summary: "One profile",
        access: Access::Guarded,
        parameters: &[],
        answers: &[
            Answer {
                status: 200,
                about: "What the configuration says of it.",
                content: &[(JSON, Shape::Value(|generator| generator.subschema_for::<ProfileReport>()))],
            },
            Answer { status: 404, about: "No such profile.", content: &[PROBLEM] },
        ],
        handler: || get(handlers::profile),
    },
    Route {
        verb: Verb::Post,
        path: "/api/v1/profiles/{name}/activate",
        operation: "activateProfile",
        summary: "Bring the fleet to what a profile says; what runs as it should is not touched",
        access: Access::Guarded,
        parameters: &[DRY_RUN, WAIT],
        answers: SWITCH_ANSWERS,
        handler: || post(handlers::activate),
    },
    Route {
        verb: Verb::Post,
        path: "/api/v1/reload",
        operation: "reload",
        summary: "Read the configuration and the folders of models again and bring the fleet to what they say",
        access: Access::Guarded,
        parameters: &[WAIT],
        answers: &[
            Answer { status: 200, about: "Done, with `wait`.", content: SWITCH_ANSWER },
            Answer { status: 202, about: "Accepted and not done yet: the plan.", content: SWITCH_ANSWER },
            Answer {
                status: 422,
                about: "It has problems, all in `detail`, and changes nothing.",
                content: &[PROBLEM],
            },
        ],
        handler: || post(handlers::reload),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/models",
        operation: "listModels",
        summary: "What discovery knows: models, what was passed over, and files with problems",
        access: Access::Guarded,
        parameters: &[],
        answers: &[Answer {
            status: 200,
            about: "As of the start or the latest reload.",
            content: &[(JSON, Shape::Value(|_| models_schema()))],
        }],
        handler: || get(handlers::models),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/sd",
        operation: "getTargets",
        summary: "Targets for Prometheus' http_sd_config: the ready servers that serve --metrics",
        access: Access::Open,
        parameters: &[],
        answers: &[
            Answer {
                status: 200,
                about: "Always the full list.",
                content: &[(JSON, Shape::Value(|generator| generator.subschema_for::<Vec<TargetGroup>>()))],
            },
            Answer { status: 503, about: "The daemon is starting.", content: &[PROBLEM] },
        ],
        handler: || get(handlers::targets),
    },
    Route {
        verb: Verb::Post,
        path: "/api/v1/shutdown",
        operation: "shutDown",
        summary: "Stop every server and the daemon",
        access: Access::Guarded,
        parameters: &[FORCE],
        answers: &[Answer {
            status: 202,
            about: "Accepted.",
            content: &[(JSON, Shape::Value(|generator| generator.subschema_for::<ShutdownAnswer>()))],
        }],
        handler: || post(handlers::shut_down),
    },
    Route {
        verb: Verb::Get,
        path: "/openapi.json",
        operation: "getDescription",
        summary: "This document",
        access: Access::Guarded,
        parameters: &[],
        answers: &[Answer {
            status: 200,
            about: "OpenAPI 3.1.",
            content: &[(JSON, Shape::Value(|_| Schema::from(true)))],
        }],
        handler: || get(handlers::description),
    },
];

/// Discovery is no part of this crate, so its answer is described from outside.
fn models_schema() -> Schema {
    let list = |about: &str| json_schema!({ "type": "array", "description": about, "items": { "type": "object" } });
    json_schema!({
        "type": "object",
        "properties": {
            "directories": {
                "type": "array",
                "description": "The folders that were looked through.",
                "items": { "type": "string" },
            },
            "models": list("Each with id, path, port, enabled, tier, thinking, and the server that runs it."),
            "skipped": list("Sound files that are no model to serve, with what they are."),
            "problems": list("What cannot be used: path, reason, detail, help."),
        },
    })
}
