//! Shows status reports as they change: a table that is redrawn on a terminal, one line per change elsewhere.
//!
//! A frame never has more lines than the window, and no line is wider, so that the rows on the screen are known. Only lines
//! that changed are written again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::time::Duration;

use anstream::adapter::strip_str;
use llama_warden_api_types::{AllStatusReport, ServerReport, StatusReport};
use llama_warden_events::ServerId;
use llama_warden_state::PhaseName;
use llama_warden_support::for_terminal;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use unicode_width::UnicodeWidthStr;

use crate::all_table::AllTable;
use crate::screen::{Screen, ScreenSize};
use crate::server_text;
use crate::status_table::StatusTable;

/// How often a table is drawn without a change, for its uptimes.
const REDRAW_INTERVAL: Duration = Duration::from_secs(1);

/// Shortest time between two frames: a burst of changes becomes one.
const FRAME_INTERVAL: Duration = Duration::from_millis(100);

/// Begins a frame on the alternate screen, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Where a table is drawn on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Below what is on the screen; the last frame stays.
    Inline,
    /// On a screen of its own, the alternate one; what was there before comes back.
    FullScreen,
}

/// Remembers what it has shown, so that it shows only changes.
#[derive(Debug)]
pub struct LiveTable {
    shown: ShownTable,
    /// Servers that have a line of their own for their latest state.
    told: BTreeSet<ServerId>,
    /// Added to the line of totals.
    pub notice: Option<&'static str>,
    /// The command reports failed servers itself when it ends, so that without a terminal they get no line before.
    pub omits_failed: bool,
}

#[derive(Debug)]
enum ShownTable {
    Terminal(Frames),
    /// The latest state of each server.
    Plain(BTreeMap<ServerId, String>),
}

impl LiveTable {
    /// A table on standard output. Must be called on a runtime.
    pub fn new(place: Place) -> Self {
        let shown = match Screen::now().size {
            Some(_) => ShownTable::Terminal(Frames::new(place)),
            None => ShownTable::Plain(BTreeMap::new()),
        };
        Self { shown, told: BTreeSet::new(), notice: None, omits_failed: false }
    }

    /// Whether anything has been shown.
    pub fn is_blank(&self) -> bool {
        match &self.shown {
            ShownTable::Terminal(frames) => frames.drawn.is_none(),
            ShownTable::Plain(shown) => shown.is_empty(),
        }
    }

    /// Whether a person has seen the latest state of this server: on a terminal of all, elsewhere of those that have a line.
    pub fn has_told(&self, id: &ServerId) -> bool {
        match &self.shown {
            ShownTable::Terminal(frames) => frames.drawn.is_some(),
            ShownTable::Plain(_) => self.told.contains(id),
        }
    }

    /// Whether it is on a terminal.
    pub const fn is_live(&self) -> bool {
        matches!(self.shown, ShownTable::Terminal(_))
    }

    /// Shows the state before a command. Elsewhere than on a terminal, the lines begin with what changes: a `ready` of before
    /// would be read as the outcome.
    ///
    /// # Errors
    /// As [`Self::show`].
    pub fn begin(&mut self, report: &StatusReport) -> io::Result<()> {
        if let ShownTable::Plain(shown) = &mut self.shown {
            let state = |server: &ServerReport| (server.model_id.clone(), server_text::server_state(server));
            *shown = report.servers.iter().map(state).collect();
            return Ok(());
        }
        self.show(report)
    }

