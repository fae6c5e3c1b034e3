//! The snapshot as Prometheus metrics.
//!
//! Nothing is counted here. Each scrape reads the latest snapshot, the counters and requests of the output lane, the gaps of the
//! bus and `/proc`, and writes what it found. So a slow scraper cannot miscount, a server that is removed loses its series
//! by itself, and a scrape never touches a llama-server.
//!
//! So the families are filled as `prometheus::proto` messages instead of registered `Counter`s and `Gauge`s. Those would be
//! a second place that counts, to be kept equal to the snapshot, and their series would outlive a removed server. The crate
//! `prometheus` still checks names and labels and writes the text format.
//!
//! [`Metrics`] is the component. It hands [`METRICS_ROUTE`] to the API, answered by [`Exporter::render`]; [`catalogue()`] lists every
//! family, for the documentation.

mod accept;
#[cfg(test)]
mod builder;
mod catalogue;
mod component;
mod daemon;
mod exporter;
mod openmetrics;
mod page;
mod requests;
mod route;
mod servers;

pub use catalogue::{Family, FamilyKind, catalogue};
pub use component::Metrics;
pub use exporter::{Exporter, Exposition};
pub use route::METRICS_ROUTE;
