//! Reads keys, follows the daemon, and does what was asked for, until a key or a signal ends it.

use std::io;
use std::time::Duration;

use crossterm::event::{Event, EventStream, KeyEventKind};
use futures_util::StreamExt as _;
use llama_warden_api_types::{AllStatusReport, EventRecord, LogRecord, MachineMemory, PeerReport, StatusReport};
use llama_warden_client::{Client, ClientError, CommandOptions, EventRange, LogOptions, Records, ServerAction};
use llama_warden_connect::{
    self as connect, GlobalArgs, ServerSelector, keep_named_of_all, retain_named, retain_named_of_peers,
};
use llama_warden_events::ServerId;
use llama_warden_exit::{CommandFailure, CommandResult, Exit};
use llama_warden_terminal::interruption::interruption;
use llama_warden_terminal::output::write_failure;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::screen::WholeScreen;
use crate::state::{Request, TopState};
use crate::view;

/// Shortest time between two reports: nobody can follow 50 changes in a second.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(250);

/// Longest time between two reports: ages, running requests and the servers of peers change without an event.
const LONGEST_INTERVAL: Duration = Duration::from_secs(2);

/// Time between two readings of the memory that servers hold, for which the daemon reads all processes.
const MEMORY_INTERVAL: Duration = Duration::from_secs(5);

/// What is said while no daemon answers.
const NO_DAEMON: &str = "no daemon answers";

/// Lines of a log from before the server was chosen.
const LINES_BEFORE: usize = 200;

pub(crate) async fn run(global: &GlobalArgs, ids: &[ServerSelector], all: bool) -> CommandResult {
    let client = connect::to_daemon(global).await?;
    let report = match all {
        true => client.status_of_all().await,
        false => client.status().await.map(|own| AllStatusReport { own, peers: Vec::new() }),
    };
    let report = keep_named_of_all(report.map_err(connect::request_failure)?, ids)?;
    let interrupted = interruption();
    let mut session = Session::begin(client, ids, all, report)?;
    // The screen is given back before anything is printed.
    tokio::select! {
        ended = session.follow() => ended.map(|()| Exit::Done).map_err(write_failure),
        signal = interrupted => Ok(Exit::Signaled(signal)),
    }
}

struct Session<'a> {
    client: Client,
    ids: &'a [ServerSelector],
    screen: WholeScreen,
    keys: EventStream,
    state: TopState,
    /// The changes after the report; `None` while no daemon answers.
    changes: Option<Records<EventRecord>>,
    log: Option<Records<LogRecord>>,
    /// When the next report is due.
    due: Instant,
    fetched: Instant,
    /// Whether a report is under way.
    is_asking: bool,
    /// Whether an event came after the latest report was requested, so that the report may not show it.
    has_changed: bool,
    /// When the peers are asked again; `None` while they are asked, and if they are not shown.
    peers_due: Option<Instant>,
    /// When the memory is read again; `None` while it is read.
    memory_due: Option<Instant>,
    /// The questions that are under way. Keys are answered meanwhile, also where a daemon hangs.
    answers: JoinSet<DaemonAnswer>,
}

/// What woke the session.
enum Woken {
    Key(io::Result<Event>),
    /// The terminal is gone.
    NoKeys,
    Change(Result<Option<EventRecord>, ClientError>),
    Line(Result<Option<LogRecord>, ClientError>),
    Answer(DaemonAnswer),
    Due,
    PeersDue,
    MemoryDue,
}

/// What a question to the daemon led to.
enum DaemonAnswer {
    /// The report, and the changes after it if they were asked for.
    Report(Result<(Box<StatusReport>, Option<Records<EventRecord>>), ClientError>),
    Peers(Result<Vec<PeerReport>, ClientError>),
    Memory(Result<MachineMemory, ClientError>),
    Log(ServerId, Result<Records<LogRecord>, ClientError>),
    /// What became of a command.
    Told(String),
}

