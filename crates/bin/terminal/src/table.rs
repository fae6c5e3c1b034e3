//! Lays out tables and paragraphs for a width: the one writer of everything in columns.
//!
//! A cell holds text of any origin; control characters in it are shown as escapes. Widths are counted in columns of a
//! terminal, in which some characters take two and some none.

use std::borrow::Cow;

use anstyle::Style;
use llama_warden_events::ServerId;
use llama_warden_support::for_cell;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::natural_order;
use crate::screen::Screen;

/// Blanks between two columns.
pub(crate) const GAP: usize = 2;

/// Columns by which a text below a headline is indented; twice as many for its further lines.
const INDENT: usize = 2;

/// The sign that text was cut.
const CUT: char = '…';

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// What its first line says.
    pub title: &'static str,
    /// What happens to it in a narrow table.
    pub room: Room,
}

/// What a column does if the table is wider than its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It keeps its width.
    Whole,
    /// It is left out, the highest number first; before all others, one without text.
    Spare(u8),
    /// It gives up room, down to this width.
    Shrinks(usize),
}

/// What happens to text that is wider than its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// It is cut, so that each row is one line.
    Cut,
    /// It continues in further lines of its row, broken between words.
    Wrap,
}

/// The text of a cell, and its colour.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cell {
    text: String,
    style: Option<Style>,
}

impl Cell {
    /// A cell in a colour.
    pub fn coloured(text: impl AsRef<str>, style: Style) -> Self {
        Self { style: Some(style), ..Self::from(text.as_ref()) }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self { text: for_cell(text).into_owned(), style: None }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        match for_cell(&text) {
            Cow::Borrowed(_) => Self { text, style: None },
            Cow::Owned(text) => Self { text, style: None },
        }
    }
}

/// A table: a header, rows, and no rules.
#[derive(Debug)]
pub struct Table<'a> {
    /// Its columns, from left to right.
    pub columns: &'a [Column],
    /// The cells of each row, one for each column.
    pub rows: &'a [Vec<Cell>],
}

/// The widths of the columns of a table; `None` is a column that is left out.
#[derive(Debug, PartialEq, Eq)]
pub struct Widths(Vec<Option<usize>>);

impl Widths {
    /// Whether `text` fits into the column with this title.
    pub fn hold(&self, columns: &[Column], title: &str, text: &str) -> bool {
        let at = columns.iter().position(|column| column.title == title);
        let width = at.and_then(|at| self.0.get(at).copied().flatten());
        width.is_some_and(|width| for_cell(text).width() <= width)
    }
}

impl Table<'_> {
    /// The width of each column, so that the table is at most `limit` columns wide if its columns allow that.
    pub fn widths(&self, limit: Option<usize>) -> Widths {
        let widest = |(at, column): (usize, &Column)| {
            let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.text.width());
            cells.max().unwrap_or_default().max(column.title.len())
        };
        let natural: Vec<usize> = self.columns.iter().enumerate().map(widest).collect();
        let mut widths: Vec<Option<usize>> = natural.iter().copied().map(Some).collect();
        let Some(limit) = limit else { return Widths(widths) };
        let least = |at: usize| match self.columns[at].room {
            Room::Shrinks(least) => least.min(natural[at]),
            Room::Whole | Room::Spare(_) => natural[at],
        };
        let total = |widths: &[Option<usize>], width_of: &dyn Fn(usize) -> usize| {
            let shown = widths.iter().enumerate().filter(|(_, width)| width.is_some());
            shown.map(|(at, _)| width_of(at) + GAP).sum::<usize>().saturating_sub(GAP)
        };
        let is_empty = |at: usize| self.rows.iter().filter_map(|row| row.get(at)).all(|cell| cell.text.is_empty());
        // Columns are left out until the others fit at their least, then those that shrink share the rest.
        while total(&widths, &least) > limit {
            let spare = |at: &usize| match self.columns[*at].room {
                Room::Spare(rank) if widths[*at].is_some() => Some((is_empty(*at), rank, *at)),
                _ => None,
            };
            match (0..widths.len()).filter_map(|at| spare(&at)).max() {
                Some((.., at)) => widths[at] = None,
                None => break,
            }
        }
        let mut excess = total(&widths, &|at| widths[at].unwrap_or_default()).saturating_sub(limit);
        while excess > 0 {
            let room = |at: &usize| widths[*at].filter(|width| *width > least(*at));
            // The widest first, so that a short column is not cut for the sake of a long one.
            let Some(at) = (0..widths.len()).filter(|at| room(at).is_some()).max_by_key(|at| room(at)) else { break };
            widths[at] = widths[at].map(|width| width - 1);
            excess -= 1;
        }
        Widths(widths)
    }

    /// The line of titles.
    pub fn header(&self, widths: &Widths) -> String {
        let titles: Vec<_> = self.columns.iter().map(|column| Cell::from(column.title)).collect();
        row_lines(&titles, widths, Overflow::Cut, false).remove(0)
    }

    /// The lines of one row; exactly one if text is cut.
    pub fn row(&self, row: &[Cell], widths: &Widths, overflow: Overflow, colours: bool) -> Vec<String> {
        row_lines(row, widths, overflow, colours)
    }
}