    /// Shows a report.
    ///
    /// # Errors
    /// Standard output cannot be written; [`io::ErrorKind::BrokenPipe`] if its reader is gone.
    pub fn show(&mut self, report: &StatusReport) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match &mut self.shown {
            ShownTable::Terminal(frames) => {
                let view = StatusTable { notice: self.notice, ..StatusTable::now(report) };
                let Some(size) = view.screen.size else { return Ok(()) };
                // The cursor stands below the frame.
                let lines = view.lines(Some(size.rows.saturating_sub(1)));
                out.write_all(frames.next(lines, size).as_bytes())?;
            }
            ShownTable::Plain(shown) => {
                for server in &report.servers {
                    let state = server_text::server_state(server);
                    if shown.get(&server.model_id) != Some(&state) {
                        if !(self.omits_failed && server.phase == PhaseName::Failed) {
                            writeln!(out, "{}", server_text::server_line(server))?;
                            self.told.insert(server.model_id.clone());
                        } else {
                            self.told.remove(&server.model_id);
                        }
                        shown.insert(server.model_id.clone(), state);
                    }
                }
            }
        }
        out.flush()
    }

    /// Shows the servers of all machines. Nothing elsewhere than on a terminal.
    ///
    /// # Errors
    /// As [`Self::show`].
    pub fn show_all(&mut self, report: &AllStatusReport) -> io::Result<()> {
        let view = AllTable::now(report);
        let (ShownTable::Terminal(frames), Some(size)) = (&mut self.shown, view.screen.size) else { return Ok(()) };
        let lines = view.lines(Some(size.rows.saturating_sub(1)));
        let mut out = io::stdout().lock();
        out.write_all(frames.next(lines, size).as_bytes())?;
        out.flush()
    }

    /// Prints a line above the table, where it stays. The table is gone until it is shown again.
    ///
    /// # Errors
    /// As [`Self::show`].
    pub fn print_above(&mut self, line: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if let (ShownTable::Terminal(frames), Some(size)) = (&mut self.shown, Screen::now().size) {
            out.write_all(frames.erase(size.columns).as_bytes())?;
        }
        writeln!(out, "{}", for_terminal(line))
    }

    /// Waits until the table has to be drawn without a change, for its uptimes or for another size of the window.
    pub async fn expired(&mut self) {
        match &mut self.shown {
            ShownTable::Terminal(frames) => frames.expired().await,
            ShownTable::Plain(_) => std::future::pending().await,
        }
    }

    /// Waits until a change may be drawn.
    pub async fn pause(&self) {
        if let ShownTable::Terminal(Frames { drawn: Some(drawn), .. }) = &self.shown {
            tokio::time::sleep_until(*drawn + FRAME_INTERVAL).await;
        }
    }
}

/// The frames of a table on a terminal.
#[derive(Debug)]
struct Frames {
    place: Place,
    lines: Vec<String>,
    size: Option<ScreenSize>,
    drawn: Option<Instant>,
    /// `None` if the kernel refuses the handler: the next redraw finds the new size too.
    resized: Option<Signal>,
}

impl Frames {
    fn new(place: Place) -> Self {
        let resized = signal(SignalKind::window_change()).ok();
        Self { place, lines: Vec::new(), size: None, drawn: None, resized }
    }

    /// The bytes that replace the frame on the screen by `lines`.
    fn next(&mut self, lines: Vec<String>, size: ScreenSize) -> String {
        let mut text = match (self.place, self.drawn) {
            (Place::FullScreen, None) => format!("{ENTER}\x1b[H"),
            (Place::FullScreen, Some(_)) => "\x1b[H".to_owned(),
            (Place::Inline, _) => match self.rows(size.columns) {
                0 => String::new(),
                rows => format!("\x1b[{rows}A\r"),
            },
        };
        let same_size = self.size == Some(size);
        for (at, line) in lines.iter().enumerate() {
            if !(same_size && self.lines.get(at) == Some(line)) {
                // Cleared first: after a line of full width, the cursor still stands on its last character.
                text.push_str("\x1b[2K");
                text.push_str(line);
            }
            text.push('\n');
        }
        if !same_size || lines.len() < self.lines.len() {
            text.push_str("\x1b[J");
        }
        (self.lines, self.size, self.drawn) = (lines, Some(size), Some(Instant::now()));
        text
    }

