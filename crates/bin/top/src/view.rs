//! Draws the state: a line of totals, the table, the log of the chosen server, and a line of keys.

use jiff::Timestamp;
use llama_warden_api_types::{PeerReport, ServerReport};
use llama_warden_state::PhaseName;
use llama_warden_support::{for_cell, naming_program};
use llama_warden_terminal::advice::command;
use llama_warden_terminal::all_table::peer_problem;
use llama_warden_terminal::server_text::phase;
use llama_warden_terminal::status_table::failure_and_age;
use llama_warden_terminal::table::cut_inside;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Clear, Paragraph, Row, Table, TableState, Wrap};

use crate::columns::{GAP, PHASE_WIDTH, ShownServer, fitting};
use crate::row::TopRow;
use crate::state::{Mode, TopState};

/// Below this height only the table is shown.
const LEAST_HEIGHT_FOR_LOG: u16 = 12;

/// What the keys do.
const KEYS: [(&str, &str); 9] = [
    ("↑ ↓ j k", "choose a server, or move in a large log"),
    ("PgUp PgDn Home End", "the same in larger steps"),
    ("/", "show only servers whose id, name or phase has a text; Esc shows all"),
    ("l Enter", "the log on the whole screen, and back"),
    ("s", "start"),
    ("x", "stop"),
    ("r", "restart"),
    ("?", "these keys"),
    ("q Ctrl-C", "leave; the servers stay as they are"),
];

pub(crate) fn draw(frame: &mut Frame<'_>, state: &TopState, now: Timestamp) {
    let area = frame.area();
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)]).areas(area);
    frame.render_widget(totals(state), head);
    if state.log_is_large {
        draw_log(frame, state, body, now);
    } else if area.height < LEAST_HEIGHT_FOR_LOG {
        draw_table(frame, state, body, now);
    } else {
        let servers = u16::try_from(state.rows().len()).unwrap_or(u16::MAX);
        // The table has what it needs, and at most two thirds.
        let rows = servers.saturating_add(1).min(body.height * 2 / 3);
        let [table, log] = Layout::vertical([Constraint::Length(rows), Constraint::Fill(1)]).areas(body);
        draw_table(frame, state, table, now);
        draw_log(frame, state, log, now);
    }
    frame.render_widget(foot_line(state), foot);
    if state.mode == Mode::Help {
        draw_help(frame, body);
    }
}

/// `2 of 3 ready, 3 running · profile big · gpu2: 1 of 1 · gpu3: timed-out`.
fn totals(state: &TopState) -> Line<'static> {
    let report = &state.report().own;
    let is_ready = |server: &&ServerReport| server.is_ready;
    let ready = report.servers.iter().filter(is_ready).count();
    let running = report.servers.iter().filter(|server| server.is_running).count();
    let total = report.servers.len();
    let mut text = format!("{ready} of {total} ready, {running} running");
    if let Some(profile) = &report.profile {
        text.push_str(&format!(" · profile {profile}"));
    }
    if report.configuration_refused.is_some() {
        text.push_str(" · a changed configuration is refused");
    }
    for PeerReport { name, status, problem, .. } in &state.report().peers {
        text.push_str(&match (status, problem) {
            (Some(status), _) => {
                format!(" · {name}: {} of {}", status.servers.iter().filter(is_ready).count(), status.servers.len())
            }
            (None, Some(problem)) => format!(" · {name}: {}", problem.reason.as_str()),
            (None, None) => String::new(),
        });
    }
    if !state.filter.is_empty() && state.mode != Mode::Filter {
        text.push_str(&format!(" · {} with `{}`", state.rows().len(), state.filter));
    }
    Line::styled(text, Style::new().add_modifier(Modifier::BOLD))
}