fn row_lines(row: &[Cell], widths: &Widths, overflow: Overflow, colours: bool) -> Vec<String> {
    let shown = row.iter().zip(&widths.0).filter_map(|(cell, width)| Some((cell, (*width)?)));
    let cells: Vec<_> = shown
        .map(|(cell, width)| {
            let lines = match overflow {
                Overflow::Cut => vec![cut(&cell.text, width)],
                Overflow::Wrap => wrap(&cell.text, width),
            };
            (lines, width, cell.style.filter(|_| colours))
        })
        .collect();
    let height = cells.iter().map(|(lines, ..)| lines.len()).max().unwrap_or_default().max(1);
    (0..height).map(|at| joined(&cells, at)).collect()
}

/// Line `at` of the cells of a row, without blanks at its end.
fn joined(cells: &[(Vec<String>, usize, Option<Style>)], at: usize) -> String {
    let mut line = String::new();
    let mut blanks = 0;
    for (lines, width, style) in cells {
        let text = lines.get(at).map_or("", String::as_str);
        if !text.is_empty() {
            line.extend(std::iter::repeat_n(' ', blanks));
            blanks = 0;
            match style {
                Some(style) => line.push_str(&format!("{style}{text}{style:#}")),
                None => line.push_str(text),
            }
        }
        blanks += width.saturating_sub(text.width()) + GAP;
    }
    line
}

/// A table of text on standard output. What does not fit into a terminal is wrapped between words.
pub fn list<const N: usize>(columns: [Column; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let rows: Vec<Vec<Cell>> = rows.into_iter().map(|row| row.into_iter().map(Cell::from).collect()).collect();
    let table = Table { columns: &columns, rows: &rows };
    let widths = table.widths(Screen::now().columns());
    let mut lines = vec![table.header(&widths)];
    lines.extend(rows.iter().flat_map(|row| table.row(row, &widths, Overflow::Wrap, false)));
    lines.join("\n")
}

/// A column that keeps its width.
pub const fn whole(title: &'static str) -> Column {
    Column { title, room: Room::Whole }
}

/// A column that is left out of a narrow table; the highest number goes first.
pub const fn spare(title: &'static str, rank: u8) -> Column {
    Column { title, room: Room::Spare(rank) }
}

/// A column that gives up room, down to `least`.
pub const fn shrinks(title: &'static str, least: usize) -> Column {
    Column { title, room: Room::Shrinks(least) }
}

/// A paragraph below a headline, on a terminal wrapped between words.
pub fn below(text: &str) -> String {
    let width = Screen::now().columns().map_or(usize::MAX, |columns| columns.saturating_sub(2 * INDENT).max(1));
    wrap(text, width)
        .iter()
        .enumerate()
        .map(|(at, line)| format!("\n{:1$}{line}", "", INDENT * at.min(1) + INDENT))
        .collect()
}

/// The ids of servers in one line, in natural order.
pub fn names(servers: &[ServerId]) -> String {
    if servers.is_empty() {
        return "none".to_owned();
    }
    let mut names: Vec<_> = servers.iter().map(ServerId::as_str).collect();
    names.sort_by(|left, right| natural_order::compare(left, right));
    names.join(", ")
}

/// An id in at most `width` columns, without its middle: ids of one family differ at their ends.
pub fn cut_inside(id: &str, width: usize) -> String {
    let count = id.chars().count();
    if count <= width {
        return id.to_owned();
    }
    let kept = width.saturating_sub(1);
    let (head, tail) = (kept.div_ceil(2), kept / 2);
    id.chars().take(head).chain([CUT]).chain(id.chars().skip(count - tail)).collect()
}

/// `text` in at most `width` columns.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut shown = fitting(text, width.saturating_sub(1)).to_owned();
    shown.push(CUT);
    shown
}

/// `text` in lines of at most `width` columns, broken between words where that is possible; at least one line.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let mut word = word;
        let blank = usize::from(used > 0);
        if used + blank + word.width() <= width {
            if blank > 0 {
                push(&mut lines, " ");
            }
            push(&mut lines, word);
            used += blank + word.width();
            continue;
        }
        if used > 0 {
            lines.push(String::new());
        }
        // A word that is wider than a line, such as a path, is broken wherever the line ends.
        while word.width() > width {
            let part = match fitting(word, width) {
                "" => &word[..word.chars().next().map_or(0, char::len_utf8)],
                part => part,
            };
            push(&mut lines, part);
            word = &word[part.len()..];
            if !word.is_empty() {
                lines.push(String::new());
            }
        }
        push(&mut lines, word);
        used = word.width();
    }
    lines
}

