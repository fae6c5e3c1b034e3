//! Amounts of memory, for people.

use std::fmt;

/// An amount of memory, shown in the unit that suits it: `5.2 GiB`, `320 MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: f64 = 1_048_576.0;
        let mib = self.0 as f64 / MIB;
        if mib >= 1024.0 { write!(f, "{:.1} GiB", mib / 1024.0) } else { write!(f, "{mib:.0} MiB") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_shown_in_the_unit_that_suits_it() {
        let shown = [0, 320 << 20, 1 << 30, 5_583_457_485].map(|bytes| Bytes(bytes).to_string());
        assert_eq!(shown, ["0 MiB", "320 MiB", "1.0 GiB", "5.2 GiB"]);
    }
}
