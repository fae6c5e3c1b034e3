//! The JSON Schema of the file, for editors: made from the same declarations that read it.

use schemars::generate::SchemaSettings;
use serde_json::Value as Json;

use llama_warden_config_source::DEFAULT_TOML;

use crate::tables::ConfigFile;

/// The JSON Schema (draft 2020-12) of a configuration file. Every key is described; unknown ones are refused.
pub fn schema() -> Json {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<ConfigFile>();
    let mut schema = schema.to_value();
    schema["title"] = "Configuration of llama-warden".into();
    for (table, key) in REQUIRED {
        schema["$defs"][table]["required"] = Json::from([key]);
    }
    show_defaults(&mut schema);
    schema
}

/// Keys without a default, by table. Every other key may be left out.
const REQUIRED: [(&str, &str); 5] =
    [("Peer", "url"), ("Server", "model"), ("Profile", "servers"), ("ByTier", "tier"), ("RouterGroup", "servers")];

/// Copies the built-in defaults into the schema, where editors show them.
fn show_defaults(schema: &mut Json) {
    let defaults = DEFAULT_TOML.parse::<toml::Table>().ok().and_then(|table| serde_json::to_value(table).ok());
    let Some(Json::Object(sections)) = defaults else { return };
    for (section, default) in sections {
        let property = &mut schema["properties"][&section];
        let definition = property["$ref"].as_str().map(|reference| reference.trim_start_matches('#').to_owned());
        match (definition.and_then(|pointer| schema.pointer_mut(&pointer)), default) {
            (Some(table), Json::Object(keys)) => {
                for (key, default) in keys {
                    table["properties"][key]["default"] = default;
                }
            }
            (_, default) => schema["properties"][section]["default"] = default,
        }
    }
}
