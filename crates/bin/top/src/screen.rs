//! The terminal while the view has it: keys come one by one, and the screen of before comes back at the end, however it ends.

use std::io::{self, Stdout, stdout};

use crossterm::cursor::Show;
use crossterm::execute;
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

/// The whole screen. Dropping it gives the former one back.
pub(crate) struct WholeScreen {
    pub(crate) terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl WholeScreen {
    /// # Errors
    /// The terminal takes no commands.
    pub(crate) fn take() -> io::Result<Self> {
        enable_raw_mode()?;
        let entered =
            execute!(stdout(), EnterAlternateScreen).and_then(|()| Terminal::new(CrosstermBackend::new(stdout())));
        match entered {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                give_back();
                Err(error)
            }
        }
    }
}

impl Drop for WholeScreen {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    // A terminal that is gone needs nothing.
    let _ = execute!(stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}
