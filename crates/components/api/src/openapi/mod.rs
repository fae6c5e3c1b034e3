//! The OpenAPI 3.1 document, from the table of paths, the descriptions of operations and the schemas of the types that
//! handlers answer with.
//!
//! Nothing here is called by a daemon, which serves what was generated beforehand.

mod operations;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::http_security::Access;
use crate::routes::{ROUTES, Route, RouteMethod};
use llama_warden_api_types::ApiProblem;
use operations::{Answer, BodySchema, Description, Parameter, ParameterKind, describe};

/// Generates the document. Its paths are those of the table that the router is made from.
pub fn document() -> Value {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut generator = SchemaGenerator::new(settings);
    let mut paths = Map::new();
    for route in ROUTES {
        let operation = operation(route, &mut generator);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[verb(route.verb)] = operation;
    }
    let problem = generator.subschema_for::<ApiProblem>();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "llama-warden",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Status and control of llama-server processes. Errors are RFC 9457 problems with a reason.",
            "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
        },
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "responses": {
                "Problem": {
                    "description": "Not done; `reason` and `next_step` say why and what to do.",
                    "content": { "application/problem+json": { "schema": problem } },
                },
            },
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

const fn verb(verb: RouteMethod) -> &'static str {
    match verb {
        RouteMethod::Get => "get",
        RouteMethod::Post => "post",
        RouteMethod::Delete => "delete",
    }
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let Description { summary, parameters: in_query, answers } = describe(route.operation);
    let mut responses = Map::new();
    for answer in answers {
        responses.insert(answer.status.to_string(), response(answer, generator));
    }
    responses.insert("default".to_owned(), json!({ "$ref": "#/components/responses/Problem" }));
    let in_path = [("id", "The server's id."), ("name", "The profile's name.")];
    let in_path = in_path.into_iter().filter(|(name, _)| route.path.contains(&format!("{{{name}}}")));
    let mut parameters: Vec<_> = in_path.map(|(name, about)| path_parameter(name, about)).collect();
    parameters.extend(in_query.iter().map(parameter));
    let mut operation = json!({
        "operationId": route.operation,
        "summary": summary,
        "parameters": parameters,
        "responses": responses,
    });
    if route.access == Access::Guarded {
        // The empty alternative: no token is configured, or the request comes through the control socket.
        operation["security"] = json!([{ "token": [] }, {}]);
    }
    operation
}

fn response(answer: &Answer, generator: &mut SchemaGenerator) -> Value {
    let content: Map<_, _> = answer
        .content
        .iter()
        .map(|(media_type, shape)| {
            let schema = match shape {
                BodySchema::Text => json!({ "type": "string" }),
                BodySchema::Value(schema) => schema(generator).to_value(),
            };
            ((*media_type).to_owned(), json!({ "schema": schema }))
        })
        .collect();
    json!({ "description": answer.about, "content": content })
}

fn path_parameter(name: &str, about: &str) -> Value {
    json!({
        "name": name,
        "in": "path",
        "required": true,
        "description": about,
        "schema": { "type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$" },
    })
}

fn parameter(parameter: &Parameter) -> Value {
    let schema = match parameter.kind {
        ParameterKind::SwitchParameter => json!({ "type": "string", "enum": ["1", "true", "", "0", "false"] }),
        ParameterKind::Duration => json!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h)$", "examples": ["30s"] }),
        ParameterKind::Count => json!({ "type": "integer", "minimum": 0 }),
        ParameterKind::Stream => json!({ "type": "string", "enum": ["stderr", "stdout"] }),
    };
    json!({ "name": parameter.name, "in": "query", "description": parameter.about, "schema": schema })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(object) => {
                    found.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    object.values().for_each(|value| references(value, found));
                }
                Value::Array(array) => array.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("local");
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
    }

    #[test]
    fn every_route_is_an_operation_of_its_own() {
        let mut operations: Vec<_> = ROUTES.iter().map(|route| route.operation).collect();
        operations.sort_unstable();
        operations.dedup();
        assert_eq!(operations.len(), ROUTES.len());
    }
}
