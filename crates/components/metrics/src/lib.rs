//! The snapshot as Prometheus metrics.
//!
//! Each scrape reads the latest snapshot, the counters and requests of the output lane, the gaps of the bus and
//! `/proc`, and writes what it found. So a slow scraper cannot miscount, and a server that is removed loses its series by itself. There are no registered
//! `Counter`s and `Gauge`s: they would be a second place that counts, to be kept equal to the snapshot, and their series would outlive
//! a removed server.
//!
//! What is about the daemon is gathered from a registry of the crate `prometheus`, which also checks the names and labels of every
//! family. What is about servers is written as text at once: a thousand servers have some 40 000 series, and each would be a message
//! of five allocations. `text` writes both, in the format that the scraper asks for.
//!
//! A scrape touches no llama-server, unless it asks for `servers=1`: then `own` reads the metrics of every ready server, and wakes
//! none ([why](../../../../docs/decisions/0030-servers-are-asked-only-if-awake.md)).
//!
//! [`Metrics`] is the component. It hands [`METRICS_ROUTE`] to the API, answered by [`Exporter::render`]; [`catalogue()`] lists every
//! family, for the documentation.

mod accept;
#[cfg(test)]
mod builder;
mod catalogue;
mod collected;
mod component;
mod daemon;
mod exporter;
mod own;
mod requests;
mod route;
mod router;
mod server_families;
mod servers;
mod text;

pub use catalogue::{Family, FamilyKind, catalogue};
pub use component::Metrics;
pub use exporter::{Exporter, Exposition};
pub use own::{OwnAnswers, ScrapeOutcome, ServerScraper};
pub use route::METRICS_ROUTE;
pub use servers::Exemplars;
