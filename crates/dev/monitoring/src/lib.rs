//! The files that are shipped for Prometheus and Grafana: alerts, recording rules and a dashboard, as tables over the metrics.
//!
//! [`documents`] renders them. `cargo xtask schema` writes the files, and CI fails when a file differs. A test holds every name
//! in an expression against the catalogue of metrics, so that a metric cannot be renamed without its rules and panels, and
//! every runbook that an alert names against the pages in `docs/runbooks`.
//!
//! Prometheus itself judges the files in the end-to-end tests: promtool runs the cases of `tests/fixtures/prometheus` against
//! the rules, and each panel is queried while a real llama-server answers requests.

mod alerts;
mod dashboard;
mod expression;
mod panels;
mod recordings;
mod yaml;

/// The generated files, as their paths in the checkout and their texts.
pub fn documents() -> Vec<(&'static str, String)> {
    let (alerts, recordings) = (alerts::all(), recordings::all());
    vec![
        ("config/prometheus/alerts.yaml", yaml::alert_file(&alerts)),
        ("config/prometheus/rules.yaml", yaml::recording_file(&recordings)),
        (
            "config/kubernetes/components/prometheusrule/prometheusrule.yaml",
            yaml::operator_resource(&alerts, &recordings),
        ),
        ("config/grafana/llama-warden.json", dashboard::text()),
    ]
}
