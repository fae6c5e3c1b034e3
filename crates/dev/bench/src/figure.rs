//! Figures: the samples of a measurement, the baseline of the same run, and the budget that they are compared with.
//!
//! A figure without a sample is over its budget, so that a measurement that went wrong never passes.

use serde_json::{Value, json};

/// The unit of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Milliseconds,
    Microseconds,
    MegabytesPerSecond,
    Mebibytes,
    Kibibytes,
    Times,
    /// Of the time of one processor core.
    Percent,
}

impl Unit {
    const fn symbol(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::Microseconds => "µs",
            Self::MegabytesPerSecond => "MB/s",
            Self::Mebibytes => "MiB",
            Self::Kibibytes => "KiB",
            Self::Times => "×",
            Self::Percent => "%",
        }
    }

    /// Formats a number with its unit and three significant digits.
    pub fn format_value(self, value: f64) -> String {
        let decimals = match value.abs() {
            _ if self == Self::Times && value.fract() == 0.0 => 0,
            ..10.0 => 2,
            ..100.0 => 1,
            _ => 0,
        };
        format!("{value:.decimals$} {}", self.symbol())
    }
}

/// The values of one quantity, in rising order.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    pub const fn len(&self) -> usize {
        self.0.len()
    }

    pub fn median(&self) -> f64 {
        self.percentile(50)
    }

    /// Returns the smallest value that `percent` of all values do not exceed, or NaN if there are no values. With fewer than
    /// a hundred values the p99 is the largest.
    pub fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100);
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    fn least(&self) -> f64 {
        self.percentile(0)
    }
}

/// The limit of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// The median and the p99 at most these.
    AtMost { median: f64, p99: f64 },
    /// The median at least this.
    AtLeast(f64),
    /// The median at most this multiple of the median of the baseline.
    TimesBaseline(f64),
    /// The median at most the median of the baseline plus this.
    OverBaseline(f64),
    /// Shown beside a figure that has a limit.
    Unlimited,
}

impl Budget {
    /// A limit for the p99, and so for the median.
    pub const fn never_over(bound: f64) -> Self {
        Self::AtMost { median: bound, p99: bound }
    }
}

/// The measure of a figure, its baseline and its budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FigureTarget {
    pub name: &'static str,
    pub unit: Unit,
    /// A short description of the baseline, shown in the table.
    pub baseline: &'static str,
    pub budget: Budget,
}

impl FigureTarget {
    pub fn figure(self, samples: impl IntoIterator<Item = f64>, baseline: impl IntoIterator<Item = f64>) -> Figure {
        Figure { target: self, samples: Samples::of(samples), baseline: Samples::of(baseline) }
    }
}

/// One line of the result.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    pub target: FigureTarget,
    pub samples: Samples,
    /// The samples of the baseline.
    pub baseline: Samples,
}

impl Figure {
    /// The median divided by the median of the baseline.
    pub fn ratio(&self) -> f64 {
        self.samples.median() / self.baseline.median()
    }

    /// Compares the samples with the budget. A figure without a sample is over, also where no budget limits it.
    pub fn is_within_budget(&self) -> bool {
        match self.target.budget {
            Budget::AtMost { median, p99 } => self.samples.median() <= median && self.samples.percentile(99) <= p99,
            Budget::AtLeast(least) => self.samples.median() >= least,
            Budget::TimesBaseline(times) => self.ratio() <= times,
            Budget::OverBaseline(more) => self.samples.median() <= self.baseline.median() + more,
            Budget::Unlimited => self.samples.len() > 0,
        }
    }

    /// The p99, or the smallest value where more is better.
    pub fn worst(&self) -> f64 {
        match self.target.budget {
            Budget::AtLeast(_) => self.samples.least(),
            Budget::AtMost { .. } | Budget::TimesBaseline(_) | Budget::OverBaseline(_) | Budget::Unlimited => {
                self.samples.percentile(99)
            }
        }
    }

