//! Decides which commands make sense: one launch per server at a time, and nothing for a launch that is over.

use std::collections::BTreeMap;

use llama_warden_events::{Incarnation, RefusalReason, Refused, ServerId};

/// The latest launch of every server.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    launches: BTreeMap<ServerId, Latest>,
    is_draining: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Latest {
    incarnation: Incarnation,
    is_over: bool,
}

impl Machine {
    /// A launch was asked for. Taken, it counts as begun.
    pub(crate) fn on_launch(&mut self, server: &ServerId, incarnation: Incarnation) -> Result<(), Refused> {
        if self.is_draining {
            return Err(Refused::new(RefusalReason::ShuttingDown, "nothing is launched any more"));
        }
        match self.launches.get(server) {
            Some(Latest { incarnation: latest, is_over: false }) => {
                let detail = format!("incarnation {latest} of {server} is not over");
                return Err(Refused::new(RefusalReason::WrongPhase, detail));
            }
            Some(Latest { incarnation: latest, .. }) if incarnation <= *latest => {
                let detail = format!("incarnation {latest} of {server} has been launched already");
                return Err(Refused::new(RefusalReason::StaleIncarnation, detail));
            }
            _ => {}
        }
        self.launches.insert(server.clone(), Latest { incarnation, is_over: false });
        Ok(())
    }

    /// Something was asked of a launch.
    pub(crate) fn on_order(&self, server: &ServerId, incarnation: Incarnation) -> Result<(), Refused> {
        match self.launches.get(server) {
            Some(latest) if *latest == (Latest { incarnation, is_over: false }) => Ok(()),
            _ => {
                let detail = format!("incarnation {incarnation} of {server} is over, or never was");
                Err(Refused::new(RefusalReason::StaleIncarnation, detail))
            }
        }
    }

    /// A launch is over: its process is gone, or never was.
    pub(crate) fn on_over(&mut self, server: &ServerId, incarnation: Incarnation) {
        if let Some(latest) = self.launches.get_mut(server).filter(|latest| latest.incarnation == incarnation) {
            latest.is_over = true;
        }
    }

    /// From here on nothing is launched.
    pub(crate) fn on_drain(&mut self) {
        self.is_draining = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(id: &str) -> ServerId {
        ServerId::new(id).expect("valid")
    }

    fn reason(result: Result<(), Refused>) -> Option<RefusalReason> {
        result.err().map(|refused| refused.reason)
    }

    #[test]
    fn a_server_has_one_launch_at_a_time() {
        let mut machine = Machine::default();
        assert_eq!(reason(machine.on_launch(&server("a"), Incarnation::new(1))), None);
        assert_eq!(reason(machine.on_launch(&server("a"), Incarnation::new(2))), Some(RefusalReason::WrongPhase));
        assert_eq!(reason(machine.on_launch(&server("b"), Incarnation::new(1))), None);
        machine.on_over(&server("a"), Incarnation::new(1));
        assert_eq!(reason(machine.on_launch(&server("a"), Incarnation::new(1))), Some(RefusalReason::StaleIncarnation));
        assert_eq!(reason(machine.on_launch(&server("a"), Incarnation::new(2))), None);
    }

    #[test]
    fn orders_are_for_the_launch_that_is_not_over() {
        let mut machine = Machine::default();
        assert_eq!(reason(machine.on_order(&server("a"), Incarnation::new(1))), Some(RefusalReason::StaleIncarnation));
        machine.on_launch(&server("a"), Incarnation::new(2)).expect("taken");
        assert_eq!(reason(machine.on_order(&server("a"), Incarnation::new(1))), Some(RefusalReason::StaleIncarnation));
        assert_eq!(reason(machine.on_order(&server("a"), Incarnation::new(2))), None);
        machine.on_over(&server("a"), Incarnation::new(1));
        assert_eq!(
            reason(machine.on_order(&server("a"), Incarnation::new(2))),
            None,
            "a late word about an older launch"
        );
        machine.on_over(&server("a"), Incarnation::new(2));
        assert_eq!(reason(machine.on_order(&server("a"), Incarnation::new(2))), Some(RefusalReason::StaleIncarnation));
    }

    #[test]
    fn a_draining_launcher_still_delivers_signals_and_launches_nothing() {
        let mut machine = Machine::default();
        machine.on_launch(&server("a"), Incarnation::new(1)).expect("taken");
        machine.on_drain();
        assert_eq!(reason(machine.on_launch(&server("b"), Incarnation::new(1))), Some(RefusalReason::ShuttingDown));
        assert_eq!(reason(machine.on_order(&server("a"), Incarnation::new(1))), None);
    }
}
