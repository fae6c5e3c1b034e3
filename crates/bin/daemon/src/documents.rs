//! What the program says about itself, word for word as `cargo xtask schema` generated it from the types.
//!
//! What generates it is not in the program: most of what an idle daemon holds in memory is code.

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
