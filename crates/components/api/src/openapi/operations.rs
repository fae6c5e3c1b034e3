//! What the document says of each operation. That each is described, and once, the compiler sees.

use llama_warden_api_types::{
    ActiveProfileReport, ApiProblem, CommandAnswer, EventRecord, LogRecord, PROBLEM_JSON, ProfileReport, ServerDetail,
    ServerReport, ShutdownAnswer, StatusReport, SwitchAnswer, TargetGroup,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::routes::Operation;

/// What there is to say of an operation beside its verb and path.
pub(super) struct Description {
    pub(super) summary: &'static str,
    pub(super) parameters: &'static [Parameter],
    /// Answers other than the general problem.
    pub(super) answers: &'static [Answer],
}

/// A parameter of a query.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) kind: ParameterKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ParameterKind {
    SwitchParameter,
    Duration,
    Count,
    Stream,
}

/// One status with its forms.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) about: &'static str,
    pub(super) content: &'static [(&'static str, BodySchema)],
}

/// What a body consists of.
#[derive(Clone, Copy)]
pub(super) enum BodySchema {
    Text,
    Value(fn(&mut SchemaGenerator) -> Schema),
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain";
const SSE: &str = "text/event-stream";
const NDJSON: &str = "application/x-ndjson";
const PROBLEM: (&str, BodySchema) = (PROBLEM_JSON, BodySchema::Value(of::<ApiProblem>));

const VERBOSE: Parameter =
    Parameter { name: "verbose", about: "One line per check.", kind: ParameterKind::SwitchParameter };
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
const FORCE: Parameter = Parameter { name: "force", about: "Kill at once.", kind: ParameterKind::SwitchParameter };

const DRY_RUN: Parameter =
    Parameter { name: "dry_run", about: "Only plan: nothing is touched.", kind: ParameterKind::SwitchParameter };

const SWITCH_ANSWER: &[(&str, BodySchema)] = &[(JSON, BodySchema::Value(of::<SwitchAnswer>))];
const SWITCH_ANSWERS: &[Answer] = &[
    Answer { status: 200, about: "Done, with `wait`, or planned, with `dry_run`.", content: SWITCH_ANSWER },
    Answer { status: 202, about: "Accepted and not done yet: the plan.", content: SWITCH_ANSWER },
    Answer { status: 404, about: "No such profile.", content: &[PROBLEM] },
];

const COMMAND_ANSWER: &[(&str, BodySchema)] = &[(JSON, BodySchema::Value(of::<CommandAnswer>))];
const COMMAND_ANSWERS: &[Answer] = &[
    Answer { status: 200, about: "Done, with `wait`: the server's record.", content: COMMAND_ANSWER },
    Answer { status: 202, about: "Accepted and not done yet: the server's record.", content: COMMAND_ANSWER },
    Answer { status: 404, about: "No such server.", content: &[PROBLEM] },
    Answer { status: 409, about: "A later command asked for something else.", content: &[PROBLEM] },
    Answer { status: 502, about: "The server failed, with `wait`; `reason` is the failure's.", content: &[PROBLEM] },
];

/// What the document says of `operation`.
pub(super) const fn describe(operation: Operation) -> Description {
    match operation {
        Operation::GetLiveness => Description {
            summary: "Whether the daemon runs",
            parameters: &[VERBOSE],
            answers: &[Answer { status: 200, about: "It does.", content: &[(TEXT, BodySchema::Text)] }],
        },
        Operation::GetReadiness => Description {
            summary: "Whether every enabled server is ready",
            parameters: &[VERBOSE],
            answers: &[
                Answer { status: 200, about: "All are.", content: &[(TEXT, BodySchema::Text)] },
                Answer { status: 503, about: "These are not.", content: &[PROBLEM, (TEXT, BodySchema::Text)] },
            ],
        },
        Operation::GetMetrics => Description {
            summary: "Metrics for Prometheus",
            parameters: &[],
            answers: &[Answer {
                status: 200,
                about: "OpenMetrics where the client asks for it.",
                content: &[(TEXT, BodySchema::Text), ("application/openmetrics-text", BodySchema::Text)],
            }],
        },
        Operation::GetStatus => Description {
            summary: "All servers at a glance, with totals",
            parameters: &[],
            answers: &[Answer {
                status: 200,
                about: "The status.",
                content: &[(JSON, BodySchema::Value(of::<StatusReport>))],
            }],
        },
        Operation::ListServers => Description {
            summary: "All servers at a glance",
            parameters: &[],
            answers: &[Answer {
                status: 200,
                about: "By id.",
                content: &[(JSON, BodySchema::Value(of::<Vec<ServerReport>>))],
            }],
        },
        Operation::GetServer => Description {
            summary: "One server: phase, history, last failure, command line, detector",
            parameters: &[],
            answers: &[
                Answer {
                    status: 200,
                    about: "The server's record.",
                    content: &[(JSON, BodySchema::Value(of::<ServerDetail>))],
                },
                Answer { status: 404, about: "No such server.", content: &[PROBLEM] },
            ],
        },
        Operation::StartServer => {
            Description { summary: "Start a server", parameters: &[WAIT], answers: COMMAND_ANSWERS }
        }
        Operation::StopServer => Description {
            summary: "Stop a server; a repeated stop joins the first",
            parameters: &[WAIT, GRACE, FORCE],
            answers: COMMAND_ANSWERS,
        },
        Operation::RestartServer => Description {
            summary: "Stop a server if it runs, then start it",
            parameters: &[WAIT, GRACE, FORCE],
            answers: COMMAND_ANSWERS,
        },
        Operation::GetLogs => Description {
            summary: "The output of a server: what is kept, then what comes",
            parameters: &[
                Parameter {
                    name: "tail",
                    about: "The latest lines only; all kept ones without it.",
                    kind: ParameterKind::Count,
                },
                Parameter { name: "follow", about: "Go on with what comes.", kind: ParameterKind::SwitchParameter },
                Parameter { name: "stream", about: "One stream only.", kind: ParameterKind::Stream },
            ],
            answers: &[
                Answer {
                    status: 200,
                    about: "Lines; `line` and `lost` events with a record as data; or a record a line.",
                    content: &[
                        (TEXT, BodySchema::Text),
                        (SSE, BodySchema::Value(of::<LogRecord>)),
                        (NDJSON, BodySchema::Value(of::<LogRecord>)),
                    ],
                },
                Answer { status: 404, about: "No such server.", content: &[PROBLEM] },
            ],
        },
        Operation::GetEvents => Description {
            summary: "The events: id is the seq, event the type, data the envelope; `gap` where events are missing",
            parameters: &[
                Parameter {
                    name: "since",
                    about: "Begin after this seq, as the header Last-Event-ID does; without both, with what comes.",
                    kind: ParameterKind::Count,
                },
                Parameter {
                    name: "follow",
                    about: "0: what is kept, then the end. Without it the stream goes on.",
                    kind: ParameterKind::SwitchParameter,
                },
            ],
            answers: &[Answer {
                status: 200,
                about: "Events, or a record a line.",
                content: &[(SSE, BodySchema::Value(of::<EventRecord>)), (NDJSON, BodySchema::Value(of::<EventRecord>))],
            }],
        },
        Operation::ListProfiles => Description {
            summary: "All configured profiles",
            parameters: &[],
            answers: &[Answer {
                status: 200,
                about: "By name.",
                content: &[(JSON, BodySchema::Value(of::<Vec<ProfileReport>>))],
            }],
        },
        Operation::GetActiveProfile => Description {
            summary: "The active profile: which servers should be ready, and which of them are not",
            parameters: &[],
            answers: &[Answer {
                status: 200,
                about: "The profile; null where there is none and every enabled server should be ready.",
                content: &[(JSON, BodySchema::Value(of::<ActiveProfileReport>))],
            }],
        },
        Operation::DeactivateProfile => Description {
            summary: "Leave the active profile: bring the fleet to every enabled server",
            parameters: &[DRY_RUN, WAIT],
            answers: SWITCH_ANSWERS,
        },
        Operation::GetProfile => Description {
            summary: "One profile",
            parameters: &[],
            answers: &[
                Answer {
                    status: 200,
                    about: "What the configuration says of it.",
                    content: &[(JSON, BodySchema::Value(of::<ProfileReport>))],
                },
                Answer { status: 404, about: "No such profile.", content: &[PROBLEM] },
            ],
        },
        Operation::ActivateProfile => Description {
            summary: "Bring the fleet to what a profile says; what runs as it should is not touched",
            parameters: &[DRY_RUN, WAIT],
            answers: SWITCH_ANSWERS,
        },
        Operation::Reload => Description {
            summary: "Read the configuration and the folders of models again and bring the fleet to what they say",
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
        },
        Operation::ListModels => Description {
            summary: "What discovery knows: models, what was passed over, and files with problems",
            parameters: &[],
            answers: &[Answer {
                status: 200,
                about: "As of the start or the latest reload.",
                content: &[(JSON, BodySchema::Value(|_| models_schema()))],
            }],
        },
        Operation::GetTargets => Description {
            summary: "Targets for Prometheus' http_sd_config: the ready servers that serve --metrics",
            parameters: &[],
            answers: &[
                Answer {
                    status: 200,
                    about: "Always the full list.",
                    content: &[(JSON, BodySchema::Value(of::<Vec<TargetGroup>>))],
                },
                Answer { status: 503, about: "The daemon is starting.", content: &[PROBLEM] },
            ],
        },
        Operation::ShutDown => Description {
            summary: "Stop every server and the daemon",
            parameters: &[FORCE],
            answers: &[Answer {
                status: 202,
                about: "Accepted.",
                content: &[(JSON, BodySchema::Value(of::<ShutdownAnswer>))],
            }],
        },
        Operation::GetDescription => Description {
            summary: "This document",
            parameters: &[],
            answers: &[Answer {
                status: 200,
                about: "OpenAPI 3.1.",
                content: &[(JSON, BodySchema::Value(|_| Schema::from(true)))],
            }],
        },
    }
}

/// A reference to the schema of a type, which is among the document's components.
fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

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
