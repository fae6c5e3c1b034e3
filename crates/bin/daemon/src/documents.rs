//! Schemas, catalogues and the OpenAPI document, as `cargo xtask schema` generated them from the types.
//!
//! They are embedded, not generated at run time: the generators would be code, which is most of an idle daemon's memory.

/// JSON Schema of the configuration.
pub const CONFIG_SCHEMA: &str = include_str!("../../../../docs/schema/config.json");

/// JSON Schema of a detector pack.
pub const DETECTOR_SCHEMA: &str = include_str!("../../../../docs/schema/detector.json");

/// JSON Schema of a flag dialect.
pub const DIALECT_SCHEMA: &str = include_str!("../../../../docs/schema/dialect.json");

/// The OpenAPI document.
pub const OPENAPI: &str = include_str!("../../../../docs/schema/openapi.json");

/// The catalogue of events.
pub const EVENTS: &str = include_str!("../../../../docs/events.md");

/// The catalogue of metrics.
pub const METRICS: &str = include_str!("../../../../docs/metrics.md");