    /// The budget as text, shown in the table.
    pub fn budget_text(&self) -> String {
        match self.target.budget {
            Budget::AtMost { median, p99 } if median == p99 => format!("≤ {}", self.target.unit.format_value(median)),
            Budget::AtMost { median, p99 } => {
                format!("p50 ≤ {}, p99 ≤ {}", self.target.unit.format_value(median), self.target.unit.format_value(p99))
            }
            Budget::AtLeast(least) => format!("≥ {}", self.target.unit.format_value(least)),
            Budget::TimesBaseline(times) => format!("≤ {times} × baseline"),
            Budget::OverBaseline(more) => format!("≤ baseline + {}", self.target.unit.format_value(more)),
            Budget::Unlimited => "–".to_owned(),
        }
    }

    pub fn to_json(&self) -> Value {
        let budget = match self.target.budget {
            Budget::AtMost { median, p99 } => json!({ "median_at_most": median, "p99_at_most": p99 }),
            Budget::AtLeast(least) => json!({ "median_at_least": least }),
            Budget::TimesBaseline(times) => json!({ "ratio_at_most": times }),
            Budget::OverBaseline(more) => json!({ "median_over_baseline_at_most": more }),
            Budget::Unlimited => json!({}),
        };
        json!({
            "name": self.target.name,
            "unit": self.target.unit.symbol(),
            "samples": self.samples.len(),
            "median": self.samples.median(),
            "worst": self.worst(),
            "baseline": { "what": self.target.baseline, "median": self.baseline.median() },
            "ratio": self.ratio(),
            "budget": budget,
            "ok": self.is_within_budget(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(samples: &[f64], budget: Budget) -> Figure {
        let target = FigureTarget { name: "x", unit: Unit::Milliseconds, baseline: "ten", budget };
        target.figure(samples.iter().copied(), [10.0])
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let samples = Samples::of([3.0, 1.0, 2.0, 4.0]);
        assert_eq!((samples.median(), samples.percentile(99), samples.least()), (2.0, 4.0, 1.0));
        let many = Samples::of((1..=200).map(f64::from));
        assert_eq!((many.median(), many.percentile(99)), (100.0, 198.0));
    }

    #[test]
    fn a_budget_is_kept_up_to_its_bound() {
        let cases = [
            (vec![1.0, 5.0, 50.0], Budget::AtMost { median: 5.0, p99: 50.0 }, true),
            (vec![1.0, 5.1, 50.0], Budget::AtMost { median: 5.0, p99: 50.0 }, false),
            (vec![1.0, 5.0, 50.1], Budget::AtMost { median: 5.0, p99: 50.0 }, false),
            (vec![300.0], Budget::AtLeast(300.0), true),
            (vec![299.0], Budget::AtLeast(300.0), false),
            (vec![13.0], Budget::TimesBaseline(1.3), true),
            (vec![13.1], Budget::TimesBaseline(1.3), false),
            (vec![15.0], Budget::OverBaseline(5.0), true),
            (vec![15.1], Budget::OverBaseline(5.0), false),
            (vec![], Budget::never_over(1.0), false),
            (vec![], Budget::AtLeast(1.0), false),
            (vec![], Budget::TimesBaseline(1.0), false),
            (vec![], Budget::OverBaseline(1.0), false),
            (vec![300.0], Budget::Unlimited, true),
            (vec![], Budget::Unlimited, false),
        ];
        for (samples, budget, is_kept) in cases {
            assert_eq!(figure(&samples, budget).is_within_budget(), is_kept, "{samples:?} {budget:?}");
        }
    }

    #[test]
    fn the_worst_of_a_speed_is_its_least() {
        assert_eq!(figure(&[1.0, 2.0, 9.0], Budget::AtLeast(2.0)).worst(), 1.0);
        assert_eq!(figure(&[1.0, 2.0, 9.0], Budget::never_over(9.0)).worst(), 9.0);
    }
}
