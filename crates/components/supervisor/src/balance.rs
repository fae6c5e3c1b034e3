//! The memory of the machine against what its servers were granted.
//!
//! A server that was granted memory has part of it already, which the kernel no longer counts as available; the rest is
//! promised and must not be given away twice. A ready server has all of its weights and its cache (llama-server fills
//! both before it is ready) and may still take its buffers. A mapped model stays promised for as long as the server
//! runs: the kernel counts its pages as available, and a server that loses them reads them again for each token.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use llama_warden_memory::{Available, Bound, Bytes, MemoryRequirement, Parts, Reading};

/// How far a server that was granted memory has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// On its way to ready.
    Rising,
    Ready,
    /// Its end was asked for on its way to ready.
    CalledOff,
    /// Its end was asked for when it was ready.
    Stopping,
}

impl Stage {
    pub(crate) const fn is_ending(self) -> bool {
        matches!(self, Self::CalledOff | Self::Stopping)
    }
}

/// A server that was granted memory.
#[derive(Debug, Clone)]
pub(crate) struct Holder<'a> {
    /// `None` where nothing tells.
    pub(crate) demand: Option<&'a MemoryRequirement>,
    /// Bytes that it has already.
    pub(crate) resident: u64,
    pub(crate) stage: Stage,
}

/// An amount of memory of each kind, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) host: u64,
    pub(crate) gpus: u64,
}

impl Amount {
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self { host: self.host.saturating_add(other.host), gpus: self.gpus.saturating_add(other.gpus) }
    }

    const fn minus(self, other: Self) -> Self {
        Self { host: self.host.saturating_sub(other.host), gpus: self.gpus.saturating_sub(other.gpus) }
    }

    const fn fits_into(self, room: Self) -> bool {
        self.host <= room.host && self.gpus <= room.gpus
    }
}

/// Whether there is room for a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    Now,
    /// When those that are ending have ended, and those who wait already have theirs.
    Soon,
    Never,
}

/// What is free at one moment.
#[derive(Debug)]
pub(crate) struct Balance<'a> {
    reading: &'a Reading,
    now: Free<'a>,
    /// Once those that are ending have ended.
    soon: Free<'a>,
}

#[derive(Debug)]
struct Free<'a> {
    amount: Amount,
    promised: Amount,
    /// Files that are mapped already, and promised.
    mapped: BTreeSet<&'a Path>,
}

impl<'a> Balance<'a> {
    pub(crate) fn strike(reading: &'a Reading, holders: &[Holder<'a>]) -> Self {
        // What nothing tells is not weighed.
        let there = Amount {
            host: reading.host.as_ref().map_or(u64::MAX, |available| available.bytes),
            gpus: reading.gpus.free().unwrap_or(u64::MAX),
        };
        let is_ending = |holder: &&Holder<'_>| holder.stage.is_ending();
        let given_back = holders.iter().filter(is_ending).map(Holder::gives_back).fold(Amount::default(), Amount::plus);
        Self {
            reading,
            now: Free::of(there, holders.iter()),
            soon: Free::of(there.plus(given_back), holders.iter().filter(|holder| !is_ending(holder))),
        }
    }

    /// Whether there is room for `demand`, when others wait already that need what is `ahead`: nobody overtakes them with
    /// what they are waiting for.
    pub(crate) fn weigh(&self, demand: &MemoryRequirement, ahead: Amount) -> Fit {
        let [now, soon] = [&self.now, &self.soon].map(|free| free.needed_by(demand));
        if !soon.fits_into(self.soon.amount) && !now.fits_into(self.now.amount) {
            return Fit::Never;
        }
        let leaves_theirs = ahead == Amount::default() || soon.plus(ahead).fits_into(self.soon.amount);
        if now.fits_into(self.now.amount) && leaves_theirs { Fit::Now } else { Fit::Soon }
    }

    /// What is spoken for once `demand` waits behind what is `ahead`. One that there will be no room for beside those
    /// speaks for nothing.
    pub(crate) fn queue(&self, demand: &MemoryRequirement, ahead: Amount) -> Amount {
        let together = ahead.plus(self.soon.needed_by(demand));
        if together.fits_into(self.soon.amount) { together } else { ahead }
    }

    /// Whether it is on GPUs that room is missing now.
    pub(crate) fn lacks_gpus(&self, demand: &MemoryRequirement) -> bool {
        demand.gpus.total() > self.now.amount.gpus
    }

    /// What is needed and what there is, for people.
    pub(crate) fn describe(&self, demand: &MemoryRequirement) -> String {
        let mut text = String::from("needs ");
        let needs = self.now.needed_by(demand);
        let mut sides = Vec::new();
        if needs.host > 0 {
            sides.push(format!("{} of memory ({})", Bytes(needs.host), Described(demand.host)));
        }
        if needs.gpus > 0 {
            sides.push(format!("{} on GPUs ({})", Bytes(needs.gpus), Described(demand.gpus)));
        }
        text.push_str(&sides.join(" and "));
        if let Some(Available { bytes, bound }) = &self.reading.host {
            let of = match bound {
                Bound::Machine => String::new(),
                Bound::Cgroup(folder) => format!(" within the limit of the control group {}", folder.display()),
            };
            text.push_str(&format!("; {} is available{of}", Bytes(*bytes)));
            if self.now.promised.host > 0 {
                text.push_str(&format!(", {} of it promised to other servers", Bytes(self.now.promised.host)));
            }
        }
        if let Some(free) = self.reading.gpus.free().filter(|_| needs.gpus > 0) {
            text.push_str(&format!("; {} is free on GPUs", Bytes(free)));
            if self.now.promised.gpus > 0 {
                text.push_str(&format!(", {} of it promised to other servers", Bytes(self.now.promised.gpus)));
            }
        }
        text
    }
}

