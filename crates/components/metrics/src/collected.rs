//! Collects series in the types of the `prometheus` crate.
//!
//! Invariant: a series has exactly the labels of its family, in their order.

use std::collections::BTreeMap;

use prometheus::proto;

use crate::{Family, FamilyKind};

/// Families with their series.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    families: BTreeMap<&'static str, proto::MetricFamily>,
}

impl Collected {
    /// Adds a series of a counter or a gauge.
    pub(crate) fn value(&mut self, family: &Family, labels: &[&str], value: f64) {
        debug_assert_eq!(family.labels.len(), labels.len(), "{}", family.name);
        let labels = family.labels.iter().zip(labels).map(|(name, value)| {
            let mut label = proto::LabelPair::default();
            label.set_name((*name).to_owned());
            label.set_value((*value).to_owned());
            label
        });
        let mut series = proto::Metric::from_label(labels.collect());
        if family.kind == FamilyKind::Counter {
            let mut counter = proto::Counter::default();
            counter.set_value(value);
            series.set_counter(counter);
        } else {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(value);
            series.set_gauge(gauge);
        }
        let entry = self.families.entry(family.name).or_insert_with(|| {
            let mut entry = proto::MetricFamily::default();
            entry.set_name(family.name.to_owned());
            entry.set_help(family.help.to_owned());
            entry.set_field_type(match family.kind {
                FamilyKind::Counter => proto::MetricType::COUNTER,
                FamilyKind::Gauge | FamilyKind::Histogram => proto::MetricType::GAUGE,
            });
            entry
        });
        entry.mut_metric().push(series);
    }

    /// The families that have a series, by name.
    pub(crate) fn into_families(self) -> Vec<proto::MetricFamily> {
        self.families.into_values().collect()
    }
}
