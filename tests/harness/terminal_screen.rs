//! What is on the screen of a terminal: enough of one to see that a table is drawn over itself and never beside.

/// A screen with a cursor. It wraps and scrolls, and obeys the sequences that llama-warden writes.
#[derive(Debug)]
pub struct TerminalScreen {
    columns: usize,
    lines: Vec<Vec<char>>,
    row: usize,
    /// Equal to `columns` behind the last character of a full line: the next one wraps.
    column: usize,
    /// The screen of before, while the alternate one is shown.
    saved: Option<(Vec<Vec<char>>, usize, usize)>,
}

impl TerminalScreen {
    /// The screen after `text` was written to it.
    ///
    /// # Panics
    /// If the text contains a sequence that is not known here. One that is cut off at its end is left out.
    pub fn after(text: &str, columns: usize, rows: usize) -> Self {
        let mut screen = Self { columns, lines: vec![Vec::new(); rows], row: 0, column: 0, saved: None };
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '\r' => screen.column = 0,
                '\n' => screen.line_feed(),
                '\x1b' => {
                    let Some(body) = rest.strip_prefix('[').or_else(|| rest.is_empty().then_some(rest)) else {
                        panic!("no control sequence: {rest:?}");
                    };
                    let Some(end) = body.find(|c: char| c.is_ascii_alphabetic()) else { break };
                    screen.obey(&body[..end], &body[end..=end]);
                    rest = &body[end + 1..];
                }
                c => screen.put(c),
            }
        }
        screen
    }

    /// The lines, without blanks at their ends.
    pub fn lines(&self) -> Vec<String> {
        self.lines.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned()).collect()
    }

    fn put(&mut self, c: char) {
        if self.column == self.columns {
            self.column = 0;
            self.line_feed();
        }
        let line = &mut self.lines[self.row];
        line.resize(line.len().max(self.column + 1), ' ');
        line[self.column] = c;
        self.column += 1;
    }

    fn line_feed(&mut self) {
        if self.row + 1 < self.lines.len() {
            self.row += 1;
        } else {
            self.lines.remove(0);
            self.lines.push(Vec::new());
        }
    }

    fn obey(&mut self, parameters: &str, command: &str) {
        match (parameters, command) {
            (_, "m") | ("?25", _) => {}
            ("", "H") => (self.row, self.column) = (0, 0),
            (place, "H") => {
                let (row, column) = place.split_once(';').expect("a row and a column");
                let number = |text: &str| text.parse::<usize>().expect("a number from 1") - 1;
                (self.row, self.column) = (number(row), number(column));
            }
            ("2", "J") => self.lines.iter_mut().for_each(Vec::clear),
            ("2", "K") => self.lines[self.row].clear(),
            ("", "J") => {
                self.lines[self.row].truncate(self.column);
                self.lines[self.row + 1..].iter_mut().for_each(Vec::clear);
            }
            (up, "A") => self.row = self.row.saturating_sub(up.parse().expect("a number of rows")),
            ("?1049", "h") => {
                let blank = vec![Vec::new(); self.lines.len()];
                self.saved = Some((std::mem::replace(&mut self.lines, blank), self.row, self.column));
            }
            ("?1049", "l") => {
                (self.lines, self.row, self.column) = self.saved.take().expect("an alternate screen");
            }
            other => panic!("unknown sequence {other:?}"),
        }
    }
}