impl<'a> Free<'a> {
    fn of<'h>(there: Amount, holders: impl Iterator<Item = &'h Holder<'a>>) -> Self
    where
        'a: 'h,
    {
        let mut promised = Amount::default();
        let mut mappings: BTreeMap<&Path, u64> = BTreeMap::new();
        for holder in holders {
            promised = promised.plus(holder.lacks());
            if let Some((file, bytes)) = holder.maps() {
                let most = mappings.entry(file).or_default();
                *most = bytes.max(*most);
            }
        }
        // A file that several servers map lies in memory once.
        promised.host = mappings.values().fold(promised.host, |sum, bytes| sum.saturating_add(*bytes));
        Self { amount: there.minus(promised), promised, mapped: mappings.into_keys().collect() }
    }

    fn needed_by(&self, demand: &MemoryRequirement) -> Amount {
        let is_mapped = demand.mapping.as_ref().is_some_and(|file| self.mapped.contains(file.as_path()));
        let shared = if is_mapped { demand.mapped() } else { 0 };
        Amount { host: demand.host.total().saturating_sub(shared), gpus: demand.gpus.total() }
    }
}

impl<'a> Holder<'a> {
    /// What was granted and is not there yet, without mapped files.
    fn lacks(&self) -> Amount {
        let Some(demand) = self.demand else { return Amount::default() };
        let missing = self.missing(demand);
        let unmapped = missing.saturating_sub(demand.mapped());
        match self.stage {
            Stage::Rising | Stage::CalledOff => Amount { host: unmapped, gpus: demand.gpus.total() },
            Stage::Ready | Stage::Stopping => Amount { host: unmapped.min(demand.host.compute), gpus: 0 },
        }
    }

    /// A file that it maps, and how much of it is not in memory of its own: some builds copy what they have mapped.
    fn maps(&self) -> Option<(&'a Path, u64)> {
        let demand = self.demand?;
        let file = demand.mapping.as_deref()?;
        Some((file, self.missing(demand).min(demand.mapped())))
    }

    const fn missing(&self, demand: &MemoryRequirement) -> u64 {
        demand.host.total().saturating_sub(self.resident)
    }

    /// What its end gives back. What it has is counted on the process that was started; where that one is a wrapper, the
    /// estimate is nearer to the truth.
    fn gives_back(&self) -> Amount {
        let estimated = self.demand.map_or(0, |demand| demand.host.total().saturating_sub(demand.mapped()));
        Amount { host: self.resident.max(estimated), gpus: self.demand.map_or(0, |demand| demand.gpus.total()) }
    }
}

/// The parts of a demand, for people.
struct Described(Parts);

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { weights, kv, compute } = self.0;
        write!(f, "weights {}, KV cache {}, computation {}", Bytes(weights), Bytes(kv), Bytes(compute))
    }
}

#[cfg(test)]
mod tests {
    use llama_warden_memory::{Gpu, Gpus};

    use super::*;

    const GIB: u64 = 1 << 30;

    fn reading(host: u64, gpus: Option<u64>) -> Reading {
        Reading {
            host: Some(Available { bytes: host * GIB, bound: Bound::Machine }),
            gpus: gpus.map_or(Gpus::Absent, |free| Gpus::Measured(vec![Gpu { name: "g".into(), free: free * GIB }])),
            resident: BTreeMap::new(),
        }
    }

    fn demand(weights: u64, kv: u64) -> MemoryRequirement {
        MemoryRequirement {
            host: Parts { weights: weights * GIB, kv: kv * GIB, compute: GIB },
            ..MemoryRequirement::default()
        }
    }

    fn mapped(weights: u64, file: &str) -> MemoryRequirement {
        MemoryRequirement { mapping: Some(file.into()), ..demand(weights, 0) }
    }

