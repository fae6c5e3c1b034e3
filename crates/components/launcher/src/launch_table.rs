//! The latest launch of every server, and the state of those that have not ended.
//!
//! Invariants: a server has at most one launch that has not ended; launch numbers of a server only grow.

use std::collections::BTreeMap;

use llama_warden_events::{Incarnation, RefusalReason, Refused, ServerId};

/// Maps servers to their latest launch. `L` is the state that is kept until a launch ends.
#[derive(Debug)]
pub(crate) struct LaunchTable<L> {
    latest: BTreeMap<ServerId, LatestLaunch<L>>,
    is_draining: bool,
}

#[derive(Debug)]
struct LatestLaunch<L> {
    incarnation: Incarnation,
    /// `None` once the launch has ended. Its number is kept, so that a late command does not start it again.
    state: Option<L>,
}

impl<L> Default for LaunchTable<L> {
    fn default() -> Self {
        Self { latest: BTreeMap::new(), is_draining: false }
    }
}

impl<L> LaunchTable<L> {
    /// Adds a launch with its state.
    ///
    /// # Errors
    /// If a launch of the server has not ended, if its number is not new, or after [`Self::drain`].
    pub(crate) fn begin(&mut self, server: &ServerId, incarnation: Incarnation, state: L) -> Result<(), Refused> {
        if self.is_draining {
            return Err(Refused::new(RefusalReason::ShuttingDown, "nothing is launched any more"));
        }
        if let Some(LatestLaunch { incarnation: latest, state }) = self.latest.get(server) {
            if state.is_some() {
                let detail = format!("launch {latest} of {server} has not ended");
                return Err(Refused::new(RefusalReason::WrongPhase, detail));
            }
            if incarnation <= *latest {
                let detail = format!("launch {latest} of {server} has begun already");
                return Err(Refused::new(RefusalReason::StaleIncarnation, detail));
            }
        }
        self.latest.insert(server.clone(), LatestLaunch { incarnation, state: Some(state) });
        Ok(())
    }

    /// The state of a launch that has not ended.
    pub(crate) fn find(&mut self, server: &ServerId, incarnation: Incarnation) -> Option<&mut L> {
        let launch = self.latest.get_mut(server).filter(|launch| launch.incarnation == incarnation)?;
        launch.state.as_mut()
    }

    /// The same for a command.
    ///
    /// # Errors
    /// If the launch has ended, or was never begun.
    pub(crate) fn require(&mut self, server: &ServerId, incarnation: Incarnation) -> Result<&mut L, Refused> {
        self.find(server, incarnation).ok_or_else(|| ended(server, incarnation))
    }

    /// Notes that a launch has ended. Does nothing for a launch that is not the latest.
    pub(crate) fn end(&mut self, server: &ServerId, incarnation: Incarnation) {
        if let Some(launch) = self.latest.get_mut(server).filter(|launch| launch.incarnation == incarnation) {
            launch.state = None;
        }
    }

    /// Refuses every launch from here on. Those that run still take orders.
    pub(crate) fn drain(&mut self) {
        self.is_draining = true;
    }

    /// The launches that have not ended.
    pub(crate) fn running(&self) -> impl Iterator<Item = (&ServerId, &L)> {
        self.latest.iter().filter_map(|(server, launch)| Some((server, launch.state.as_ref()?)))
    }
}

/// The refusal of an order for a launch that has ended.
pub(crate) fn ended(server: &ServerId, incarnation: Incarnation) -> Refused {
    let detail = format!("launch {incarnation} of {server} has ended, or never began");
    Refused::new(RefusalReason::StaleIncarnation, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(id: &str) -> ServerId {
        ServerId::new(id).expect("valid")
    }

    fn begin(table: &mut LaunchTable<()>, id: &str, number: u64) -> Option<RefusalReason> {
        table.begin(&server(id), Incarnation::new(number), ()).err().map(|refused| refused.reason)
    }

    fn require(table: &mut LaunchTable<()>, number: u64) -> Option<RefusalReason> {
        table.require(&server("a"), Incarnation::new(number)).err().map(|refused| refused.reason)
    }

    #[test]
    fn a_server_has_one_launch_at_a_time() {
        let mut table = LaunchTable::default();
        assert_eq!(begin(&mut table, "a", 1), None);
        assert_eq!(begin(&mut table, "a", 2), Some(RefusalReason::WrongPhase));
        assert_eq!(begin(&mut table, "b", 1), None);
        table.end(&server("a"), Incarnation::new(1));
        assert_eq!(begin(&mut table, "a", 1), Some(RefusalReason::StaleIncarnation));
        assert_eq!(begin(&mut table, "a", 2), None);
        assert_eq!(table.running().count(), 2);
    }

    #[test]
    fn orders_are_for_the_launch_that_has_not_ended() {
        let mut table = LaunchTable::default();
        assert_eq!(require(&mut table, 1), Some(RefusalReason::StaleIncarnation));
        assert_eq!(begin(&mut table, "a", 2), None);
        assert_eq!(require(&mut table, 1), Some(RefusalReason::StaleIncarnation));
        assert_eq!(require(&mut table, 2), None);
        table.end(&server("a"), Incarnation::new(1));
        assert_eq!(require(&mut table, 2), None, "an older launch ended");
        table.end(&server("a"), Incarnation::new(2));
        assert_eq!(require(&mut table, 2), Some(RefusalReason::StaleIncarnation));
        assert_eq!(table.running().count(), 0);
    }

    #[test]
    fn a_draining_launcher_still_delivers_signals_and_launches_nothing() {
        let mut table = LaunchTable::default();
        assert_eq!(begin(&mut table, "a", 1), None);
        table.drain();
        assert_eq!(begin(&mut table, "b", 1), Some(RefusalReason::ShuttingDown));
        assert_eq!(require(&mut table, 1), None);
    }
}
