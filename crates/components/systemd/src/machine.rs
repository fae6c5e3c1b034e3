//! Decides what systemd is told, and when.
//!
//! Invariants:
//!
//! * `READY=1` is sent once at the start and once after each reload, and never after `STOPPING=1`.
//! * A status is sent at most once per [`STATUS_INTERVAL`], and only if it differs from the one before.

use std::time::Duration;

use llama_warden_events::{CommandSummary, Event, Uptime};
use llama_warden_state::DaemonPhase;

use crate::notice::Notice;

/// Shortest time between two statuses. A start of many servers changes it with each of their events.
pub(crate) const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// How far systemd has been told about the daemon's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Ready,
    Reloading,
    Stopping,
}

/// What systemd knows.
#[derive(Debug)]
pub(crate) struct SystemdMachine {
    told: Told,
    /// Longest time that a stop may take.
    stop_limit: Duration,
    /// Time between two signs of life, and when the next one is due.
    sign_of_life: Option<(Duration, Uptime)>,
    status: String,
    status_sent: Option<Uptime>,
    status_due: Option<Uptime>,
}

impl SystemdMachine {
    /// Half of `watchdog` passes between two signs of life, as sd_watchdog_enabled(3) recommends.
    pub(crate) fn new(stop_limit: Duration, watchdog: Option<Duration>, now: Uptime) -> Self {
        Self {
            told: Told::Nothing,
            stop_limit,
            sign_of_life: watchdog.map(|period| (period / 2, now)),
            status: String::new(),
            status_sent: None,
            status_due: None,
        }
    }

    /// An event happened.
    pub(crate) fn on_event(&mut self, event: &Event, now: Uptime) -> Vec<Notice> {
        self.renew_status(now);
        match event {
            Event::DaemonStarted { .. } => self.on_phase(DaemonPhase::Running, now),
            Event::DaemonStopping { .. } | Event::DaemonHandingOver { .. } => self.on_phase(DaemonPhase::Stopping, now),
            Event::CommandAccepted { command: CommandSummary::Reload, .. } => self.begin_reload(),
            Event::ConfigurationReloaded { .. } => self.end_reload(),
            // A configuration that is refused was read, so systemd waits for both messages.
            Event::ConfigurationRefused { .. } => {
                let mut notices = self.begin_reload();
                notices.extend(self.end_reload());
                notices
            }
            _ => Vec::new(),
        }
    }

    /// The daemon is in this phase. Events may have been missed.
    pub(crate) fn on_phase(&mut self, phase: DaemonPhase, now: Uptime) -> Vec<Notice> {
        self.renew_status(now);
        match (phase, self.told) {
            (DaemonPhase::Running, Told::Nothing | Told::Reloading) => {
                self.told = Told::Ready;
                vec![Notice::Ready]
            }
            (DaemonPhase::Stopping | DaemonPhase::Stopped, Told::Nothing | Told::Ready | Told::Reloading) => {
                self.told = Told::Stopping;
                vec![Notice::Stopping { within: self.stop_limit }]
            }
            _ => Vec::new(),
        }
    }

    fn begin_reload(&mut self) -> Vec<Notice> {
        if self.told != Told::Ready {
            return Vec::new();
        }
        self.told = Told::Reloading;
        vec![Notice::Reloading]
    }

    fn end_reload(&mut self) -> Vec<Notice> {
        if self.told != Told::Reloading {
            return Vec::new();
        }
        self.told = Told::Ready;
        vec![Notice::Ready]
    }

    fn renew_status(&mut self, now: Uptime) {
        let earliest = self.status_sent.map_or(now, |sent| sent + STATUS_INTERVAL);
        self.status_due.get_or_insert(earliest.max(now));
    }

    pub(crate) fn next_deadline(&self) -> Option<Uptime> {
        let alive = self.sign_of_life.map(|(_, due)| due);
        self.status_due.into_iter().chain(alive).min()
    }

