//! What is shown, and what a key does to it. No terminal, no daemon, no clock.

use std::collections::{BTreeMap, VecDeque};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use llama_warden_api_types::{AllStatusReport, LogRecord, PeerReport, StatusReport};
use llama_warden_client::ServerAction;
use llama_warden_events::{Incarnation, ServerId};

use crate::row::TopRow;

/// Lines of one server's log that are kept.
const MOST_LINES: usize = 1000;

/// Rows by which a page key moves.
const PAGE: usize = 10;

/// Everything that is shown.
#[derive(Debug)]
pub(crate) struct TopState {
    report: AllStatusReport,
    /// Bytes that each running server of this daemon holds.
    pub(crate) held: BTreeMap<ServerId, u64>,
    /// The name of the chosen row. It stays chosen when the order changes.
    chosen: Option<String>,
    /// Only servers whose id, name or phase has this text are shown.
    pub(crate) filter: String,
    pub(crate) mode: Mode,
    /// Whether the log takes the whole screen but for its title.
    pub(crate) log_is_large: bool,
    pub(crate) log: ShownLog,
    /// The answer to the latest command, or why the daemon is not there.
    pub(crate) message: String,
}

/// The log of the chosen server. One of a peer has none here.
#[derive(Debug, Default)]
pub(crate) struct ShownLog {
    pub(crate) lines: VecDeque<String>,
    launch: Option<Incarnation>,
    /// Lines between the end and the last line that is shown; 0 follows.
    pub(crate) back: usize,
}

/// What keys mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They move and act.
    Browse,
    /// They are the text of the filter.
    Filter,
    /// `y` does it, every other key does not.
    Confirm(ServerAction, ServerId),
    /// Any key leaves the list of keys.
    Help,
}

/// What the session has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Quit,
    Command(ServerAction, ServerId),
    /// Another server is chosen: its log is shown.
    ShowLog(ServerId),
    /// Nothing is chosen that has a log here.
    CloseLog,
}

impl TopState {
    pub(crate) fn new(report: AllStatusReport) -> Self {
        let mut state = Self {
            report,
            held: BTreeMap::new(),
            chosen: None,
            filter: String::new(),
            mode: Mode::Browse,
            log_is_large: false,
            log: ShownLog::default(),
            message: String::new(),
        };
        state.keep_chosen();
        state
    }

    pub(crate) const fn report(&self) -> &AllStatusReport {
        &self.report
    }

