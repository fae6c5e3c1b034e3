//! Available memory minus what granted launches still have reserved.
//!
//! A granted launch has allocated part of its memory already, which the kernel no longer counts as available. The rest is
//! outstanding, and must not be granted twice. How much is outstanding depends on the stage:
//!
//! * While it loads, everything that is not resident.
//! * Once it is ready, at most its compute buffers: llama-server fills weights and KV cache before it is ready.
//! * A mapped model file stays reserved for as long as the server runs. The kernel counts its pages as available, but a
//!   server that loses them reads them again for each token.
//!
//! For example: 20 GiB are available and a loading server needs 6 GiB, of which 4 GiB are resident. 2 GiB are outstanding,
//! so that 18 GiB are free for the next launch.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use llama_warden_memory::{Available, Bound, Bytes, MemoryRequirement, Parts, Reading};

/// Progress of a launch that holds memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReservationStage {
    /// Not ready yet.
    Starting,
    /// It has allocated what it needs, except for compute buffers.
    Ready,
    /// Being stopped before it was ready: it may still allocate until its process is gone.
    Cancelled,
    /// Being stopped after it was ready.
    Stopping,
}

impl ReservationStage {
    /// Whether its process is about to go.
    pub const fn is_ending(self) -> bool {
        matches!(self, Self::Cancelled | Self::Stopping)
    }
}

/// The memory of a launch that was granted.
#[derive(Debug, Clone)]
pub(crate) struct Reservation<'a> {
    /// `None` where no estimate is possible, or none was reserved.
    pub(crate) requirement: Option<&'a MemoryRequirement>,
    /// Bytes that its process has allocated already.
    pub(crate) resident: u64,
    pub(crate) stage: ReservationStage,
}

/// Bytes of main memory and of GPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MemoryAmount {
    pub(crate) host: u64,
    pub(crate) gpus: u64,
}

impl MemoryAmount {
    const fn plus(self, other: Self) -> Self {
        Self { host: self.host.saturating_add(other.host), gpus: self.gpus.saturating_add(other.gpus) }
    }

    const fn minus(self, other: Self) -> Self {
        Self { host: self.host.saturating_sub(other.host), gpus: self.gpus.saturating_sub(other.gpus) }
    }

    const fn fits_into(self, room: Self) -> bool {
        self.host <= room.host && self.gpus <= room.gpus
    }
}

/// When a launch fits into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryFit {
    /// Beside everything that runs now.
    Now,
    /// Once the servers that are stopping are gone and the launches before it are served.
    Later,
    /// Never, as things are.
    Never,
}

/// The memory that is free for further launches.
#[derive(Debug)]
pub(crate) struct MemoryBudget<'a> {
    reading: &'a Reading,
    now: FreeMemory<'a>,
    /// Once the servers that are stopping are gone.
    later: FreeMemory<'a>,
}

#[derive(Debug)]
struct FreeMemory<'a> {
    amount: MemoryAmount,
    /// The part of the available memory that is reserved and not allocated yet.
    reserved: MemoryAmount,
    /// Model files that a reservation maps already; mapping them again costs nothing.
    mapped: BTreeSet<&'a Path>,
}

