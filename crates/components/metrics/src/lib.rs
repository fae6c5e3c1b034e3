//! The snapshot as Prometheus metrics.
//!
//! Nothing is counted here. Each scrape reads the latest snapshot, the counters of the output lane, the gaps of the bus
//! and `/proc`, and writes what it found. So a slow scraper cannot miscount, a server that is removed loses its series
//! by itself, and a scrape never touches a llama-server.
//!
//! [`Exporter::render`] answers a scrape; [`catalogue()`] lists every family, for the documentation.

mod accept;
#[cfg(test)]
mod builder;
mod catalogue;
mod daemon;
mod exporter;
mod openmetrics;
mod page;
mod servers;

pub use catalogue::{Family, FamilyKind, catalogue};
pub use exporter::{Exporter, Exposition};
