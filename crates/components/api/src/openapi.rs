//! The OpenAPI 3.1 document, generated from the routes and from the schemas of the types that they read and answer.
//!
//! A daemon calls nothing of this; it serves the document that was generated when the program was built.

use llama_warden_api_types::{Access, ApiProblem, ExtraRouteSpec};
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::endpoints::ROUTES;
use crate::route::{BodyForm, Route, RouteAnswer};

/// Generates the document of this crate's routes and of `extra` ones.
pub fn openapi_document(extra: &[&ExtraRouteSpec]) -> Value {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut generator = SchemaGenerator::new(settings);
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method] = route_operation(route, &mut generator);
    }
    for spec in extra {
        paths.insert(spec.path.to_owned(), json!({ "get": extra_operation(spec) }));
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
                    "description": "The request failed; `reason` says why and `next_step` what to do.",
                    "content": { "application/problem+json": { "schema": problem } },
                },
            },
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn route_operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let response = |answer: &RouteAnswer| (answer.status.to_string(), response(answer, generator));
    let responses = route.answers.iter().map(response).collect();
    let in_path = [("id", "The server's id."), ("name", "The profile's name.")];
    let in_path = in_path.into_iter().filter(|(name, _)| route.path.contains(&format!("{{{name}}}")));
    let mut parameters: Vec<_> = in_path.map(|(name, about)| path_parameter(name, about)).collect();
    parameters.extend(route.query.into_iter().flat_map(|schema| query_parameters(&schema())));
    operation(route.operation, route.summary, route.access, parameters, responses)
}

fn extra_operation(spec: &ExtraRouteSpec) -> Value {
    let content = spec.content_types.iter().map(|media_type| (media_type.to_string(), text_content()));
    let response = json!({ "description": spec.answer, "content": content.collect::<Map<_, _>>() });
    let responses = Map::from_iter([("200".to_owned(), response)]);
    let parameters = spec.parameters.iter().map(|parameter| {
        let schema = json!({ "type": "string", "enum": parameter.values });
        json!({ "name": parameter.name, "in": "query", "description": parameter.about, "schema": schema })
    });
    operation(spec.operation, spec.summary, spec.access, parameters.collect(), responses)
}

fn operation(
    id: &str,
    summary: &str,
    access: Access,
    parameters: Vec<Value>,
    mut responses: Map<String, Value>,
) -> Value {
    responses.insert("default".to_owned(), json!({ "$ref": "#/components/responses/Problem" }));
    let mut operation =
        json!({ "operationId": id, "summary": summary, "parameters": parameters, "responses": responses });
    if access == Access::Guarded {
        // The empty alternative: no token is configured, or the request comes through the control socket.
        operation["security"] = json!([{ "token": [] }, {}]);
    }
    operation
}

fn response(answer: &RouteAnswer, generator: &mut SchemaGenerator) -> Value {
    let content = answer.content.iter().map(|BodyForm { media_type, schema }| {
        let content = schema.map_or_else(text_content, |schema| json!({ "schema": schema(generator) }));
        ((*media_type).to_owned(), content)
    });
    json!({ "description": answer.about, "content": content.collect::<Map<_, _>>() })
}

fn text_content() -> Value {
    json!({ "schema": { "type": "string" } })
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

/// A parameter per property of a query's schema.
fn query_parameters(query: &Schema) -> Vec<Value> {
    let properties = query.get("properties").and_then(Value::as_object);
    let required = query.get("required").and_then(Value::as_array);
    let parameter = |(name, property): (&String, &Value)| {
        let mut schema = property.as_object().cloned().unwrap_or_default();
        let about = schema.remove("description");
        // An integer in a query is text; how wide the daemon's integers are is no business of a client.
        schema.remove("format");
        // An optional parameter is left out, and never null.
        if let Some([kind, _null]) = schema.get("type").and_then(Value::as_array).map(Vec::as_slice) {
            let kind = kind.clone();
            schema.insert("type".to_owned(), kind);
        }
        let mut parameter = json!({ "name": name, "in": "query", "description": about, "schema": schema });
        if required.is_some_and(|required| required.iter().any(|other| other == name)) {
            parameter["required"] = true.into();
        }
        parameter
    };
    properties.into_iter().flatten().map(parameter).collect()
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
        let document = openapi_document(&[]);
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
