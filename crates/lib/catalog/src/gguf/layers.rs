//! Finds the layers of a network that attend to the whole context, and those that attend to a sliding window only.
//!
//! A header names the window; the layers that have one are named in it by some architectures (a number for each layer,
//! or a period) and known to llama.cpp alone for others: its `set_swa_pattern`, with which every layer but the last of
//! each period is windowed. An architecture without either counts as one without windows, which makes an estimate
//! too large and never too small.

/// Periods that llama.cpp gives to architectures whose headers say none.
const PERIODS: [(&str, u64); 7] =
    [("cohere2", 4), ("exaone4", 4), ("gemma2", 2), ("gemma3", 6), ("gemma3n", 5), ("gpt-oss", 2), ("olmo2", 4)];

/// The positions of windowed layers among the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WindowPattern<'a> {
    /// None is windowed, as far as is known.
    Unknown,
    /// All are windowed but the last of each so many.
    Period(u64),
    /// Those whose number is not zero.
    Each(&'a [u64]),
}

impl<'a> WindowPattern<'a> {
    /// The pattern of an architecture; `written` is what the header says of it.
    pub(super) fn of(architecture: &str, written: Option<&'a [u64]>) -> Self {
        match written {
            Some([period]) => Self::Period(*period),
            Some(each) => Self::Each(each),
            None => {
                let known = PERIODS.iter().find(|(name, _)| *name == architecture);
                known.map_or(Self::Unknown, |(_, period)| Self::Period(*period))
            }
        }
    }

    fn is_windowed(self, layer: u64) -> bool {
        match self {
            Self::Unknown => false,
            Self::Period(period) => layer.checked_rem(period).is_none_or(|place| place + 1 < period),
            Self::Each(each) => usize::try_from(layer).ok().and_then(|layer| each.get(layer)).is_some_and(|on| *on > 0),
        }
    }
}

/// The layers of a network.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layers<'a> {
    /// `None` where the header does not say it.
    pub(super) count: Option<u64>,
    pub(super) pattern: WindowPattern<'a>,
}

impl Layers<'_> {
    /// The sum over all layers of `counts`, which has a number for each layer or the same one for all.
    pub(super) fn sum(self, counts: &[u64]) -> Option<u64> {
        match counts {
            [same] => Some(same.saturating_mul(self.count?)),
            each => Some(each.iter().fold(0, |sum: u64, count| sum.saturating_add(*count))),
        }
    }

    /// The same over the windowed layers.
    pub(super) fn sum_windowed(self, counts: &[u64]) -> Option<u64> {
        // No model has a thousand layers, but a header may say so.
        let layers = 0..self.count?.min(1024);
        let count = |layer: u64| match counts {
            [same] => *same,
            each => usize::try_from(layer).ok().and_then(|layer| each.get(layer)).copied().unwrap_or(0),
        };
        Some(layers.filter(|layer| self.pattern.is_windowed(*layer)).map(count).fold(0, u64::saturating_add))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_but_the_last_of_a_period_is_windowed() {
        let windowed = |pattern, counts: &[u64]| Layers { count: Some(12), pattern }.sum_windowed(counts);
        assert_eq!(windowed(WindowPattern::of("gemma3", None), &[4]), Some(10 * 4));
        assert_eq!(windowed(WindowPattern::of("llama", None), &[4]), Some(0), "nothing is known of it");
        assert_eq!(windowed(WindowPattern::of("gemma3", Some(&[2])), &[4]), Some(6 * 4), "the header knows better");
        assert_eq!(windowed(WindowPattern::Period(1), &[4]), Some(0));
        assert_eq!(windowed(WindowPattern::Period(0), &[4]), Some(12 * 4));
        assert_eq!(windowed(WindowPattern::Each(&[1, 0, 1]), &[1, 10, 100]), Some(101));
        assert_eq!(Layers { count: None, pattern: WindowPattern::Period(2) }.sum_windowed(&[4]), None);
    }

    #[test]
    fn an_absurd_number_of_layers_costs_no_time() {
        let layers = Layers { count: Some(u64::MAX), pattern: WindowPattern::Period(2) };
        assert_eq!((layers.sum(&[u64::MAX]), layers.sum_windowed(&[1])), (Some(u64::MAX), Some(512)));
    }
}
