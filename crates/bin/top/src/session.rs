//! Reads keys, follows the daemon, and does what was asked for, until a key or a signal ends it.

use std::io;
use std::time::Duration;

use crossterm::event::{Event, EventStream, KeyEventKind};
use futures_util::StreamExt as _;
use llama_warden_api_types::{EventRecord, LogRecord, StatusReport};
use llama_warden_client::{Client, ClientError, CommandOptions, EventRange, LogOptions, Records, ServerAction};
use llama_warden_connect::{self as connect, GlobalArgs, ServerSelector, keep_named, retain_named};
use llama_warden_events::ServerId;
use llama_warden_exit::{CommandFailure, CommandResult, Exit};
use llama_warden_terminal::interruption::interruption;
use llama_warden_terminal::output::write_failure;
use tokio::time::{Instant, sleep_until};

use crate::screen::WholeScreen;
use crate::state::{Request, TopState};
use crate::view;

/// Shortest time between two reports: of 50 changes in a second, the eye sees few.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(250);

/// Longest time between two reports. No event says that time passes, or how many requests run.
const LONGEST_INTERVAL: Duration = Duration::from_secs(2);

/// Lines of a log from before the server was chosen.
const LINES_BEFORE: usize = 200;

pub(crate) async fn run(global: &GlobalArgs, ids: &[ServerSelector]) -> CommandResult {
    let client = connect::to_daemon(global).await?;
    let report = keep_named(client.status().await.map_err(connect::request_failure)?, ids)?;
    let mut session = Session::begin(client, ids, report)?;
    // The screen is given back before anything is printed.
    tokio::select! {
        ended = session.follow() => ended.map(|()| Exit::Done).map_err(write_failure),
        signal = interruption() => Ok(Exit::Signaled(signal)),
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
    /// The answers to commands that are under way.
    answers: tokio::task::JoinSet<String>,
}

/// What woke the session.
enum Woken {
    Key(io::Result<Event>),
    /// The terminal is gone.
    NoKeys,
    Change(Result<Option<EventRecord>, ClientError>),
    Line(Result<Option<LogRecord>, ClientError>),
    Answer(String),
    Due,
}

impl<'a> Session<'a> {
    fn begin(client: Client, ids: &'a [ServerSelector], report: StatusReport) -> Result<Self, CommandFailure> {
        let screen = WholeScreen::take().map_err(write_failure)?;
        let now = Instant::now();
        let (changes, log, answers) = Default::default();
        let state = TopState::new(report);
        Ok(Self { client, ids, screen, keys: EventStream::new(), state, changes, log, due: now, fetched: now, answers })
    }

    async fn follow(&mut self) -> io::Result<()> {
        if let Some(server) = self.state.chosen().cloned() {
            self.show_log(&server).await;
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
                    self.due = self.due.min((self.fetched + SHORTEST_INTERVAL).max(Instant::now()));
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
                Woken::Answer(text) => {
                    self.state.message = text;
                    None
                }
                Woken::Due => self.fetch().await,
            };
            match request {
                Some(Request::Quit) => return Ok(()),
                Some(Request::Command(action, server)) => self.command(action, server),
                Some(Request::ShowLog(server)) => self.show_log(&server).await,
                None => {}
            }
        }
    }

    async fn wait(&mut self) -> Woken {
        tokio::select! {
            // Keys before everything else: a server that logs without end must not keep the user from leaving.
            biased;
            key = self.keys.next() => key.map_or(Woken::NoKeys, Woken::Key),
            Some(answer) = self.answers.join_next() => Woken::Answer(answer.unwrap_or_else(|error| error.to_string())),
            () = sleep_until(self.due) => Woken::Due,
            change = next(&mut self.changes) => Woken::Change(change),
            record = next(&mut self.log) => Woken::Line(record),
        }
    }

    /// Asks for the next report, and for what broke since the last one.
    async fn fetch(&mut self) -> Option<Request> {
        let report = self.client.status().await;
        self.fetched = Instant::now();
        self.due = self.fetched + LONGEST_INTERVAL;
        let mut report = match report {
            Ok(report) => report,
            Err(error) => {
                (self.changes, self.log) = (None, None);
                self.state.message = format!("no daemon answers: {error}");
                return None;
            }
        };
        let is_back = self.changes.is_none();
        if is_back {
            self.changes = self.client.events(EventRange::After(report.seq.into())).await.ok();
            self.state.message.clear();
        }
        // Servers that are named and no longer configured leave the others.
        retain_named(&mut report, self.ids);
        let request = self.state.update(report);
        if request.is_none() && self.log.is_none() && is_back {
            return self.state.chosen().cloned().map(Request::ShowLog);
        }
        request
    }

    async fn show_log(&mut self, server: &ServerId) {
        self.state.log = Default::default();
        let options = LogOptions { tail: Some(LINES_BEFORE), follow: true, stream: None };
        self.log = self.client.logs(server, options).await.ok();
    }

    fn command(&mut self, action: ServerAction, server: ServerId) {
        self.state.message = format!("{} {server} …", action.as_str());
        let client = self.client.clone();
        self.answers.spawn(async move {
            match client.command(action, &server, CommandOptions::default()).await {
                Ok(_) => format!("{} {server}: accepted", action.as_str()),
                Err(error) => format!("{} {server}: {error}", action.as_str()),
            }
        });
    }
}

/// The next record; for ever without a stream. Safe to cancel.
async fn next<T: for<'de> serde::Deserialize<'de>>(records: &mut Option<Records<T>>) -> Result<Option<T>, ClientError> {
    match records {
        Some(records) => records.next().await,
        None => std::future::pending().await,
    }
}
