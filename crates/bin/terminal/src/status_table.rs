//! The status of servers as people read it: a table, or a line for each.
//!
//! A table on a terminal never has a line that is wider than the window. What its rows cannot hold follows below them.

use anstyle::{AnsiColor, Color, Style};
use jiff::Timestamp;
use llama_warden_api_types::{FailureReport, GuardianReport, ServerReport, StatusReport};
use llama_warden_state::PhaseName;
use llama_warden_support::for_cell;

use crate::advice::with_options;
use crate::request_text::speed;
use crate::screen::Screen;
use crate::server_order::{by_name, by_trouble};
use crate::server_text::{age, base_url, note, phase, ready_via, router_line};
use crate::table::{self, Cell, Column, Overflow, Table, Widths, cut, cut_inside, shrinks, spare, whole, wrap};

/// The columns of the table. In a narrow window, the build goes first and the address last.
const COLUMNS: [Column; 11] = [
    whole("SERVER"),
    whole("PHASE"),
    spare("URL", 1),
    spare("PID", 5),
    spare("UPTIME", 4),
    spare("RESTARTS", 2),
    spare("LAST FAILURE", 3),
    spare("TOK/S", 6),
    spare("READY VIA", 7),
    spare("BUILD", 8),
    shrinks("NOTE", LEAST_NOTE),
];

/// The columns that a long note keeps.
const LEAST_NOTE: usize = 15;

/// The columns that a long id keeps: in a window of 80 columns, the address has room beside it.
const LEAST_ID: usize = 26;

/// Columns by which the details below a table are indented.
const INDENT: usize = 4;

/// A report, and how it is shown.
#[derive(Debug, Clone, Copy)]
pub struct StatusTable<'a> {
    /// What is shown.
    pub report: &'a StatusReport,
    /// For the age of failures.
    pub now: Timestamp,
    /// Where it is shown.
    pub screen: Screen,
    /// Added to the line of totals.
    pub notice: Option<&'a str>,
}

impl<'a> StatusTable<'a> {
    /// The report on standard output at this moment.
    pub fn now(report: &'a StatusReport) -> Self {
        Self { report, now: Timestamp::now(), screen: Screen::now(), notice: None }
    }

    /// Every server, in natural order.
    pub fn text(&self) -> String {
        self.lines(None).join("\n")
    }

    /// The lines that fit into `limit`. If not every server fits, those in trouble come first.
    pub fn lines(&self, limit: Option<usize>) -> Vec<String> {
        let mut servers: Vec<&ServerReport> = self.report.servers.iter().collect();
        servers.sort_by(|left, right| by_name(left, right));
        let mut totals = self.totals(limit.is_some());
        let Some(limit) = limit else {
            let (mut lines, details) = self.rows(&servers, usize::MAX);
            lines.append(&mut totals);
            lines.extend(details);
            return lines;
        };
        totals.truncate(limit);
        // A line for the header.
        let room = limit.saturating_sub(totals.len() + 1);
        let (mut lines, details) = if servers.len() <= room {
            self.rows(&servers, room - servers.len())
        } else if room == 0 {
            Default::default()
        } else {
            servers.sort_by(|left, right| by_trouble(left, right));
            // A third of the window at most explains what is wrong, and one line counts the servers that are left out. A row
            // says more than either.
            let (_, details) = self.rows(&servers[..room], (limit / 3).min(room.saturating_sub(2)));
            let shown = room.saturating_sub(details.len() + 1);
            let (mut lines, details) = self.rows(&servers[..shown], details.len());
            lines.push(self.cut(&left_out(&servers[shown..])));
            (lines, details)
        };
        lines.append(&mut totals);
        lines.extend(details);
        lines
    }

