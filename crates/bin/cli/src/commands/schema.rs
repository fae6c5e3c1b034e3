//! `schema`: prints a JSON Schema, or a catalogue of the documentation.

use llama_warden_daemon::documents;
use llama_warden_exit::{CommandResult, Exit};

use crate::args::SchemaName;
use llama_warden_terminal::output::print_line;

pub fn run(name: SchemaName) -> CommandResult {
    let text = match name {
        SchemaName::Config => documents::CONFIG_SCHEMA,
        SchemaName::Detector => documents::DETECTOR_SCHEMA,
        SchemaName::Dialect => documents::DIALECT_SCHEMA,
        SchemaName::Openapi => documents::OPENAPI,
        SchemaName::Events => documents::EVENTS,
        SchemaName::Metrics => documents::METRICS,
    };
    print_line(text.trim_end())?;
    Ok(Exit::Done)
}