impl<'a> MemoryBudget<'a> {
    /// Subtracts the outstanding part of all reservations from what `reading` found available.
    pub(crate) fn compute(reading: &'a Reading, reservations: &[Reservation<'a>]) -> Self {
        // Memory that cannot be measured is not limited.
        let available = MemoryAmount {
            host: reading.host.as_ref().map_or(u64::MAX, |available| available.bytes),
            gpus: reading.gpus.free().unwrap_or(u64::MAX),
        };
        let (ending, staying): (Vec<_>, Vec<_>) =
            reservations.iter().partition(|reservation| reservation.stage.is_ending());
        let freed = ending.iter().map(|reservation| reservation.freed_on_exit());
        let freed = freed.fold(MemoryAmount::default(), MemoryAmount::plus);
        Self {
            reading,
            now: FreeMemory::of(available, reservations),
            later: FreeMemory::of(available.plus(freed), staying),
        }
    }

    /// Whether `requirement` fits now, later or never. The memory that earlier launches wait for (`queued_before`) is not
    /// available to it.
    pub(crate) fn fit(&self, requirement: &MemoryRequirement, queued_before: MemoryAmount) -> MemoryFit {
        let [now, later] = [&self.now, &self.later].map(|free| free.needed_for(requirement));
        let fits_now = now.fits_into(self.now.amount);
        if !later.fits_into(self.later.amount) && !fits_now {
            return MemoryFit::Never;
        }
        // Earlier launches wait for memory that is freed later, so this launch may use memory that is free now as long as the
        // earlier ones still fit beside it then.
        let leaves_enough =
            queued_before == MemoryAmount::default() || later.plus(queued_before).fits_into(self.later.amount);
        if fits_now && leaves_enough { MemoryFit::Now } else { MemoryFit::Later }
    }

    /// `queued_before` for the launches behind one that waits for `requirement`. A launch that does not fit beside the
    /// earlier ones adds nothing: it would keep everybody out for memory that it cannot get.
    pub(crate) fn queue_behind(&self, requirement: &MemoryRequirement, queued_before: MemoryAmount) -> MemoryAmount {
        let together = queued_before.plus(self.later.needed_for(requirement));
        if together.fits_into(self.later.amount) { together } else { queued_before }
    }

    /// Whether the memory that is missing now is memory of GPUs.
    pub(crate) fn gpus_are_short(&self, requirement: &MemoryRequirement) -> bool {
        requirement.gpus.total() > self.now.amount.gpus
    }

    /// The needed and the available memory, as text for people.
    pub(crate) fn describe(&self, requirement: &MemoryRequirement) -> String {
        let needs = self.now.needed_for(requirement);
        let mut sides = Vec::new();
        if needs.host > 0 {
            sides.push(format!("{} of memory ({})", Bytes(needs.host), PartsText(requirement.host)));
        }
        if needs.gpus > 0 {
            sides.push(format!("{} on GPUs ({})", Bytes(needs.gpus), PartsText(requirement.gpus)));
        }
        let reserved = |bytes: u64| match bytes {
            0 => String::new(),
            _ => format!(", {} of it promised to other servers", Bytes(bytes)),
        };
        let mut text = format!("needs {}", sides.join(" and "));
        if let Some(Available { bytes, bound, .. }) = &self.reading.host {
            let of = match bound {
                Bound::Machine => String::new(),
                Bound::Cgroup(folder) => format!(" within the limit of the control group {}", folder.display()),
            };
            text += &format!("; {} is available{of}{}", Bytes(*bytes), reserved(self.now.reserved.host));
        }
        if let Some(free) = self.reading.gpus.free().filter(|_| needs.gpus > 0) {
            text += &format!("; {} is free on GPUs{}", Bytes(free), reserved(self.now.reserved.gpus));
        }
        text
    }
}

impl<'a> FreeMemory<'a> {
    fn of<'h>(available: MemoryAmount, reservations: impl IntoIterator<Item = &'h Reservation<'a>>) -> Self
    where
        'a: 'h,
    {
        let mut reserved = MemoryAmount::default();
        let mut mappings: BTreeMap<&Path, u64> = BTreeMap::new();
        for reservation in reservations {
            reserved = reserved.plus(reservation.outstanding());
            if let Some((file, bytes)) = reservation.mapped_file() {
                let most = mappings.entry(file).or_default();
                *most = bytes.max(*most);
            }
        }
        // The page cache holds a file once, however many servers map it.
        reserved.host = mappings.values().fold(reserved.host, |sum, bytes| sum.saturating_add(*bytes));
        Self { amount: available.minus(reserved), reserved, mapped: mappings.into_keys().collect() }
    }

    /// The memory that a launch adds, without a file that another server maps already.
    fn needed_for(&self, requirement: &MemoryRequirement) -> MemoryAmount {
        let is_mapped = requirement.mapping.as_ref().is_some_and(|file| self.mapped.contains(file.as_path()));
        let shared = if is_mapped { requirement.mapped() } else { 0 };
        MemoryAmount { host: requirement.host.total().saturating_sub(shared), gpus: requirement.gpus.total() }
    }
}