    /// The header and a line for each server, and what these lines could not hold, in `most` lines at most.
    fn rows(&self, servers: &[&ServerReport], most: usize) -> (Vec<String>, Vec<String>) {
        let limit = self.screen.columns();
        let id_width = limit.map_or(usize::MAX, |limit| self.id_width(servers, limit));
        let cells: Vec<Vec<Cell>> = servers.iter().map(|server| self.cells(server, id_width)).collect();
        let table = Table { columns: &COLUMNS, rows: &cells };
        let widths = table.widths(limit);
        let mut lines = vec![self.cut(&table.header(&widths))];
        for row in &cells {
            // In a very narrow window the row is cut, without its colours: the cut must not end within one.
            let line = |colours| table.row(row, &widths, Overflow::Cut, colours).remove(0);
            let plain = line(false);
            let cut = self.cut(&plain);
            lines.push(if cut == plain { line(self.screen.colours) } else { cut });
        }
        let mut details = Vec::new();
        let reasons: Vec<_> = servers.iter().map(|server| (server, self.left_over(server, &widths))).collect();
        let is_cut = |server: &ServerReport| !widths.hold(&COLUMNS, "SERVER", server.model_id.as_str());
        let explained = reasons.iter().filter(|(_, reasons)| !reasons.is_empty());
        let explained = explained.map(|(server, reasons)| (server, reasons.join("; ")));
        // Why a server is in trouble comes before an id that is only long.
        let long = reasons.iter().filter(|(server, reasons)| reasons.is_empty() && is_cut(server));
        let address = |server: &ServerReport| {
            let url = base_url(server);
            if widths.hold(&COLUMNS, "URL", &url) { String::new() } else { url }
        };
        for (server, text) in explained.chain(long.map(|(server, _)| (server, address(server)))) {
            if details.len() >= most {
                break;
            }
            details.extend(self.detail(server, &text));
        }
        if details.len() > most {
            details.truncate(most);
            if let Some(last) = details.last_mut() {
                *last = cut(&format!("{last} …"), limit.unwrap_or(usize::MAX));
            }
        }
        (lines, details)
    }

    /// The columns for ids: as many as they need, unless one long id would push the addresses and notes of all servers out of
    /// the window. In a very narrow one, an id gives up room for the phase, and for the sign that the row was cut.
    fn id_width(&self, servers: &[&ServerReport], limit: usize) -> usize {
        let widest = |title: &str, width: &dyn Fn(&ServerReport) -> usize| {
            servers.iter().map(|server| width(server)).max().unwrap_or_default().max(title.len())
        };
        let phase = widest("PHASE", &|server| phase(server).len());
        let url = widest("URL", &|server| base_url(server).len());
        let note = widest("NOTE", &|server| self.note(server).len().min(LEAST_NOTE));
        let beside_phase = limit.saturating_sub(phase + table::GAP + 1);
        limit.saturating_sub(phase + url + note + 3 * table::GAP).max(LEAST_ID.min(beside_phase))
    }

    fn cells(&self, server: &ServerReport, id_width: usize) -> Vec<Cell> {
        vec![
            cut_inside(server.model_id.as_str(), id_width).into(),
            Cell::coloured(phase(server), style_of(server.phase)),
            base_url(server).into(),
            server.pid.map_or_else(String::new, |pid| pid.to_string()).into(),
            if server.is_running { age(server.uptime_seconds).into() } else { Cell::default() },
            if server.restarts > 0 { server.restarts.to_string().into() } else { Cell::default() },
            server.last_failure.as_ref().map_or_else(String::new, |failure| failure_and_age(failure, self.now)).into(),
            speed(server).into(),
            ready_via(server).into(),
            server.llama_version.clone().unwrap_or_default().into(),
            self.note(server).into(),
        ]
    }

    /// What the row of a server could not hold of its note and its failure; nothing where rows have any width.
    fn left_over(&self, server: &ServerReport, widths: &Widths) -> Vec<String> {
        let mut parts = Vec::new();
        if self.screen.size.is_none() {
            return parts;
        }
        let note = self.note(server);
        if !widths.hold(&COLUMNS, "NOTE", &note) {
            parts.push(for_cell(&note).into_owned());
        }
        if let Some(failure) = &server.last_failure {
            let shown = failure_and_age(failure, self.now);
            // A note that tells the failure is not repeated.
            if !note.contains(&failure.detail) && !widths.hold(&COLUMNS, "LAST FAILURE", &shown) {
                parts.push(format!("last failure {shown}: {}", for_cell(&failure.detail)));
            }
            let restarts = server.restarts.to_string();
            if server.restarts > 0 && !widths.hold(&COLUMNS, "RESTARTS", &restarts) {
                parts.push(format!("restarts: {restarts}"));
            }
        }
        parts
    }

    /// A text about a server below the table, wrapped.
    fn detail(&self, server: &ServerReport, text: &str) -> Vec<String> {
        let width = self.screen.columns().unwrap_or(usize::MAX);
        let text = if text.is_empty() { server.model_id.to_string() } else { format!("{}: {text}", server.model_id) };
        let lines = wrap(&text, width.saturating_sub(INDENT).max(1)).into_iter().enumerate();
        let indented = |(at, line): (usize, String)| if at == 0 { line } else { format!("{:INDENT$}{line}", "") };
        lines.map(indented).map(|line| self.cut(&line)).collect()
    }

