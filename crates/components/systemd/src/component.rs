//! The component: follows the daemon, and sends what its machine decides.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use llama_warden_bus::{Bus, BusClosed, Delivery};
use llama_warden_component::{Component, Context, Ports, Worker};
use llama_warden_events::{NoCommand, Uptime};
use llama_warden_state::Snapshot;
use nix::time::{ClockId, clock_gettime};

use crate::environment::SystemdEnvironment;
use crate::machine::SystemdMachine;
use crate::notice::Notice;
use crate::socket::NotifySocket;
use crate::summary::summary;

/// The name under which a stored TCP socket comes back.
const STORED_NAME: &str = "http";

/// Time after which a message is sent again that systemd had no room for.
const RETRY: Duration = Duration::from_millis(100);

/// Most messages that wait for systemd. If more do, it has not read for several reloads, and the oldest says nothing any more.
const UNSENT: usize = 16;

/// What the end of the daemon may take beside the stop of its servers: its components and the last spans.
const STOP_MARGIN: Duration = Duration::from_secs(10);

/// Tells systemd about the daemon.
#[derive(Debug)]
pub struct Systemd {
    environment: SystemdEnvironment,
    bus: Bus,
    /// Longest time that the daemon's stop may take.
    stop_limit: Duration,
    stored: Option<OwnedFd>,
}

impl Systemd {
    /// Talks to the systemd of `environment`, and gives it `stored`, a copy of a listening socket, to keep for the daemon's next start.
    pub fn build(context: &Context, environment: SystemdEnvironment, stored: Option<OwnedFd>) -> Self {
        let stop_limit = context.config().daemon().shutdown_deadline + STOP_MARGIN;
        Self { environment, bus: context.bus().clone(), stop_limit, stored }
    }
}

impl Component for Systemd {
    const NAME: &'static str = "systemd";
    type Command = NoCommand;
    type Error = BusClosed;

    async fn run(self, ports: Ports<NoCommand>) -> Result<(), BusClosed> {
        let Self { environment: SystemdEnvironment { socket, watchdog }, bus, stop_limit, stored } = self;
        let machine = SystemdMachine::new(stop_limit, watchdog, ports.clock.now());
        ports.drive(SystemdWorker { machine, socket, bus, stored, unsent: VecDeque::new(), retry: None }).await
    }
}

struct SystemdWorker {
    machine: SystemdMachine,
    socket: NotifySocket,
    bus: Bus,
    stored: Option<OwnedFd>,
    /// Messages about the daemon's life that systemd had no room for, in order: at most [`UNSENT`].
    unsent: VecDeque<Notice>,
    /// When they are sent again.
    retry: Option<Uptime>,
}

impl Worker for SystemdWorker {
    type Command = NoCommand;
    type Error = BusClosed;
    type Input = ();

    async fn on_start(&mut self, snapshot: &Snapshot, now: Uptime) -> Result<(), BusClosed> {
        if let Some(stored) = self.stored.take()
            && let Err(error) = self.send(&Notice::Store { name: STORED_NAME }, &[stored.as_fd()])
        {
            tracing::warn!(%error, "systemd does not keep the listening socket; a restart refuses connections for a moment");
        }
        let notices = self.machine.on_phase(snapshot.daemon.phase, now);
        self.send_all(notices, now);
        Ok(())
    }

    async fn on_event(&mut self, delivery: Delivery, now: Uptime) -> Result<(), BusClosed> {
        let notices = match delivery {
            Delivery::Event(envelope) => self.machine.on_event(&envelope.event, now),
            Delivery::Gap { snapshot, .. } => self.machine.on_phase(snapshot.daemon.phase, now),
        };
        self.send_all(notices, now);
        Ok(())
    }

    fn next_deadline(&self) -> Option<Uptime> {
        self.machine.next_deadline().into_iter().chain(self.retry).min()
    }

    async fn on_deadline(&mut self, now: Uptime) -> Result<(), BusClosed> {
        let bus = &self.bus;
        let notices = self.machine.on_deadline(now, || summary(&bus.snapshot()));
        self.send_all(notices, now);
        Ok(())
    }
}

impl SystemdWorker {
    /// Sends what could not be sent before, then `notices`.
    fn send_all(&mut self, notices: Vec<Notice>, now: Uptime) {
        self.unsent.extend(notices);
        self.retry = None;
        while let Some(notice) = self.unsent.front() {
            match self.send(notice, &[]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // A later status or sign of life replaces this one; what remains must arrive.
                    self.unsent.retain(|notice| !matches!(notice, Notice::Status(_) | Notice::Alive));
                    self.unsent.drain(..self.unsent.len().saturating_sub(UNSENT));
                    self.retry = (!self.unsent.is_empty()).then(|| now + RETRY);
                    return;
                }
                // Nobody listens. No server depends on it.
                Err(error) => tracing::warn!(?notice, %error, "systemd was not told"),
                Ok(()) => {}
            }
            self.unsent.pop_front();
        }
    }

    fn send(&self, notice: &Notice, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        // The clock cannot fail: every Linux has it.
        let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        self.socket.send(&notice.fields(monotonic), descriptors)
    }
}