impl<'a> Reservation<'a> {
    /// The part of the reservation that is not allocated yet, without a mapped file.
    fn outstanding(&self) -> MemoryAmount {
        let Some(requirement) = self.requirement else { return MemoryAmount::default() };
        let unmapped = self.not_resident(requirement).saturating_sub(requirement.mapped());
        match self.stage {
            // How much of its GPU memory a process has is unknown, so that all of it counts until it is ready.
            ReservationStage::Starting | ReservationStage::Cancelled => {
                MemoryAmount { host: unmapped, gpus: requirement.gpus.total() }
            }
            ReservationStage::Ready | ReservationStage::Stopping => {
                MemoryAmount { host: unmapped.min(requirement.host.compute), gpus: 0 }
            }
        }
    }

    /// The file that it maps, and how many bytes of it stay reserved. Some builds copy what they have mapped: the copy is
    /// resident, and the mapping needs no reservation any more.
    fn mapped_file(&self) -> Option<(&'a Path, u64)> {
        let requirement = self.requirement?;
        let file = requirement.mapping.as_deref()?;
        Some((file, self.not_resident(requirement).min(requirement.mapped())))
    }

    const fn not_resident(&self, requirement: &MemoryRequirement) -> u64 {
        requirement.host.total().saturating_sub(self.resident)
    }

    /// The memory that becomes available once its process is gone. `resident` is that of the process which was started;
    /// where that one is a wrapper script, the estimate is more accurate.
    fn freed_on_exit(&self) -> MemoryAmount {
        let unmapped = |requirement: &MemoryRequirement| requirement.host.total().saturating_sub(requirement.mapped());
        let estimated = self.requirement.map_or(0, unmapped);
        let gpus = self.requirement.map_or(0, |requirement| requirement.gpus.total());
        MemoryAmount { host: self.resident.max(estimated), gpus }
    }
}

/// The parts of a requirement, as text for people.
struct PartsText(Parts);