    /// The chosen row.
    pub(crate) fn chosen(&self) -> Option<TopRow<'_>> {
        TopRow::all(&self.report).find(|row| self.is_chosen(row))
    }

    pub(crate) fn is_chosen(&self, row: &TopRow<'_>) -> bool {
        self.chosen.as_deref() == Some(&*row.name())
    }

    /// The chosen server, if it is one of this daemon.
    pub(crate) fn own_chosen(&self) -> Option<&ServerId> {
        self.chosen().and_then(|row| row.own())
    }

    /// What is shown: those in trouble first.
    pub(crate) fn rows(&self) -> Vec<TopRow<'_>> {
        let wanted = self.filter.to_lowercase();
        let mut rows: Vec<_> = TopRow::all(&self.report).filter(|row| row.has_text(&wanted)).collect();
        rows.sort_by(TopRow::by_trouble);
        rows
    }

    /// Shows another report. Returns what to do about the log, if another row is chosen now.
    pub(crate) fn update(&mut self, report: StatusReport) -> Option<Request> {
        self.report.own = report;
        self.keep_chosen()
    }

    /// The same for the peers.
    pub(crate) fn update_peers(&mut self, peers: Vec<PeerReport>) -> Option<Request> {
        self.report.peers = peers;
        self.keep_chosen()
    }

    /// The memory that servers hold now.
    pub(crate) fn update_held(&mut self, held: BTreeMap<ServerId, u64>) {
        self.held = held;
    }

    /// Chooses the first row if the chosen one is gone.
    fn keep_chosen(&mut self) -> Option<Request> {
        let first = {
            let rows = self.rows();
            if rows.iter().any(|row| self.is_chosen(row)) {
                return None;
            }
            rows.first().map(|row| row.name().into_owned())
        };
        self.choose(first)
    }

    fn choose(&mut self, row: Option<String>) -> Option<Request> {
        if self.chosen == row {
            return None;
        }
        self.chosen = row;
        self.log = ShownLog::default();
        Some(self.own_chosen().cloned().map_or(Request::CloseLog, Request::ShowLog))
    }

    /// What a key asks for.
    pub(crate) fn press(&mut self, key: KeyEvent) -> Option<Request> {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Some(Request::Quit);
        }
        match self.mode.clone() {
            Mode::Help => {
                self.mode = Mode::Browse;
                None
            }
            Mode::Confirm(action, server) => {
                self.mode = Mode::Browse;
                (key.code == KeyCode::Char('y')).then_some(Request::Command(action, server))
            }
            Mode::Filter => self.edit_filter(key.code),
            Mode::Browse => self.browse(key.code),
        }
    }

    fn edit_filter(&mut self, key: KeyCode) -> Option<Request> {
        match key {
            KeyCode::Enter => self.mode = Mode::Browse,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = Mode::Browse;
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(character) => self.filter.push(character),
            _ => {}
        }
        self.keep_chosen()
    }

    fn browse(&mut self, key: KeyCode) -> Option<Request> {
        match key {
            KeyCode::Char('q') => return Some(Request::Quit),
            KeyCode::Esc if self.log_is_large => self.log_is_large = false,
            KeyCode::Esc => {
                self.filter.clear();
                return self.keep_chosen();
            }
            KeyCode::Char('?') => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char('l') | KeyCode::Enter => self.log_is_large = !self.log_is_large,
            KeyCode::Char('s') => {
                return self.commanded(ServerAction::Start).map(|server| Request::Command(ServerAction::Start, server));
            }
            KeyCode::Char('x') => self.confirm(ServerAction::Stop),
            KeyCode::Char('r') => self.confirm(ServerAction::Restart),
            KeyCode::Char('j') | KeyCode::Down => return self.step(1, false),
            KeyCode::Char('k') | KeyCode::Up => return self.step(1, true),
            KeyCode::PageDown => return self.step(PAGE, false),
            KeyCode::PageUp => return self.step(PAGE, true),
            KeyCode::Home => return self.step(usize::MAX, true),
            KeyCode::End => return self.step(usize::MAX, false),
            _ => {}
        }
        None
    }

    fn confirm(&mut self, action: ServerAction) {
        if let Some(server) = self.commanded(action) {
            self.mode = Mode::Confirm(action, server);
        }
    }

    /// The server that a key acts on. Of a row of another machine, it is said where the command works.
    fn commanded(&mut self, action: ServerAction) -> Option<ServerId> {
        let (own, elsewhere) = {
            let row = self.chosen()?;
            (row.own().cloned(), row.elsewhere(action.as_str()))
        };
        self.message = elsewhere.unwrap_or_default();
        own
    }

    /// Moves in the table, or in a large log.
    fn step(&mut self, by: usize, up: bool) -> Option<Request> {
        if self.log_is_large {
            let back = if up { self.log.back.saturating_add(by) } else { self.log.back.saturating_sub(by) };
            self.log.back = back.min(self.log.lines.len().saturating_sub(1));
            return None;
        }
        let next = {
            let rows = self.rows();
            let at = rows.iter().position(|row| self.is_chosen(row)).unwrap_or_default();
            let next = if up { at.saturating_sub(by) } else { at.saturating_add(by).min(rows.len().saturating_sub(1)) };
            rows.get(next).map(|row| row.name().into_owned())
        };
        self.choose(next)
    }
}

impl ShownLog {
    /// Adds a record of a server's log.
    pub(crate) fn push(&mut self, record: LogRecord) {
        match record {
            LogRecord::Line { incarnation, line, .. } => {
                if self.launch.replace(incarnation).is_some_and(|before| before != incarnation) {
                    self.push_line(format!("--- launch {incarnation} ---"));
                }
                self.push_line(line);
            }
            LogRecord::Lost { stream, lost } => self.push_line(format!("[{lost} lines of {stream} were lost]")),
        }
    }