impl<'a> Session<'a> {
    fn begin(
        client: Client,
        ids: &'a [ServerSelector],
        all: bool,
        report: AllStatusReport,
    ) -> Result<Self, CommandFailure> {
        let has_peers = !report.peers.is_empty();
        let mut state = TopState::new(report);
        if all && !has_peers {
            state.message = "no peers: this daemon's configuration has no [peers.NAME]".to_owned();
        }
        let screen = WholeScreen::take().map_err(write_failure)?;
        let now = Instant::now();
        let (changes, log, is_asking, has_changed, answers) = Default::default();
        let (keys, peers_due) = (EventStream::new(), all.then_some(now + LONGEST_INTERVAL));
        Ok(Self {
            client,
            ids,
            screen,
            keys,
            state,
            changes,
            log,
            due: now,
            fetched: now,
            is_asking,
            has_changed,
            peers_due,
            memory_due: Some(now),
            answers,
        })
    }

    async fn follow(&mut self) -> io::Result<()> {
        if let Some(server) = self.state.own_chosen().cloned() {
            self.ask_log(server);
        }
        loop {
            self.screen.terminal.draw(|frame| view::draw(frame, &self.state, jiff::Timestamp::now()))?;
            let request = match self.wait().await {
                Woken::Key(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => {
                    self.state.message.clear();
                    self.state.press(key)
                }
                // A new size is drawn, and nothing else of a terminal matters.
                Woken::Key(Ok(_)) => None,
                Woken::Key(Err(error)) => return Err(error),
                Woken::NoKeys => return Ok(()),
                Woken::Change(Ok(Some(_))) => {
                    self.has_changed = true;
                    self.due = self.next_report();
                    None
                }
                Woken::Change(_) => {
                    self.changes = None;
                    None
                }
                Woken::Line(Ok(Some(record))) => {
                    self.state.log.push(record);
                    None
                }
                Woken::Line(_) => {
                    self.log = None;
                    None
                }
                Woken::Answer(answer) => self.take(answer),
                Woken::Due => {
                    self.ask_report();
                    None
                }
                Woken::PeersDue => {
                    self.ask_peers();
                    None
                }
                Woken::MemoryDue => {
                    self.ask_memory();
                    None
                }
            };
            match request {
                Some(Request::Quit) => return Ok(()),
                Some(Request::Command(action, server)) => self.command(action, server),
                Some(Request::ShowLog(server)) => self.ask_log(server),
                Some(Request::CloseLog) => self.log = None,
                None => {}
            }
        }
    }

    async fn wait(&mut self) -> Woken {
        tokio::select! {
            // Keys before everything else: a server that logs without end must not keep the user from leaving.
            biased;
            key = self.keys.next() => key.map_or(Woken::NoKeys, Woken::Key),
            Some(answer) = self.answers.join_next() => {
                Woken::Answer(answer.unwrap_or_else(|error| DaemonAnswer::Told(error.to_string())))
            }
            () = sleep_until(self.due) => Woken::Due,
            () = reached(self.peers_due) => Woken::PeersDue,
            () = reached(self.memory_due) => Woken::MemoryDue,
            change = next(&mut self.changes) => Woken::Change(change),
            record = next(&mut self.log) => Woken::Line(record),
        }
    }

    /// Asks for the next report, and for what broke since the last one.
    fn ask_report(&mut self) {
        if std::mem::replace(&mut self.is_asking, true) {
            self.due = Instant::now() + LONGEST_INTERVAL;
            return;
        }
        self.has_changed = false;
        let (client, is_back) = (self.client.clone(), self.changes.is_none());
        self.answers.spawn(async move {
            let report = client.status().await;
            DaemonAnswer::Report(match report {
                Ok(report) if is_back => {
                    let changes = client.events(EventRange::After(report.seq.into())).await.ok();
                    Ok((Box::new(report), changes))
                }
                report => report.map(|report| (Box::new(report), None)),
            })
        });
    }

    fn ask_peers(&mut self) {
        self.peers_due = None;
        let client = self.client.clone();
        self.answers.spawn(async move { DaemonAnswer::Peers(client.peers().await) });
    }

    fn ask_memory(&mut self) {
        self.memory_due = None;
        let client = self.client.clone();
        self.answers.spawn(async move { DaemonAnswer::Memory(client.memory().await) });
    }

    /// Asks for the log of a server, in place of the one that is shown.
    fn ask_log(&mut self, server: ServerId) {
        self.log = None;
        let client = self.client.clone();
        self.answers.spawn(async move {
            let options = LogOptions { tail: Some(LINES_BEFORE), follow: true, ..LogOptions::default() };
            let log = client.logs(&server, options).await;
            DaemonAnswer::Log(server, log)
        });
    }

    fn command(&mut self, action: ServerAction, server: ServerId) {
        self.state.message = format!("{} {server} …", action.as_str());
        let client = self.client.clone();
        self.answers.spawn(async move {
            let answer = client.command(action, &server, CommandOptions::default()).await;
            let text = answer.map_or_else(|error| error.to_string(), |_| "accepted".to_owned());
            DaemonAnswer::Told(format!("{} {server}: {text}", action.as_str()))
        });
    }

    /// Shows what a question led to.
    fn take(&mut self, answer: DaemonAnswer) -> Option<Request> {
        match answer {
            DaemonAnswer::Report(Ok((report, changes))) => self.take_report(*report, changes),
            DaemonAnswer::Report(Err(error)) => {
                self.has_asked();
                (self.changes, self.log) = (None, None);
                self.state.message = format!("{NO_DAEMON}: {error}");
                None
            }
            DaemonAnswer::Peers(peers) => {
                self.peers_due = Some(Instant::now() + LONGEST_INTERVAL);
                let mut peers = peers.ok()?;
                retain_named_of_peers(&mut peers, self.ids);
                self.state.update_peers(peers)
            }
            DaemonAnswer::Memory(memory) => {
                self.memory_due = Some(Instant::now() + MEMORY_INTERVAL);
                self.state.update_held(memory.map(|memory| memory.servers).unwrap_or_default());
                None
            }
            // Another one may be chosen by now.
            DaemonAnswer::Log(server, log) if self.state.own_chosen() == Some(&server) => {
                self.state.log = Default::default();
                self.log = log.ok();
                None
            }
            DaemonAnswer::Log(..) => None,
            DaemonAnswer::Told(text) => {
                self.state.message = text;
                None
            }
        }
    }

    fn take_report(&mut self, mut report: StatusReport, changes: Option<Records<EventRecord>>) -> Option<Request> {
        self.has_asked();
        // Servers that are named and no longer configured leave the others.
        retain_named(&mut report, self.ids);
        let request = self.state.update(report);
        let Some(changes) = changes else { return request };
        // It is there, for the first time or again.
        self.changes = Some(changes);
        if self.state.message.starts_with(NO_DAEMON) {
            self.state.message.clear();
        }
        let again = || self.state.own_chosen().filter(|_| self.log.is_none()).cloned().map(Request::ShowLog);
        request.or_else(again)
    }

    fn has_asked(&mut self) {
        self.is_asking = false;
        self.fetched = Instant::now();
        self.due = self.next_report();
    }

    /// When the next report is due. One that is under way is awaited first.
    fn next_report(&self) -> Instant {
        self.fetched + if self.has_changed && !self.is_asking { SHORTEST_INTERVAL } else { LONGEST_INTERVAL }
    }
}

/// Waits until a time; for ever without one. Safe to cancel.
async fn reached(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The next record; for ever without a stream. Safe to cancel.
async fn next<T: for<'de> serde::Deserialize<'de>>(records: &mut Option<Records<T>>) -> Result<Option<T>, ClientError> {
    match records {
        Some(records) => records.next().await,
        None => std::future::pending().await,
    }
}