    fn holder(demand: &MemoryRequirement, resident: u64, stage: Stage) -> Holder<'_> {
        Holder { demand: Some(demand), resident: resident * GIB, stage }
    }

    fn free(reading: &Reading, holders: &[Holder<'_>]) -> (u64, u64) {
        let balance = Balance::strike(reading, holders);
        (balance.now.amount.host / GIB, balance.soon.amount.host / GIB)
    }

    #[test]
    fn what_was_granted_and_is_not_there_yet_is_not_given_away_again() {
        let (six, reading) = (demand(4, 1), reading(20, None));
        assert_eq!(free(&reading, &[holder(&six, 0, Stage::Rising)]), (14, 14));
        assert_eq!(free(&reading, &[holder(&six, 4, Stage::Rising)]), (18, 18));
        assert_eq!(free(&reading, &[holder(&six, 9, Stage::Rising)]), (20, 20), "it took more than was estimated");
        assert_eq!(free(&reading, &[holder(&six, 2, Stage::Ready)]), (19, 19), "only its buffers are to come");
    }

    #[test]
    fn what_ends_gives_back_what_it_has() {
        let (six, reading) = (demand(4, 1), reading(20, None));
        assert_eq!(free(&reading, &[holder(&six, 5, Stage::Stopping)]), (19, 26));
        assert_eq!(free(&reading, &[holder(&six, 1, Stage::CalledOff)]), (15, 26), "it may take more until it is gone");
        assert_eq!(free(&reading, &[Holder { demand: None, resident: 3 * GIB, stage: Stage::Stopping }]), (20, 23));
        assert_eq!(free(&reading, &[Holder { demand: None, resident: 3 * GIB, stage: Stage::Ready }]), (20, 20));
    }

    #[test]
    fn a_mapped_model_stays_promised_and_is_shared() {
        let (a, b, reading) = (mapped(5, "/a"), mapped(5, "/b"), reading(20, None));
        let ready = |demand| holder(demand, 1, Stage::Ready);
        assert_eq!(free(&reading, &[ready(&a)]), (15, 15));
        assert_eq!(free(&reading, &[ready(&a), ready(&a)]), (15, 15));
        assert_eq!(free(&reading, &[ready(&a), ready(&b)]), (10, 10));
        assert_eq!(free(&reading, &[holder(&a, 6, Stage::Ready)]), (20, 20), "the build copied what it had mapped");
        let balance = Balance::strike(&reading, &[]);
        assert_eq!(balance.queue(&a, Amount::default()).host, 6 * GIB);
        let holders = [ready(&a)];
        let balance = Balance::strike(&reading, &holders);
        assert_eq!(balance.queue(&a, Amount::default()).host, GIB, "only its buffers are its own");
    }

    #[test]
    fn a_server_fits_now_or_soon_or_never_and_overtakes_nobody() {
        let (big, reading) = (demand(8, 1), reading(12, None));
        let holders = [holder(&big, 9, Stage::Stopping)];
        let balance = Balance::strike(&reading, &holders);
        let weigh = |weights, ahead| balance.weigh(&demand(weights, 0), Amount { host: ahead * GIB, gpus: 0 });
        // 11 now, 22 soon.
        assert_eq!([10, 11, 21, 22].map(|weights| weigh(weights, 0)), [Fit::Now, Fit::Soon, Fit::Soon, Fit::Never]);
        assert_eq!([2, 3].map(|weights| weigh(weights, 19)), [Fit::Now, Fit::Soon]);
        let queue = |weights| balance.queue(&demand(weights, 0), Amount { host: 19 * GIB, gpus: 0 }).host / GIB;
        assert_eq!([2, 3].map(queue), [22, 19]);
    }

    #[test]
    fn gpus_are_a_room_of_their_own_and_what_is_not_measured_is_not_weighed() {
        let gpu = MemoryRequirement { gpus: Parts { weights: 8 * GIB, ..Parts::default() }, ..demand(0, 0) };
        let fits = |reading: &Reading, holders: &[Holder<'_>]| {
            Balance::strike(reading, holders).weigh(&gpu, Amount::default())
        };
        assert_eq!(fits(&reading(4, Some(8)), &[]), Fit::Now);
        assert_eq!(fits(&reading(4, Some(7)), &[]), Fit::Never);
        assert_eq!(fits(&reading(4, Some(12)), &[holder(&gpu, 0, Stage::Rising)]), Fit::Never);
        assert_eq!(fits(&reading(4, Some(4)), &[holder(&gpu, 0, Stage::Stopping)]), Fit::Soon);
        assert_eq!(fits(&Reading { gpus: Gpus::Unmeasured, ..reading(4, None) }, &[]), Fit::Now);
        assert_eq!(fits(&Reading { host: None, ..reading(0, Some(8)) }, &[]), Fit::Now);
    }

    #[test]
    fn the_numbers_are_told_with_where_the_limit_is() {
        let (six, four) = (demand(4, 1), demand(3, 0));
        let bound = Bound::Cgroup("/sys/fs/cgroup/svc".into());
        let reading = Reading { host: Some(Available { bytes: 7 * GIB, bound }), ..reading(0, None) };
        let holders = [holder(&four, 0, Stage::Rising)];
        assert_eq!(
            Balance::strike(&reading, &holders).describe(&six),
            "needs 6.0 GiB of memory (weights 4.0 GiB, KV cache 1.0 GiB, computation 1.0 GiB); 7.0 GiB is available within \
             the limit of the control group /sys/fs/cgroup/svc, 4.0 GiB of it promised to other servers"
        );
    }
}
