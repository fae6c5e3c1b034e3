//! What a scrape reads of each server, and the families that it writes for all of them.

use llama_warden_bus::{OutputCounters, OutputLane};
use llama_warden_events::{ServerId, StreamName};
use llama_warden_procfs::{ProcessTree, ticks_as_seconds};
use llama_warden_requests::{RequestLog, RequestRecord};
use llama_warden_state::{Counters, Histogram, ServerRecord, Tally};

use crate::catalogue::Family;
use crate::text::{Exemplar, Page, SeriesWriter};

/// A server at the moment of the scrape.
pub(crate) struct ServerReading<'a> {
    pub(crate) id: &'a str,
    pub(crate) record: &'a ServerRecord,
    /// Its requests so far; `None` where it does not print any.
    pub(crate) requests: Option<RequestRecord>,
    /// Whether its latest launch prints requests.
    pub(crate) prints_requests: bool,
    /// Whether it was launched or taken over in this run of the daemon. A server that was not has a few series only.
    pub(crate) was_launched: bool,
    /// What the kernel says of its process and of those that belong to it.
    pub(crate) used: Option<ProcessUse>,
    pub(crate) output: [(StreamName, OutputCounters); StreamName::ALL.len()],
    /// The time that its latest launch took until it was ready, where launches have traces.
    pub(crate) ready_exemplar: Option<Exemplar>,
}

/// Memory and processor time of a process and of what belongs to it: behind a wrapper script, the child has them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessUse {
    pub(crate) resident_bytes: u64,
    pub(crate) cpu_seconds: f64,
}

impl ProcessUse {
    fn of(pid: u32, start_ticks: u64, processes: &ProcessTree) -> Option<Self> {
        let members = processes.members(pid);
        // The pid may have been reused; the start time shows that.
        members.first().filter(|leader| leader.start_ticks == start_ticks)?;
        // With that of children that have ended: a counter never goes back.
        let ticks = members.iter().map(|stat| stat.cpu_ticks + stat.reaped_cpu_ticks).sum();
        let resident_bytes = members.iter().map(|stat| stat.resident_bytes()).sum();
        Some(Self { resident_bytes, cpu_seconds: ticks_as_seconds(ticks) })
    }
}

impl<'a> ServerReading<'a> {
    pub(crate) fn read(id: &'a ServerId, record: &'a ServerRecord, lane: &OutputLane, processes: &ProcessTree) -> Self {
        let process = record.process.as_ref();
        let used = process.and_then(|process| ProcessUse::of(process.pid, process.start_ticks, processes));
        let prints_requests = lane.requests().prints(id);
        Self {
            id: id.as_str(),
            record,
            requests: requests_of(lane.requests(), id, prints_requests),
            prints_requests,
            was_launched: record.counters.launches > 0 || process.is_some(),
            used,
            output: StreamName::ALL.map(|stream| (stream, lane.counters(id, stream))),
            ready_exemplar: None,
        }
    }
}

/// The families about servers, each written for all servers at once: so one buffer is filled from its beginning to its end.
pub(crate) struct ServerFamilies<'a> {
    pub(crate) page: &'a mut Page,
    pub(crate) servers: &'a [ServerReading<'a>],
}

impl ServerFamilies<'_> {
    /// Writes a family whose series are made by hand.
    pub(crate) fn each(&mut self, family: &Family, series: impl Fn(&mut SeriesWriter<'_>, &ServerReading<'_>)) {
        let mut writer = self.page.family(family);
        self.servers.iter().for_each(|server| series(&mut writer, server));
    }

    /// Writes a family with one series for each server that has a value.
    pub(crate) fn value(&mut self, family: &Family, value: impl Fn(&ServerReading<'_>) -> Option<f64>) {
        self.each(family, |writer, server| {
            if let Some(value) = value(server) {
                writer.value(&[server.id], value);
            }
        });
    }

    /// Writes a family with one series for each server that was launched.
    pub(crate) fn of_launched(&mut self, family: &Family, value: impl Fn(&ServerReading<'_>) -> f64) {
        self.value(family, |server| server.was_launched.then(|| value(server)));
    }

    /// Writes a histogram; a server for which nothing was observed has no series.
    pub(crate) fn histogram(
        &mut self,
        family: &Family,
        histogram: impl for<'s> Fn(&'s ServerReading<'_>) -> Option<&'s Histogram>,
    ) {
        self.each(family, |writer, server| {
            if let Some(histogram) = histogram(server) {
                writer.histogram(&[server.id], histogram, None);
            }
        });
    }

    /// Writes a family with one series for each key that was counted.
    pub(crate) fn tally<K: Copy + Ord + ToString>(&mut self, family: &Family, tally: impl Fn(&Counters) -> &Tally<K>) {
        self.tally_from(family, None, tally);
    }

    /// The same; a server that was launched has the key `from` from then on, so that the sum of its series exists.
    pub(crate) fn tally_from<K: Copy + Ord + ToString>(
        &mut self,
        family: &Family,
        from: Option<K>,
        tally: impl Fn(&Counters) -> &Tally<K>,
    ) {
        self.each(family, |writer, server| {
            let tally = tally(&server.record.counters);
            let absent = from.filter(|key| server.was_launched && tally.of(*key) == 0);
            for key in absent.into_iter().chain(tally.keys()) {
                writer.value(&[server.id, &key.to_string()], tally.of(key) as f64);
            }
        });
    }
}

/// The requests of a server: all zeros before the first one, if it prints them.
fn requests_of(log: &RequestLog, server: &ServerId, prints: bool) -> Option<RequestRecord> {
    log.read(server, Clone::clone).or_else(|| prints.then(RequestRecord::default))
}