    /// How many servers are ready, and what is wrong with the configuration.
    fn totals(&self, one_line_each: bool) -> Vec<String> {
        let StatusReport { servers, profile, guardian, configuration_refused, router, .. } = self.report;
        // Of the servers that are shown, which need not be all.
        let ready = servers.iter().filter(|server| server.is_ready).count();
        let running = servers.iter().filter(|server| server.is_running).count();
        let total = servers.len();
        let profile = profile.as_ref().map_or_else(String::new, |profile| format!(" · profile {profile}"));
        let notice = self.notice.map_or_else(String::new, |notice| format!(" · {notice}"));
        let guardian = match guardian {
            Some(GuardianReport { restarts: restarts @ 1.., .. }) => format!(" · guardian restarts: {restarts}"),
            _ => String::new(),
        };
        let mut lines = vec![format!("{ready} of {total} ready, {running} running{profile}{guardian}{notice}")];
        lines.extend(router.as_deref().map(router_line));
        if let Some(why) = configuration_refused {
            let mut problems = why.lines();
            let first = for_cell(problems.next().unwrap_or_default()).into_owned();
            let all = || with_options(" (`llama-warden check` shows it all)");
            let more = problems.next().map_or_else(String::new, |_| all());
            lines.push(format!("a changed configuration is refused: {first}{more}"));
        }
        match self.screen.columns() {
            Some(width) if !one_line_each => lines.iter().flat_map(|line| wrap(line, width)).collect(),
            _ => lines.iter().map(|line| self.cut(line)).collect(),
        }
    }

    /// The note of a server.
    fn note(&self, server: &ServerReport) -> String {
        let left_out = match (&self.report.router, &self.report.profile) {
            (Some(router), _) if router.on_demand => "on demand",
            (_, None) => "not enabled",
            (_, Some(profile)) => &format!("not in profile {profile}"),
        };
        note(server, left_out)
    }

    fn cut(&self, line: &str) -> String {
        self.screen.columns().map_or_else(|| line.to_owned(), |width| cut(line, width))
    }
}

/// `crashed 4m ago`: a reason, and its age in one unit, so that a table does not change every second.
pub fn failure_and_age(failure: &FailureReport, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(failure.at.as_unix_seconds() as i64).max(0);
    let (number, unit) = match seconds {
        0..60 => (seconds, 's'),
        60..3600 => (seconds / 60, 'm'),
        3600..86_400 => (seconds / 3600, 'h'),
        _ => (seconds / 86_400, 'd'),
    };
    format!("{} {number}{unit} ago", failure.reason)
}

/// `… and 478 more: 470 ready, 8 idle`.
fn left_out(servers: &[&ServerReport]) -> String {
    let counts = PhaseName::ALL.into_iter().filter_map(|phase| {
        let count = servers.iter().filter(|server| server.phase == phase).count();
        (count > 0).then(|| format!("{count} {phase}"))
    });
    format!("… and {} more: {}", servers.len(), counts.collect::<Vec<_>>().join(", "))
}

fn style_of(phase: PhaseName) -> Style {
    let colour = match phase {
        PhaseName::Ready => AnsiColor::Green,
        PhaseName::Failed | PhaseName::Unready => AnsiColor::Red,
        PhaseName::Launching | PhaseName::Starting | PhaseName::Loading => AnsiColor::Cyan,
        PhaseName::Stopping | PhaseName::BackingOff => AnsiColor::Yellow,
        PhaseName::Idle | PhaseName::Exited => AnsiColor::BrightBlack,
    };
    Style::new().fg_color(Some(Color::Ansi(colour)))
}

#[cfg(test)]
mod tests {
    use llama_warden_api_types::FailureReport;
    use llama_warden_component_kit::{card, server};
    use llama_warden_events::{BootId, FailureReason, RouterCard, ServerId, Uptime};
    use llama_warden_state::{ServerRecord, Snapshot};

    use jiff::SignedDuration;
    use unicode_width::UnicodeWidthStr;

    use super::*;
    use crate::screen::ScreenSize;

    fn now() -> Timestamp {
        "2026-11-22T13:05:01Z".parse().expect("valid")
    }

    /// A server that is down, with the failure `reason` where one is named.
    fn report(phase: PhaseName, reason: Option<FailureReason>) -> ServerReport {
        let record = ServerRecord::new(card(&server("a")).into(), Uptime::default());
        let at = llama_warden_events::Timestamp::new(now() - SignedDuration::from_secs(250));
        let failure = |reason| FailureReport { reason, detail: "why".to_owned(), at, lines: Vec::new() };
        ServerReport {
            phase,
            last_failure: reason.map(failure),
            restarts: 10,
            ..ServerReport::of(&server("a"), &record, Uptime::default())
        }
    }