impl fmt::Display for PartsText {
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
            host: Some(Available { bytes: host * GIB, total: 64 * GIB, bound: Bound::Machine }),
            gpus: gpus.map_or(Gpus::Absent, |free| {
                Gpus::Measured(vec![Gpu { name: "g".into(), free: free * GIB, total: 64 * GIB }])
            }),
            resident: BTreeMap::new(),
        }
    }

    fn requirement(weights: u64, kv: u64) -> MemoryRequirement {
        MemoryRequirement {
            host: Parts { weights: weights * GIB, kv: kv * GIB, compute: GIB },
            ..MemoryRequirement::default()
        }
    }

    fn mapped(weights: u64, file: &str) -> MemoryRequirement {
        MemoryRequirement { mapping: Some(file.into()), ..requirement(weights, 0) }
    }

    fn reservation(requirement: &MemoryRequirement, resident: u64, stage: ReservationStage) -> Reservation<'_> {
        Reservation { requirement: Some(requirement), resident: resident * GIB, stage }
    }

    fn free(reading: &Reading, reservations: &[Reservation<'_>]) -> (u64, u64) {
        let budget = MemoryBudget::compute(reading, reservations);
        (budget.now.amount.host / GIB, budget.later.amount.host / GIB)
    }

    #[test]
    fn granted_memory_that_is_not_allocated_yet_is_not_granted_again() {
        let (six, reading) = (requirement(4, 1), reading(20, None));
        assert_eq!(free(&reading, &[reservation(&six, 0, ReservationStage::Starting)]), (14, 14));
        assert_eq!(free(&reading, &[reservation(&six, 4, ReservationStage::Starting)]), (18, 18));
        assert_eq!(
            free(&reading, &[reservation(&six, 9, ReservationStage::Starting)]),
            (20, 20),
            "it allocated more than was estimated"
        );
        assert_eq!(
            free(&reading, &[reservation(&six, 2, ReservationStage::Ready)]),
            (19, 19),
            "only its buffers are to come"
        );
    }

    #[test]
    fn a_server_that_ends_frees_what_it_has() {
        let (six, reading) = (requirement(4, 1), reading(20, None));
        assert_eq!(free(&reading, &[reservation(&six, 5, ReservationStage::Stopping)]), (19, 26));
        assert_eq!(
            free(&reading, &[reservation(&six, 1, ReservationStage::Cancelled)]),
            (15, 26),
            "it may take more until it is gone"
        );
        assert_eq!(
            free(&reading, &[Reservation { requirement: None, resident: 3 * GIB, stage: ReservationStage::Stopping }]),
            (20, 23)
        );
        assert_eq!(
            free(&reading, &[Reservation { requirement: None, resident: 3 * GIB, stage: ReservationStage::Ready }]),
            (20, 20)
        );
    }

    #[test]
    fn a_mapped_model_stays_reserved_and_is_shared() {
        let (a, b, reading) = (mapped(5, "/a"), mapped(5, "/b"), reading(20, None));
        let ready = |requirement| reservation(requirement, 1, ReservationStage::Ready);
        assert_eq!(free(&reading, &[ready(&a)]), (15, 15));
        assert_eq!(free(&reading, &[ready(&a), ready(&a)]), (15, 15));
        assert_eq!(free(&reading, &[ready(&a), ready(&b)]), (10, 10));
        assert_eq!(
            free(&reading, &[reservation(&a, 6, ReservationStage::Ready)]),
            (20, 20),
            "the build copied what it had mapped"
        );
        let budget = MemoryBudget::compute(&reading, &[]);
        assert_eq!(budget.queue_behind(&a, MemoryAmount::default()).host, 6 * GIB);
        let reservations = [ready(&a)];
        let budget = MemoryBudget::compute(&reading, &reservations);
        assert_eq!(budget.queue_behind(&a, MemoryAmount::default()).host, GIB, "only its buffers are its own");
    }

    #[test]
    fn a_launch_fits_now_later_or_never_and_takes_no_memory_of_an_earlier_one() {
        let (big, reading) = (requirement(8, 1), reading(12, None));
        let reservations = [reservation(&big, 9, ReservationStage::Stopping)];
        let budget = MemoryBudget::compute(&reading, &reservations);
        let fit = |weights, queued_before| {
            budget.fit(&requirement(weights, 0), MemoryAmount { host: queued_before * GIB, gpus: 0 })
        };
        // 11 GiB are free now, 22 GiB later.
        assert_eq!(
            [10, 11, 21, 22].map(|weights| fit(weights, 0)),
            [MemoryFit::Now, MemoryFit::Later, MemoryFit::Later, MemoryFit::Never]
        );
        assert_eq!([2, 3].map(|weights| fit(weights, 19)), [MemoryFit::Now, MemoryFit::Later]);
        let queue_behind = |weights| {
            budget.queue_behind(&requirement(weights, 0), MemoryAmount { host: 19 * GIB, gpus: 0 }).host / GIB
        };
        assert_eq!([2, 3].map(queue_behind), [22, 19]);
    }

    #[test]
    fn gpus_are_counted_apart_and_what_is_not_measured_does_not_limit() {
        let gpu = MemoryRequirement { gpus: Parts { weights: 8 * GIB, ..Parts::default() }, ..requirement(0, 0) };
        let fits = |reading: &Reading, reservations: &[Reservation<'_>]| {
            MemoryBudget::compute(reading, reservations).fit(&gpu, MemoryAmount::default())
        };
        assert_eq!(fits(&reading(4, Some(8)), &[]), MemoryFit::Now);
        assert_eq!(fits(&reading(4, Some(7)), &[]), MemoryFit::Never);
        assert_eq!(fits(&reading(4, Some(12)), &[reservation(&gpu, 0, ReservationStage::Starting)]), MemoryFit::Never);
        assert_eq!(fits(&reading(4, Some(4)), &[reservation(&gpu, 0, ReservationStage::Stopping)]), MemoryFit::Later);
        assert_eq!(fits(&Reading { gpus: Gpus::Unmeasured, ..reading(4, None) }, &[]), MemoryFit::Now);
        assert_eq!(fits(&Reading { host: None, ..reading(0, Some(8)) }, &[]), MemoryFit::Now);
    }

    #[test]
    fn the_text_has_the_numbers_and_names_the_limit() {
        let (six, four) = (requirement(4, 1), requirement(3, 0));
        let bound = Bound::Cgroup("/sys/fs/cgroup/svc".into());
        let reading = Reading { host: Some(Available { bytes: 7 * GIB, total: 8 * GIB, bound }), ..reading(0, None) };
        let reservations = [reservation(&four, 0, ReservationStage::Starting)];
        assert_eq!(
            MemoryBudget::compute(&reading, &reservations).describe(&six),
            "needs 6.0 GiB of memory (weights 4.0 GiB, KV cache 1.0 GiB, computation 1.0 GiB); 7.0 GiB is available within \
             the limit of the control group /sys/fs/cgroup/svc, 4.0 GiB of it promised to other servers"
        );
    }
}
