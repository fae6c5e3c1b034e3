//! Generates what is derived from the types: JSON Schemas, the OpenAPI document, catalogues as Markdown, and the rules and the
//! dashboard that are shipped.
//!
//! Prints one JSON object, from the path of each file in the checkout to its text; `cargo xtask schema` writes the files.
//! The daemon embeds the files and not their generators. This program depends on the libraries only, so it also builds if
//! the files are wrong or missing.

mod catalogues;

use serde_json::{Map, Value};

/// A file, by its path in the checkout, and what generates its text.
type GeneratedDocument = (&'static str, fn() -> String);

const DOCUMENTS: [GeneratedDocument; 6] = [
    ("docs/schema/config.json", || pretty(&llama_warden_config::schema())),
    ("docs/schema/detector.json", || pretty(llama_warden_detectors::detector_schema().as_value())),
    ("docs/schema/dialect.json", || pretty(llama_warden_dialects::dialect_schema().as_value())),
    ("docs/schema/openapi.json", || {
        pretty(&llama_warden_api::openapi_document(&[
            &llama_warden_metrics::METRICS_ROUTE,
            &llama_warden_dashboard::DASHBOARD_ROUTE,
        ]))
    }),
    ("docs/events.md", catalogues::events),
    ("docs/metrics.md", catalogues::metrics),
];

/// All files, as their paths and their texts.
fn texts() -> impl Iterator<Item = (&'static str, String)> {
    let documents = DOCUMENTS.into_iter().map(|(path, generate)| (path, generate()));
    documents.chain(llama_warden_monitoring::documents())
}

fn main() {
    let texts: Map<_, _> = texts().map(|(path, text)| (path.to_owned(), Value::from(text))).collect();
    println!("{}", Value::from(texts));
}

fn pretty(schema: &Value) -> String {
    format!("{schema:#}\n")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_files_say_what_the_types_say() {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
        for (path, text) in texts() {
            let kept = fs::read_to_string(checkout.join(path)).unwrap_or_default();
            assert!(kept == text, "{path} differs from what the types say: run `cargo xtask schema`");
        }
    }
}