fn push(lines: &mut [String], text: &str) {
    if let Some(line) = lines.last_mut() {
        line.push_str(text);
    }
}

/// The longest beginning of `text` that is at most `width` columns wide.
fn fitting(text: &str, width: usize) -> &str {
    let mut used = 0;
    let end = text.char_indices().find(|(_, c)| {
        used += c.width().unwrap_or_default();
        used > width
    });
    &text[..end.map_or(text.len(), |(at, _)| at)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [whole("ID"), spare("PID", 2), spare("BUILD", 1), shrinks("NOTE", 8)];

    fn rows(note: &str) -> Vec<Vec<Cell>> {
        let row = |cells: [&str; 4]| cells.into_iter().map(Cell::from).collect();
        vec![row(["a", "1234567", "b11669", note]), row(["coder", "", "", ""])]
    }

    fn shown(note: &str, limit: Option<usize>, overflow: Overflow) -> Vec<String> {
        let rows = rows(note);
        let table = Table { columns: &COLUMNS, rows: &rows };
        let widths = table.widths(limit);
        let mut lines = vec![table.header(&widths)];
        lines.extend(rows.iter().flat_map(|row| table.row(row, &widths, overflow, false)));
        lines
    }

    #[test]
    fn a_table_is_as_wide_as_its_cells_where_the_width_is_unknown() {
        let lines = shown("model-invalid: no tensors", None, Overflow::Cut);
        assert_eq!(
            lines,
            ["ID     PID      BUILD   NOTE", "a      1234567  b11669  model-invalid: no tensors", "coder",]
        );
    }

    #[test]
    fn a_narrow_table_leaves_out_columns_then_cuts_what_may_shrink() {
        let lines = shown("model-invalid: no tensors", Some(24), Overflow::Cut);
        assert_eq!(lines, ["ID     BUILD   NOTE", "a      b11669  model-in…", "coder"]);
        for limit in 1..90 {
            let lines = shown("model-invalid: no tensors", Some(limit), Overflow::Cut);
            assert_eq!(lines.len(), 3, "{limit}");
            // The columns that keep their width, and the least of the other.
            let widest = lines.iter().map(|line| line.width()).max().expect("lines");
            assert!(widest <= limit.max("coder".len() + GAP + 8), "{limit}: {lines:#?}");
        }
    }

    #[test]
    fn a_column_without_text_is_left_out_first() {
        let rows: Vec<Vec<Cell>> = vec![["a", "1234567", "", "note"].into_iter().map(Cell::from).collect()];
        let table = Table { columns: &COLUMNS, rows: &rows };
        let titles =
            |limit| table.header(&table.widths(limit)).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(titles(None), ["ID", "PID", "BUILD", "NOTE"]);
        assert_eq!(titles(Some(20)), ["ID", "PID", "NOTE"]);
        assert_eq!(titles(Some(12)), ["ID", "NOTE"]);
    }

    #[test]
    fn an_id_keeps_its_beginning_and_its_end() {
        for (width, shown) in [(7, "abcdefg"), (6, "abc…fg"), (2, "a…"), (1, "…"), (0, "…")] {
            assert_eq!(cut_inside("abcdefg", width), shown);
        }
    }

    #[test]
    fn text_is_wrapped_between_words() {
        let lines = shown("no tensors in it", Some(20), Overflow::Wrap);
        assert_eq!(lines, ["ID     NOTE", "a      no tensors in", "       it", "coder"]);
        assert_eq!(wrap("a /very/long/path b", 6), ["a", "/very/", "long/p", "ath b"]);
        assert_eq!(wrap("", 6), [""]);
        assert_eq!(wrap("模型", 1), ["模", "型"]);
    }

    #[test]
    fn wide_characters_and_controls_keep_the_columns_in_line() {
        let rows = vec![vec![Cell::from("模型"), Cell::from("x")], vec![Cell::from("a\x1b[2J"), Cell::from("y")]];
        let table = Table { columns: &[whole("ID"), whole("NOTE")], rows: &rows };
        let widths = table.widths(None);
        let lines: Vec<_> = rows.iter().flat_map(|row| table.row(row, &widths, Overflow::Cut, false)).collect();
        assert_eq!(lines, ["模型      x", "a\\x1b[2J  y"]);
        assert_eq!(cut("模型", 3), "模…");
    }
}
