//! Collects the series of one scrape.
//!
//! Invariant: a series has exactly the labels of its family, in their order.

use std::collections::BTreeMap;

use llama_warden_state::Histogram;
use prometheus::proto;

use crate::{Family, FamilyKind};

/// Families with their series, as the `prometheus` crate takes them.
#[derive(Debug, Default)]
pub(crate) struct Page {
    families: BTreeMap<&'static str, proto::MetricFamily>,
}

impl Page {
    /// Adds a series of a counter or a gauge.
    pub(crate) fn value(&mut self, family: &Family, labels: &[&str], value: f64) {
        let mut series = series(family, labels);
        match family.kind {
            FamilyKind::Counter => {
                let mut counter = proto::Counter::default();
                counter.set_value(value);
                series.set_counter(counter);
            }
            FamilyKind::Gauge | FamilyKind::Histogram => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(value);
                series.set_gauge(gauge);
            }
        }
        self.push(family, series);
    }

    /// Adds a series of a histogram.
    pub(crate) fn histogram(&mut self, family: &Family, labels: &[&str], histogram: &Histogram) {
        let buckets = histogram.cumulative().map(|(bound, count)| {
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(count);
            bucket
        });
        let mut family_proto = proto::Histogram::default();
        family_proto.set_bucket(buckets.collect());
        family_proto.set_sample_count(histogram.count());
        family_proto.set_sample_sum(histogram.sum());
        let mut series = series(family, labels);
        series.set_histogram(family_proto);
        self.push(family, series);
    }

    /// The families that have a series, by name.
    pub(crate) fn into_families(self) -> Vec<proto::MetricFamily> {
        self.families.into_values().collect()
    }

    fn push(&mut self, family: &Family, series: proto::Metric) {
        let entry = self.families.entry(family.name).or_insert_with(|| {
            let mut family_proto = proto::MetricFamily::default();
            family_proto.set_name(family.name.to_owned());
            family_proto.set_help(family.help.to_owned());
            family_proto.set_field_type(match family.kind {
                FamilyKind::Counter => proto::MetricType::COUNTER,
                FamilyKind::Gauge => proto::MetricType::GAUGE,
                FamilyKind::Histogram => proto::MetricType::HISTOGRAM,
            });
            family_proto
        });
        entry.mut_metric().push(series);
    }
}

fn series(family: &Family, values: &[&str]) -> proto::Metric {
    debug_assert_eq!(family.labels.len(), values.len(), "{}", family.name);
    let labels = family.labels.iter().zip(values).map(|(name, value)| {
        let mut label = proto::LabelPair::default();
        label.set_name((*name).to_owned());
        label.set_value((*value).to_owned());
        label
    });
    proto::Metric::from_label(labels.collect())
}