    #[test]
    fn a_server_without_a_note_is_down_because_it_is_left_out() {
        let noted = |report| ServerReport { note: Some("stopped by hand".to_owned()), ..report };
        let left_out = |phase| ServerReport { enabled: false, ..report(phase, None) };
        let table = [
            (noted(report(PhaseName::Exited, None)), "stopped by hand"),
            (noted(left_out(PhaseName::Exited)), "stopped by hand"),
            (report(PhaseName::Idle, None), ""),
            (left_out(PhaseName::Idle), "left out"),
            (left_out(PhaseName::Exited), "left out"),
            (left_out(PhaseName::Ready), ""),
        ];
        for (report, expected) in table {
            assert_eq!(note(&report, "left out"), expected, "{:?}", report.phase);
        }
    }

    fn report_of(servers: Vec<ServerReport>) -> StatusReport {
        let nothing = StatusReport::of(&Snapshot::new(BootId::from_random(1)), Uptime::default());
        StatusReport { total_servers: servers.len(), servers, ..nothing }
    }

    fn shown(report: &StatusReport, columns: Option<usize>, limit: Option<usize>) -> Vec<String> {
        let size = columns.map(|columns| ScreenSize { columns, rows: 24 });
        StatusTable { report, now: now(), screen: Screen { size, colours: false }, notice: None }.lines(limit)
    }

    /// Servers `s0`, `s1`, and so on: every seventh has failed with a long detail, every fifth loads.
    fn fleet(count: usize) -> StatusReport {
        let server = |number: usize| {
            let (phase, reason) = match number {
                _ if number % 7 == 3 => (PhaseName::Failed, Some(FailureReason::ModelInvalid)),
                _ if number % 5 == 2 => (PhaseName::Loading, None),
                _ => (PhaseName::Ready, None),
            };
            let mut report = report(phase, reason);
            report.model_id = ServerId::new(&format!("s{number}")).expect("valid");
            if reason.is_some() {
                report.note = Some(format!("model-invalid: {}", "error loading model: ".repeat(20)));
            }
            report
        };
        report_of((0..count).map(server).collect())
    }

    #[test]
    fn a_server_that_requests_start_is_on_demand_and_the_table_says_where_they_go() {
        let router = |on_demand| RouterCard {
            base_url: "http://127.0.0.1:8080".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: Some(8080),
            on_demand,
            needs_key: false,
        };
        let idle = ServerReport { enabled: false, ..report(PhaseName::Idle, None) };
        for (on_demand, expected) in [(true, "on demand"), (false, "not enabled")] {
            let report = StatusReport { router: Some(Box::new(router(on_demand))), ..report_of(vec![idle.clone()]) };
            let text =
                StatusTable { screen: Screen { size: None, colours: false }, ..StatusTable::now(&report) }.text();
            assert!(text.lines().nth(1).is_some_and(|row| row.ends_with(expected)), "{text}");
            assert!(
                text.ends_with("one address for all models: http://127.0.0.1:8080/v1 (`model` is the server's id)")
            );
        }
    }

    #[test]
    fn a_server_that_is_left_out_is_told_from_one_that_is_not_enabled() {
        let idle = || vec![ServerReport { enabled: false, ..report(PhaseName::Idle, None) }];
        for (profile, expected) in [(Some("night"), "not in profile night"), (None, "not enabled")] {
            let report = StatusReport { profile: profile.map(str::to_owned), ..report_of(idle()) };
            let lines = shown(&report, None, None);
            assert!(lines.iter().any(|line| line.ends_with(expected)), "{lines:#?}");
        }
    }

    #[test]
    fn the_totals_count_the_servers_that_are_shown() {
        let ready = ServerReport { is_ready: true, is_running: true, ..report(PhaseName::Ready, None) };
        let whole = report_of(vec![ready, report(PhaseName::Failed, None)]);
        let named = StatusReport { total_servers: 50, ready_servers: 40, running_servers: 45, ..whole };
        let lines = shown(&named, None, None);
        assert!(lines.contains(&"1 of 2 ready, 1 running".to_owned()), "{lines:#?}");
    }

    #[test]
    fn a_table_fits_into_every_window() {
        for (servers, columns, rows) in [
            (0, 80, 23),
            (3, 80, 23),
            (3, 20, 9),
            (12, 100, 40),
            (500, 80, 23),
            (500, 160, 50),
            (500, 9, 3),
            (500, 1, 1),
            (500, 80, 0),
        ] {
            let lines = shown(&fleet(servers), Some(columns), Some(rows));
            assert!(lines.len() <= rows, "{servers} servers in {columns}x{rows}: {lines:#?}");
            let widest = lines.iter().map(|line| line.width()).max().unwrap_or_default();
            assert!(widest <= columns, "{servers} servers in {columns}x{rows}: {lines:#?}");
        }
    }

