//! What standard output is: its size where it is a terminal, and whether colours are wanted.

use std::io::IsTerminal;

use anstream::{AutoStream, ColorChoice};

/// How text is laid out on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// Columns and rows of the terminal; `None` where output is not one, or its size is unknown.
    pub size: Option<ScreenSize>,
    /// Whether text is coloured: on a terminal, unless `NO_COLOR` or the like says otherwise.
    pub colours: bool,
}

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScreenSize {
    /// Its width in cells.
    pub columns: usize,
    /// Its height in lines.
    pub rows: usize,
}

impl Screen {
    /// Standard output at this moment: a window may change its size at any time.
    pub fn now() -> Self {
        let stdout = std::io::stdout();
        let colours = AutoStream::choice(&stdout) != ColorChoice::Never;
        let size = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout).ok()).flatten();
        // A terminal that does not know its size, such as a serial line, says 0.
        let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
        let size = size.map(|size| ScreenSize { columns: size.ws_col.into(), rows: size.ws_row.into() });
        Self { size, colours }
    }

    /// The columns of a line; `None` if lines may have any length.
    pub fn columns(self) -> Option<usize> {
        self.size.map(|size| size.columns)
    }
}