fn draw_table(frame: &mut Frame<'_>, state: &TopState, area: Rect, now: Timestamp) {
    let servers = state.rows();
    let longest = servers.iter().map(|row| row.name().len()).max().unwrap_or_default();
    let (columns, name_width) = fitting(area.width, longest);
    let titles = ["SERVER", "PHASE"].into_iter().chain(columns.iter().map(|column| column.title));
    let header = Row::new(titles).style(Style::new().add_modifier(Modifier::DIM));
    let chosen = servers.iter().position(|row| state.is_chosen(row));
    // Only the rows of the window are built: of 500 servers, most are outside.
    let height = usize::from(area.height.saturating_sub(1));
    let first = chosen.map_or(0, |chosen| chosen.saturating_sub(height.saturating_sub(1)));
    let shown = servers.iter().skip(first).take(height);
    let rows = shown.map(|row| {
        let name = Cell::new(cut_inside(&row.name(), name_width.into()));
        let Some(server) = row.server() else {
            return Row::new([name, Cell::new("no answer").style(style_of(PhaseName::Failed))]);
        };
        let own = [name, Cell::new(phase(server)).style(style_of(server.phase))];
        let shown = ShownServer { server, held: row.own().and_then(|id| state.held.get(id)).copied(), now };
        let more = columns.iter().map(|column| Cell::new(for_cell(&(column.text)(&shown)).into_owned()));
        Row::new(own.into_iter().chain(more))
    });
    let widths = [Constraint::Length(name_width), Constraint::Length(PHASE_WIDTH)];
    let widths = widths.into_iter().chain(columns.iter().map(|column| Constraint::Length(column.width)));
    let table = Table::new(rows, widths).header(header).column_spacing(GAP);
    let table = table.row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut place = TableState::new().with_selected(chosen.map(|chosen| chosen - first));
    frame.render_stateful_widget(table, area, &mut place);
}

/// The log of the chosen server; of one of another machine, what is known of it here.
fn draw_log(frame: &mut Frame<'_>, state: &TopState, area: Rect, now: Timestamp) {
    let chosen = state.chosen();
    let title = chosen.map_or("no server".into(), |row| row.name());
    let back = if state.log.back > 0 { format!(", {} lines back", state.log.back) } else { String::new() };
    let mut top = vec![Span::raw(format!(" {title}{back} "))];
    if let Some(note) = chosen.and_then(|row| row.server()).and_then(|server| server.note.clone()) {
        top.push(Span::styled(format!("{} ", for_cell(&naming_program(note))), Style::new().fg(Color::Yellow)));
    }
    let block = Block::new().borders(Borders::TOP).title_top(Line::from(top));
    if let Some(texts) = chosen.and_then(|row| told_here(row, now)) {
        let lines: Vec<_> = texts.iter().map(|text| Line::raw(for_cell(text).into_owned())).collect();
        frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: true }).block(block), area);
        return;
    }
    let height = usize::from(block.inner(area).height);
    let lines = &state.log.lines;
    let end = lines.len().saturating_sub(state.log.back);
    let shown = lines.range(end.saturating_sub(height)..end).map(|line| Line::raw(for_cell(line).into_owned()));
    frame.render_widget(Paragraph::new(shown.collect::<Vec<_>>()).block(block), area);
}

/// What this daemon knows of a row of another machine, in place of a log.
fn told_here(row: TopRow<'_>, now: Timestamp) -> Option<Vec<String>> {
    match row {
        TopRow::Own(_) => None,
        TopRow::OfPeer(peer, server) => {
            let mut texts = vec![
                "its log is on its own machine:".to_owned(),
                command(&format!("logs -f {} --address {}", server.model_id, peer.url)),
            ];
            if let Some(failure) = &server.last_failure {
                texts.push(format!("last failure {}: {}", failure_and_age(failure, now), failure.detail));
                texts.extend(failure.lines.iter().cloned());
            }
            Some(texts)
        }
        TopRow::Silent(peer, problem) => Some(vec![peer_problem(peer, problem, now), peer.url.clone()]),
    }
}