    fn push_line(&mut self, line: String) {
        if self.lines.len() == MOST_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
        // Who has gone back stays at the same line.
        if self.back > 0 {
            self.back = (self.back + 1).min(self.lines.len() - 1);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use llama_warden_api_types::{PeerProblem, PeerProblemReport, ServerReport};
    use llama_warden_component_kit::{card, server};
    use llama_warden_events::{BootId, StreamName, Timestamp, Uptime};
    use llama_warden_state::{PhaseName, ServerRecord, Snapshot};

    use super::*;

    pub(crate) fn state(servers: &[(&str, PhaseName)]) -> TopState {
        TopState::new(AllStatusReport { own: report(servers), peers: Vec::new() })
    }

    /// A peer with these servers; one that does not answer without them.
    pub(crate) fn peer(name: &str, servers: Option<&[(&str, PhaseName)]>) -> PeerReport {
        let problem = PeerProblemReport {
            reason: PeerProblem::TimedOut,
            detail: "no answer within 2 s".to_owned(),
            next_step: "see why".to_owned(),
            since: Timestamp::from_unix_microseconds(0),
        };
        PeerReport {
            name: name.to_owned(),
            url: format!("http://{name}:9888"),
            problem: servers.is_none().then_some(problem),
            answered_at: None,
            status: servers.map(report),
        }
    }

    fn report(servers: &[(&str, PhaseName)]) -> StatusReport {
        let servers = servers.iter().map(|(id, phase)| {
            let record = ServerRecord::new(card(&server(id)).into(), Uptime::default());
            ServerReport { phase: *phase, ..ServerReport::of(&server(id), &record, Uptime::default()) }
        });
        let nothing = StatusReport::of(&Snapshot::new(BootId::from_random(1)), Uptime::default());
        StatusReport { servers: servers.collect(), ..nothing }
    }

    fn press(state: &mut TopState, keys: &str) -> Option<Request> {
        keys.chars().fold(None, |_, key| {
            let code = match key {
                '\n' => KeyCode::Enter,
                '^' => KeyCode::Esc,
                '<' => KeyCode::Backspace,
                key => KeyCode::Char(key),
            };
            state.press(KeyEvent::new(code, KeyModifiers::NONE))
        })
    }

    fn ids(state: &TopState) -> Vec<String> {
        state.rows().into_iter().map(|row| row.name().into_owned()).collect()
    }

    #[test]
    fn those_in_trouble_come_first_and_the_chosen_one_stays_chosen() {
        use PhaseName::{Failed, Idle, Loading, Ready};
        let mut state = state(&[("a", Ready), ("b10", Failed), ("b9", Failed), ("c", Loading)]);
        assert_eq!(ids(&state), ["b9", "b10", "c", "a"]);
        assert_eq!(press(&mut state, "jj"), Some(Request::ShowLog(server("c"))));
        assert_eq!(state.update(report(&[("a", Failed), ("c", Ready), ("d", Idle)])), None);
        assert_eq!(
            (ids(&state), state.own_chosen()),
            (["a", "d", "c"].map(str::to_owned).to_vec(), Some(&server("c")))
        );
        // It is gone: the first takes its place.
        assert_eq!(state.update(report(&[("d", Idle)])), Some(Request::ShowLog(server("d"))));
        assert_eq!(state.update(report(&[])), Some(Request::CloseLog));
        assert_eq!((press(&mut state, "jksxrl"), state.own_chosen()), (None, None));
    }

    #[test]
    fn servers_of_peers_are_shown_and_commanded_only_where_they_are() {
        use PhaseName::{Failed, Ready};
        let mut state = state(&[("a", Ready), ("b", Failed)]);
        let peers = vec![peer("gpu2", Some(&[("a", Failed), ("c", Ready)])), peer("gpu3", None)];
        assert_eq!(state.update_peers(peers), None);
        assert_eq!(ids(&state), ["b", "gpu2/a", "gpu3/", "a", "gpu2/c"]);
        assert_eq!(press(&mut state, "j"), Some(Request::CloseLog));
        for key in ["s", "x", "r"] {
            assert_eq!((press(&mut state, key), &state.mode), (None, &Mode::Browse));
            assert!(state.message.contains("a --address http://gpu2:9888"), "{}", state.message);
        }
        press(&mut state, "j");
        press(&mut state, "s");
        assert!(state.message.contains("--address http://gpu3:9888"), "{}", state.message);
        assert_eq!(press(&mut state, "j"), Some(Request::ShowLog(server("a"))));
        // What is asked of the own one of an equal id goes to it alone.
        assert_eq!(press(&mut state, "s"), Some(Request::Command(ServerAction::Start, server("a"))));
        press(&mut state, "/GPU3\n");
        assert_eq!(ids(&state), ["gpu3/"]);
        // A peer that is gone leaves its row, and with it the choice.
        press(&mut state, "^");
        assert_eq!(state.update_peers(Vec::new()), Some(Request::ShowLog(server("b"))));
    }

    #[test]
    fn a_stop_and_a_restart_are_asked_once_and_a_start_is_not() {
        let mut state = state(&[("a", PhaseName::Ready)]);
        assert_eq!(press(&mut state, "s"), Some(Request::Command(ServerAction::Start, server("a"))));
        assert_eq!(press(&mut state, "x"), None);
        assert_eq!(state.mode, Mode::Confirm(ServerAction::Stop, server("a")));
        assert_eq!(press(&mut state, "y"), Some(Request::Command(ServerAction::Stop, server("a"))));
        for no in ["rn", "rr", "r^", "r\n"] {
            assert_eq!((press(&mut state, no), &state.mode), (None, &Mode::Browse), "{no}");
        }
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        for mode in ["", "/", "x", "?"] {
            press(&mut state, mode);
            assert_eq!(state.press(interrupt), Some(Request::Quit), "{mode}");
        }
    }

    #[test]
    fn the_filter_takes_every_key_and_escape_takes_it_away() {
        let mut state = state(&[("coder", PhaseName::Ready), ("xq", PhaseName::Failed)]);
        press(&mut state, "/CODq<");
        assert_eq!((ids(&state), state.own_chosen()), (vec!["coder".to_owned()], Some(&server("coder"))));
        assert_eq!((press(&mut state, "\nq"), ids(&state)), (Some(Request::Quit), vec!["coder".to_owned()]));
        press(&mut state, "^");
        assert_eq!(ids(&state), ["xq", "coder"]);
        press(&mut state, "/failed");
        assert_eq!(ids(&state), ["xq"]);
        press(&mut state, "^");
        assert_eq!((state.filter.as_str(), &state.mode), ("", &Mode::Browse));
    }

    #[test]
    fn a_log_is_bounded_and_whoever_looks_back_stays_there() {
        let line = |launch: u64, text: String| LogRecord::Line {
            incarnation: Incarnation::new(launch),
            stream: StreamName::Stderr,
            at: Timestamp::from_unix_microseconds(0),
            order: 0,
            number: 0,
            line: text,
        };
        let mut state = state(&[("a", PhaseName::Ready)]);
        (0..2 * MOST_LINES).for_each(|number| state.log.push(line(1, number.to_string())));
        assert_eq!(state.log.lines.len(), MOST_LINES);
        press(&mut state, "lkk");
        let shown = |state: &TopState| state.log.lines[state.log.lines.len() - 1 - state.log.back].clone();
        let before = shown(&state);
        state.log.push(line(2, "new".to_owned()));
        assert_eq!((shown(&state), state.log.back), (before, 4));
        assert_eq!(state.log.lines.iter().rev().nth(1).map(String::as_str), Some("--- launch 2 ---"));
        press(&mut state, "jjjjjj");
        assert_eq!(shown(&state), "new");
    }
}