    /// The bytes that remove the frame from the screen, row by row: tmux keeps what is cleared at once from the first row on, and
    /// a person who scrolls back would meet every frame.
    fn erase(&mut self, columns: usize) -> String {
        let rows = self.rows(columns);
        self.lines.clear();
        if rows == 0 { String::new() } else { format!("\x1b[{rows}A\r{}\x1b[{rows}A", "\x1b[2K\n".repeat(rows)) }
    }

    /// The rows that the frame on the screen takes in a window of this width: a narrower one has wrapped its lines.
    fn rows(&self, columns: usize) -> usize {
        self.lines.iter().map(|line| strip_str(line).to_string().width().div_ceil(columns).max(1)).sum()
    }

    async fn expired(&mut self) {
        let resized = async {
            match &mut self.resized {
                Some(resized) => resized.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(REDRAW_INTERVAL) => {}
            _ = resized => {}
        }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        if self.place == Place::FullScreen && self.drawn.is_some() {
            // A terminal that is gone needs no restoring.
            let mut out = io::stdout().lock();
            let _ = out.write_all(LEAVE.as_bytes()).and_then(|()| out.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn frames(place: Place) -> Frames {
        Frames { place, lines: Vec::new(), size: None, drawn: None, resized: None }
    }

    /// The longest line of every server changes at once.
    #[test]
    fn a_change_of_500_servers_writes_one_screen_at_most() {
        let mut frames = frames(Place::FullScreen);
        let size = ScreenSize { columns: 80, rows: 24 };
        let frame = |number: usize| (0..23).map(|row| format!("{number:<40}{row:>40}")).collect::<Vec<_>>();
        for number in 0..3 {
            let written = frames.next(frame(number), size);
            assert!(strip_str(&written).to_string().chars().filter(|c| *c != '\n').count() <= 80 * 24, "{written:?}");
        }
        frames.drawn = None;
    }

    const WIDE: ScreenSize = ScreenSize { columns: 20, rows: 24 };

    #[test]
    fn a_frame_writes_only_the_lines_that_changed() {
        let mut frames = frames(Place::Inline);
        let first = frames.next(lines(&["head", "a ready", "b loading"]), WIDE);
        assert_eq!(first, "\x1b[2Khead\n\x1b[2Ka ready\n\x1b[2Kb loading\n\x1b[J");
        let second = frames.next(lines(&["head", "a ready", "b ready"]), WIDE);
        assert_eq!(second, "\x1b[3A\r\n\n\x1b[2Kb ready\n");
        let fewer = frames.next(lines(&["head", "a ready"]), WIDE);
        assert_eq!(fewer, "\x1b[3A\r\n\n\x1b[J");
    }

    #[test]
    fn a_line_above_a_table_leaves_nothing_of_the_frame_before() {
        let mut frames = frames(Place::Inline);
        assert_eq!(frames.erase(20), "");
        frames.next(lines(&["head", "a ready"]), WIDE);
        assert_eq!(frames.erase(20), "\x1b[2A\r\x1b[2K\n\x1b[2K\n\x1b[2A");
        assert_eq!(frames.next(lines(&["head", "a ready"]), WIDE), "\x1b[2Khead\n\x1b[2Ka ready\n");
    }

    #[test]
    fn a_narrower_window_has_wrapped_the_frame_before() {
        let mut frames = frames(Place::Inline);
        frames.next(lines(&["0123456789", "\x1b[32mready\x1b[0m"]), WIDE);
        let narrow = ScreenSize { columns: 4, rows: 24 };
        let next = frames.next(lines(&["0123"]), narrow);
        // Three rows of ten characters and two of five.
        assert_eq!(next, "\x1b[5A\r\x1b[2K0123\n\x1b[J");
    }

    #[test]
    fn a_full_screen_begins_at_its_first_row() {
        let mut frames = frames(Place::FullScreen);
        assert_eq!(frames.next(lines(&["a"]), WIDE), "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2Ka\n\x1b[J");
        assert_eq!(frames.next(lines(&["a"]), WIDE), "\x1b[H\n");
        // Nothing was shown on a terminal: nothing is restored.
        frames.drawn = None;
    }
}