    /// A deadline has come; `status` is what the daemon does now.
    pub(crate) fn on_deadline(&mut self, now: Uptime, status: impl FnOnce() -> String) -> Vec<Notice> {
        let mut notices = Vec::new();
        if let Some((interval, due)) = &mut self.sign_of_life
            && *due <= now
        {
            *due = now + *interval;
            notices.push(Notice::Alive);
        }
        if self.status_due.is_some_and(|due| due <= now) {
            self.status_due = None;
            let status = status();
            if status != self.status {
                self.status.clone_from(&status);
                self.status_sent = Some(now);
                notices.push(Notice::Status(status));
            }
        }
        notices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOP_LIMIT: Duration = Duration::from_secs(40);

    fn at(seconds: u64) -> Uptime {
        Uptime::new(Duration::from_secs(seconds))
    }

    fn machine() -> SystemdMachine {
        SystemdMachine::new(STOP_LIMIT, None, at(0))
    }

    fn reload() -> Event {
        Event::CommandAccepted { command: CommandSummary::Reload, trace: None }
    }

    fn reloaded() -> Event {
        Event::ConfigurationReloaded { trigger: "HUP".to_owned() }
    }

    fn refused() -> Event {
        Event::ConfigurationRefused { trigger: "HUP".to_owned(), detail: "no TOML".to_owned() }
    }

    fn stopping() -> Event {
        Event::DaemonStopping { trigger: "TERM".to_owned() }
    }

    #[test]
    fn readiness_is_told_once() {
        let mut machine = machine();
        assert_eq!(machine.on_phase(DaemonPhase::Starting, at(0)), []);
        assert_eq!(machine.on_phase(DaemonPhase::Running, at(0)), [Notice::Ready]);
        assert_eq!(machine.on_phase(DaemonPhase::Running, at(1)), []);
    }

    #[test]
    fn a_reload_is_told_with_its_end_whether_it_is_applied_or_refused() {
        let mut machine = machine();
        machine.on_phase(DaemonPhase::Running, at(0));
        assert_eq!(machine.on_event(&reload(), at(1)), [Notice::Reloading]);
        assert_eq!(machine.on_event(&reloaded(), at(1)), [Notice::Ready]);
        assert_eq!(machine.on_event(&refused(), at(2)), [Notice::Reloading, Notice::Ready]);
    }

    #[test]
    fn a_stop_is_told_once_with_its_limit_and_nothing_is_ready_after_it() {
        let mut machine = machine();
        machine.on_phase(DaemonPhase::Running, at(0));
        assert_eq!(machine.on_event(&stopping(), at(1)), [Notice::Stopping { within: STOP_LIMIT }]);
        assert_eq!(machine.on_phase(DaemonPhase::Stopped, at(2)), []);
        assert_eq!(machine.on_event(&refused(), at(3)), []);
    }

    #[test]
    fn missed_events_are_made_up_for_by_the_phase() {
        let mut machine = machine();
        assert_eq!(machine.on_phase(DaemonPhase::Stopping, at(1)), [Notice::Stopping { within: STOP_LIMIT }]);
        let mut machine = self::machine();
        machine.on_phase(DaemonPhase::Running, at(0));
        machine.on_event(&reload(), at(1));
        assert_eq!(machine.on_phase(DaemonPhase::Running, at(2)), [Notice::Ready], "the end of the reload was missed");
    }

    #[test]
    fn a_status_comes_at_once_then_once_a_second_and_only_if_it_is_new() {
        let mut machine = machine();
        let status = |text: &'static str| move || text.to_owned();
        machine.on_event(&reloaded(), at(5));
        assert_eq!(machine.next_deadline(), Some(at(5)));
        assert_eq!(machine.on_deadline(at(5), status("a")), [Notice::Status("a".to_owned())]);
        machine.on_event(&reloaded(), at(5));
        machine.on_event(&reloaded(), at(5));
        assert_eq!(machine.next_deadline(), Some(at(6)));
        assert_eq!(machine.on_deadline(at(6), status("a")), []);
        assert_eq!(machine.next_deadline(), None, "a daemon at rest is not woken");
    }

    #[test]
    fn signs_of_life_come_at_half_the_period() {
        let mut machine = SystemdMachine::new(STOP_LIMIT, Some(Duration::from_secs(10)), at(0));
        for due in [0, 5, 10] {
            assert_eq!(machine.next_deadline(), Some(at(due)));
            assert_eq!(machine.on_deadline(at(due), String::new), [Notice::Alive]);
        }
    }
}