/// What is asked, what was answered, or the keys.
fn foot_line(state: &TopState) -> Line<'static> {
    let strong = Style::new().add_modifier(Modifier::REVERSED);
    match &state.mode {
        Mode::Filter => Line::styled(format!("/{}▏", state.filter), strong),
        Mode::Confirm(action, server) => {
            let servers = &state.report().own.servers;
            let busy = servers.iter().find(|report| report.model_id == *server).and_then(running_requests);
            let busy = busy.map_or_else(String::new, |requests| format!(" {requests};"));
            Line::styled(format!("{} {server}?{busy} y does it, any other key does not", action.as_str()), strong)
        }
        _ if !state.message.is_empty() => Line::styled(for_cell(&state.message).into_owned(), strong),
        _ => Line::styled(
            "q leave  ? keys  / filter  l log  s start  x stop  r restart",
            Style::new().add_modifier(Modifier::DIM),
        ),
    }
}

/// What a stop would cut short.
fn running_requests(server: &ServerReport) -> Option<String> {
    match server.requests.as_ref()?.slots_busy {
        0 => None,
        1 => Some("1 request runs".to_owned()),
        busy => Some(format!("{busy} requests run")),
    }
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let lines: Vec<Line<'_>> = KEYS
        .iter()
        .map(|(keys, what)| {
            Line::from(vec![Span::styled(format!("{keys:>20}  "), Style::new().bold()), Span::raw(*what)])
        })
        .collect();
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_add(2);
    let [area] = Layout::vertical([Constraint::Max(height)]).areas(area);
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" keys ")), area);
}

const fn style_of(phase: PhaseName) -> Style {
    Style::new().fg(match phase {
        PhaseName::Ready => Color::Green,
        PhaseName::Failed | PhaseName::Unready => Color::Red,
        PhaseName::Launching | PhaseName::Starting | PhaseName::Loading => Color::Cyan,
        PhaseName::Stopping | PhaseName::BackingOff => Color::Yellow,
        PhaseName::Idle | PhaseName::Exited => Color::DarkGray,
    })
}

#[cfg(test)]
mod tests {
    use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
    use llama_warden_api_types::LogRecord;
    use llama_warden_events::{Incarnation, StreamName};
    use llama_warden_state::PhaseName::{Failed, Loading, Ready};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::state::Request;
    use crate::state::tests::{peer, state as state_of};

    fn state() -> TopState {
        let mut state = state_of(&[("coder", Ready), ("embed", Loading), ("broken", Failed)]);
        let line = "log of \u{1b}[2Ja server".to_owned();
        let at = llama_warden_events::Timestamp::from_unix_microseconds(0);
        state.log.push(LogRecord::Line {
            stream: StreamName::Stderr,
            order: 0,
            number: 0,
            incarnation: Incarnation::new(1),
            at,
            line,
        });
        state
    }