    #[test]
    fn trouble_comes_first_where_not_every_server_fits() {
        let lines = shown(&fleet(500), Some(80), Some(23));
        assert!(lines[1].starts_with("s3 ") && lines[1].contains("failed"), "{lines:#?}");
        let rest = lines.iter().position(|line| line.starts_with("… and ")).expect("a count of the others");
        assert!(lines[rest].contains("ready") && lines[rest].contains("loading"), "{lines:#?}");
        assert!(lines[rest + 1].starts_with("0 of 500 ready"), "{lines:#?}");
        assert!(lines[rest + 2].starts_with("s3: model-invalid: error loading"), "details come below: {lines:#?}");
    }

    #[test]
    fn a_small_window_shows_the_worst_server_and_what_its_phase_is() {
        let mut report = fleet(12);
        report.servers[0].model_id = ServerId::new(&"s".repeat(64)).expect("valid");
        for (columns, rows) in [(80, 4), (20, 4), (20, 23)] {
            let lines = shown(&report, Some(columns), Some(rows));
            let worst = lines.iter().find(|line| line.starts_with("s3 "));
            assert!(worst.is_some_and(|line| line.contains("failed")), "{columns}x{rows}: {lines:#?}");
        }
    }

    #[test]
    fn servers_are_in_natural_order_and_a_cut_note_is_told_in_full_below() {
        let lines = shown(&fleet(11), Some(80), None);
        let row = |id: &str| lines.iter().position(|line| line.starts_with(&format!("{id} "))).expect(id);
        assert!(row("s9") < row("s10"), "{lines:#?}");
        let detail = lines.iter().position(|line| line.starts_with("s3: ")).expect("a detail");
        assert!(detail > row("s10"), "{lines:#?}");
        let told = lines[detail..].join(" ").matches("error").count();
        assert_eq!(told, 20 * 2, "s3 and s10: {lines:#?}");
        // A pipe has no width, and one line a server.
        let piped = shown(&fleet(11), None, None);
        assert_eq!(piped.len(), 1 + 11 + 1, "{piped:#?}");
    }

    #[test]
    fn the_table_has_the_address_the_restarts_and_the_last_failure() {
        let server = ServerReport {
            last_failure: report(PhaseName::Failed, Some(FailureReason::Crashed)).last_failure,
            ..report(PhaseName::Ready, None)
        };
        let lines = shown(&report_of(vec![server]), None, None);
        for (title, value) in [("URL", "http://127.0.0.1:8001"), ("RESTARTS", "10"), ("LAST FAILURE", "crashed 4m ago")]
        {
            let at = lines[0].find(title).expect(title);
            assert!(lines[1][at..].starts_with(value), "{title}: {lines:#?}");
        }
    }

    #[test]
    fn a_long_id_leaves_room_for_the_addresses_and_is_told_in_full_below() {
        let long = ["q4_k_m", "q8_0"].map(|end| format!("qwen3-coder-480b-a35b-instruct-2507-{end}"));
        let ids = [long[0].as_str(), &long[1], "embed"];
        let named = |id| ServerReport { model_id: ServerId::new(id).expect("valid"), ..report(PhaseName::Ready, None) };
        let report = report_of(ids.map(named).to_vec());
        let lines = shown(&report, Some(64), None);
        assert!(lines[0].contains("URL") && lines[1].contains("http://127.0.0.1:8001"), "{lines:#?}");
        let rows: Vec<_> = lines[1..4].iter().map(|line| line.split(' ').next().unwrap_or_default()).collect();
        assert_eq!(rows, ["embed", "qwen3-coder-48…t-2507-q4_k_m", "qwen3-coder-48…uct-2507-q8_0"]);
        for id in long {
            assert!(lines.join(" ").contains(&id), "{id}: {lines:#?}");
            let wide = shown(&report, Some(100), None);
            assert!(wide[2..4].iter().any(|line| line.starts_with(&id)), "{id}: {wide:#?}");
        }
    }

    #[test]
    fn a_phase_is_coloured_and_nothing_else() {
        let report = report_of(vec![report(PhaseName::Ready, None)]);
        let view =
            StatusTable { report: &report, now: now(), screen: Screen { size: None, colours: true }, notice: None };
        let lines = view.lines(None);
        assert!(lines[1].starts_with("a       \u{1b}[32mready\u{1b}[0m  http"), "{lines:?}");
    }
}