    fn press(state: &mut TopState, key: char) {
        let request = state.press(KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE));
        assert!(matches!(request, None | Some(Request::ShowLog(_) | Request::CloseLog)), "{request:?}");
    }

    fn drawn(state: &TopState, (columns, rows): (u16, u16)) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).expect("a screen");
        terminal.draw(|frame| draw(frame, state, Timestamp::UNIX_EPOCH)).expect("draws");
        let cells = terminal.backend().buffer().content().chunks(columns.into());
        cells.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned()).collect()
    }

    #[test]
    fn the_table_shows_trouble_first_and_the_log_of_the_chosen_server_below() {
        let lines = drawn(&state(), (80, 24));
        assert_eq!(lines[0], "0 of 3 ready, 0 running");
        assert!(lines[1].starts_with("SERVER ") && lines[1].contains("ADDRESS"), "{lines:#?}");
        assert!(lines[2].starts_with("broken ") && lines[3].starts_with("embed ") && lines[4].starts_with("coder "));
        assert!(lines[5].starts_with("\u{2500} broken") || lines[5].contains(" broken "), "{lines:#?}");
        assert!(lines[6].starts_with("log of") && !lines[6].contains('\u{1b}'), "{lines:#?}");
        assert!(lines[23].starts_with("q leave"));
    }

    #[test]
    fn a_wide_window_shows_the_memory_that_a_server_holds_and_its_model() {
        let mut state = state();
        let mut own = state.report().own.clone();
        own.servers[0].is_running = true;
        own.servers[0].model = Some("/models/Qwen3-Coder.gguf".into());
        state.update_held([(own.servers[0].model_id.clone(), 3 << 30)].into());
        state.update(own);
        let lines = drawn(&state, (200, 24));
        let row = lines.iter().find(|line| line.starts_with("coder ")).expect("a row");
        for (title, value) in [("MEMORY", "3.0 GiB"), ("MODEL", "Qwen3-Coder")] {
            let at = lines[1].find(title).expect(title);
            assert!(row[at..].starts_with(value), "{title}: {lines:#?}");
        }
    }

    #[test]
    fn a_server_that_sleeps_is_shown_and_found_as_such() {
        let mut state = state();
        let mut own = state.report().own.clone();
        own.servers.iter_mut().for_each(|server| server.is_sleeping = server.model_id.as_str() == "coder");
        state.update(own);
        let lines = drawn(&state, (80, 24));
        let row = lines.iter().find(|line| line.starts_with("coder ")).expect("a row");
        assert!(row.contains(" sleeping "), "{row}");
        "/sleep".chars().for_each(|key| press(&mut state, key));
        let shown: Vec<_> = state.rows().iter().map(|row| row.name().into_owned()).collect();
        assert_eq!(shown, ["coder"]);
    }

    #[test]
    fn a_key_is_answered_where_it_can_be_seen_at_any_size() {
        let mut state = state();
        press(&mut state, 'x');
        assert!(drawn(&state, (80, 24))[23].starts_with("stop broken? y does it"));
        press(&mut state, 'n');
        press(&mut state, '?');
        let keys = drawn(&state, (80, 24)).join("\n");
        KEYS.iter().for_each(|(key, _)| assert!(keys.contains(key), "no {key} in {keys}"));
        press(&mut state, 'q');
        press(&mut state, '/');
        press(&mut state, 'm');
        assert!(drawn(&state, (80, 24))[23].starts_with("/m"));
        press(&mut state, 'b');
        for columns in [1, 2, 5, 20, 79, 400] {
            for rows in [1, 2, 3, 5, 12, 100] {
                let _ = drawn(&state, (columns, rows));
            }
        }
    }

    #[test]
    fn of_a_row_of_another_machine_it_says_where_its_log_is_or_why_it_does_not_answer() {
        let mut state = state_of(&[("coder", Ready)]);
        state.update_peers(vec![peer("gpu2", Some(&[("embed", Failed)])), peer("gpu3", None)]);
        press(&mut state, 'k');
        press(&mut state, 'k');
        let lines = drawn(&state, (80, 24));
        assert_eq!(lines[0], "0 of 1 ready, 0 running · gpu2: 0 of 1 · gpu3: timed-out");
        assert!(lines[2].starts_with("gpu2/embed ") && lines[3].starts_with("gpu3/ "), "{lines:#?}");
        assert!(lines[3].contains("no answer"), "{lines:#?}");
        let text = lines.join("\n");
        assert!(text.contains("llama-warden logs -f embed --address http://gpu2:9888"), "{text}");
        press(&mut state, 'j');
        let text = drawn(&state, (80, 24)).join("\n");
        assert!(text.contains("no answer within 2 s; see why"), "{text}");
        for columns in [1, 5, 20, 400] {
            for rows in [1, 3, 5, 12, 100] {
                let _ = drawn(&state, (columns, rows));
            }
        }
    }
}
