//! `broadcaster status --watch`: the table, kept up to date in a terminal.

#![expect(clippy::disallowed_methods, reason = "a shell: it shows the age of its data")]

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Alignment, Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};
use ratatui::{DefaultTerminal, Frame};

use super::client::{StatusError, StatusTarget, fetch};
use super::fit::fitted;
use super::rows::{N, NUMBERS, rows, summary};
use crate::text_table::{GAP, shortened, wrapped};
use crate::web::api::{Sending, StationStatus};

/// Time between two requests.
const INTERVAL: Duration = Duration::from_secs(1);

/// Longest time until a key or a signal has an effect.
const TICK: Duration = Duration::from_millis(100);

/// What is on the screen.
#[derive(Default)]
struct Dashboard {
    address: String,
    stations: Vec<StationStatus>,
    /// Why the last request failed; `None` if it did not.
    lost: Option<String>,
    /// Age of the last answer.
    age: Option<Duration>,
    /// The selected row: if there are more stations than lines, the table scrolls to it.
    selected: TableState,
}

/// Shows the stations of a broadcaster until q, Esc or Ctrl-C is pressed, or `stop` turns true. Then, and
/// after a panic, the terminal is as it was before.
///
/// # Errors
/// Standard output is not a terminal, or the terminal is gone.
pub fn watch(target: &StatusTarget, stop: &AtomicBool) -> io::Result<()> {
    let mut terminal = ratatui::try_init()?;
    let shown = show(&mut terminal, target, stop);
    ratatui::restore();
    shown
}

fn show(terminal: &mut DefaultTerminal, target: &StatusTarget, stop: &AtomicBool) -> io::Result<()> {
    let answers = ask(target.clone());
    let mut dashboard = Dashboard { address: target.address.clone(), ..Dashboard::default() };
    let mut answered = None;
    while !stop.load(Relaxed) {
        for answer in answers.try_iter() {
            if answer.is_ok() {
                answered = Some(Instant::now());
            }
            dashboard.update(answer);
        }
        dashboard.age = answered.map(|at| at.elapsed());
        terminal.draw(|frame| dashboard.draw(frame))?;
        if event::poll(TICK)?
            && let Event::Key(key) = event::read()?
            && key.kind != KeyEventKind::Release
        {
            let interrupt = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
            match key.code {
                _ if interrupt => return Ok(()),
                KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                KeyCode::Down => dashboard.selected.scroll_down_by(1),
                KeyCode::Up => dashboard.selected.scroll_up_by(1),
                KeyCode::PageDown => dashboard.selected.scroll_down_by(10),
                KeyCode::PageUp => dashboard.selected.scroll_up_by(10),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Asks once every [`INTERVAL`] until the receiver is dropped; on a thread of its own, so that keys do not wait.
fn ask(target: StatusTarget) -> mpsc::Receiver<Result<Vec<StationStatus>, StatusError>> {
    // The thread waits until its last answer is taken, so that no old answers queue up.
    let (answers, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let (_never, pause) = mpsc::channel::<()>();
        while answers.send(fetch(&target)).is_ok() {
            if pause.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    });
    receiver
}

impl Dashboard {
    fn update(&mut self, answer: Result<Vec<StationStatus>, StatusError>) {
        match answer {
            Ok(stations) => {
                self.stations = stations;
                self.lost = None;
            }
            // The last answer stays on the screen.
            Err(error) => self.lost = Some(error.to_string()),
        }
    }

    fn draw(&mut self, frame: &mut Frame<'_>) {
        let quiet = Style::new().add_modifier(Modifier::DIM);
        let attention = Style::new().fg(Color::Yellow);
        let (state, style) = match (&self.lost, self.age) {
            (Some(reason), Some(age)) => (format!("{} s old. {reason}; retrying", age.as_secs()), attention),
            (Some(reason), None) => (format!("{reason}; retrying"), attention),
            (None, None) => (format!("asking {} ...", self.address), quiet),
            (None, Some(_)) => (summary(&self.stations), Style::new()),
        };
        // The totals are broken between two, the sentences between words.
        let end = if style == Style::new() { &[',', ';'][..] } else { &[' '][..] };
        let columns = usize::from(frame.area().width);
        let title = shortened(&format!("stationcast  {}", self.address), columns);
        let mut top = vec![Line::styled(title, Modifier::BOLD)];
        let pieces = state.split_inclusive(end).map(str::trim);
        top.extend(wrapped(pieces, columns).into_iter().map(|line| Line::styled(line, style)));
        let [head, body, foot] = Layout::vertical([
            Constraint::Length(top.len() as u16),
            Constraint::Min(1),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(Paragraph::new(Text::from(top)), head);

        let rows = rows(&self.stations);
        let shown = fitted(&rows, columns);
        let widths = shown.iter().map(|&(_, width)| Constraint::Length(width as u16));
        let cells = |row: [String; N]| {
            let cell = |&(n, width): &(usize, usize)| aligned(shortened(&row[n], width), NUMBERS[n]);
            shown.iter().map(cell).collect::<Vec<_>>()
        };
        let mut rows = rows.into_iter();
        let heads = rows.next().into_iter().flat_map(&cells);
        let lines = rows.zip(&self.stations).map(|(row, station)| {
            let style = match station.state {
                _ if self.lost.is_some() => quiet,
                Sending::Film => Style::new(),
                Sending::Slate | Sending::Starting => attention,
            };
            Row::new(cells(row)).style(style)
        });
        let table = Table::new(lines, widths)
            .header(Row::new(heads).style(quiet))
            .column_spacing(GAP as u16)
            .row_highlight_style(Modifier::REVERSED);
        frame.render_stateful_widget(table, body, &mut self.selected);
        let keys = shortened("q ends   arrows and page keys scroll", columns);
        frame.render_widget(Line::styled(keys, quiet), foot);
    }
}

fn aligned(cell: String, number: bool) -> Cell<'static> {
    let alignment = if number { Alignment::Right } else { Alignment::Left };
    Cell::new(Text::from(cell).alignment(alignment))
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::rows::tests::station;
    use super::*;
    use crate::web::api::Quantiles;

    fn screen(dashboard: &mut Dashboard) -> Vec<String> {
        screen_of(dashboard, 130, 6)
    }

    fn screen_of(dashboard: &mut Dashboard, columns: u16, lines: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
        terminal.draw(|frame| dashboard.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let line =
            |y| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..lines).map(line).collect()
    }

    /// Two stations with long numbers, one of which has a long name and a reason.
    fn two() -> Dashboard {
        let mut stations = vec![
            station(2, Sending::Film, None),
            station(412, Sending::Slate, Some("cannot read a.mp4: permission denied")),
        ];
        stations[1].name = "The harbour camera at the northern pier, by night".into();
        for station in &mut stations {
            station.aired = 1_234_567;
            station.lateness_us = Quantiles { p50: Some(20), p99: Some(75) };
        }
        let mut dashboard = Dashboard { age: Some(Duration::ZERO), ..Dashboard::default() };
        dashboard.update(Ok(stations));
        dashboard
    }

    #[test]
    fn at_any_width_a_number_is_whole_or_not_there() {
        let whole: Vec<String> = rows(&two().stations).concat();
        let words: Vec<&str> = whole.iter().flat_map(|cell| cell.split_whitespace()).collect();
        for columns in 1..=220 {
            let lines = screen_of(&mut two(), columns, 24);
            let from = lines.iter().position(|line| line.starts_with(" id ")).unwrap_or(lines.len());
            for word in lines[from.min(23)..23].iter().flat_map(|line| line.split_whitespace()) {
                // A name or a reason that was shortened has the mark.
                let start = word.strip_suffix('…');
                let is_known = match start {
                    Some(start) => words.iter().any(|known| known.starts_with(start)),
                    None => words.contains(&word),
                };
                assert!(is_known, "{word} at {columns} columns: {lines:#?}");
            }
            for part in summary(&two().stations).split_whitespace().filter(|_| columns >= 24) {
                assert!(lines.iter().any(|line| line.contains(part)), "{part} at {columns}: {lines:#?}");
            }
        }
    }

    #[test]
    fn a_narrow_terminal_shortens_names_and_then_drops_whole_columns() {
        let shown = |columns| {
            let lines = screen_of(&mut two(), columns, 12);
            let head = lines.iter().position(|line| line.starts_with(" id ")).expect("a head");
            lines[head..head + 3].join("\n")
        };
        let table = |lines: [&str; 3]| lines.join("\n");
        assert_eq!(
            shown(120),
            table([
                " id  name               state     rate  audience    aired  skipped  squeezed  errors    p50    p99  reason",
                "  2  Nature             film   29.97/s         3  1234567        1         2       4  20 us  75 us",
                "412  The harbour came…  slate  29.97/s         3  1234567        1         2       4  20 us  75 us  cannot read a.mp4: …",
            ])
        );
        assert_eq!(
            shown(80),
            table([
                " id  name          state  audience  skipped  errors    p99  reason",
                "  2  Nature        film          3        1       4  75 us",
                "412  The harbour…  slate         3        1       4  75 us  cannot read a.mp4: …",
            ])
        );
        assert_eq!(shown(20), table([" id  name      state", "  2  Nature    film", "412  The har…  slate"]));
    }

    #[test]
    fn a_wide_name_is_not_cut() {
        let mut dashboard = Dashboard::default();
        let mut wide = station(2, Sending::Film, None);
        wide.name = "日本放送".into();
        dashboard.update(Ok(vec![wide]));
        let lines = screen(&mut dashboard);
        // A wide character takes two cells; the second is empty.
        let line: String = lines[3].split_whitespace().collect();
        assert!(line.starts_with("2日本放送film"), "{lines:?}");
    }

    #[test]
    fn the_last_answer_stays_on_the_screen_when_the_broadcaster_is_lost() {
        let mut dashboard = Dashboard { address: "127.0.0.1:8088".into(), ..Dashboard::default() };
        assert_eq!(screen(&mut dashboard)[1], "asking 127.0.0.1:8088 ...");
        dashboard.update(Ok(vec![station(2, Sending::Film, None)]));
        dashboard.age = Some(Duration::ZERO);
        let lines = screen(&mut dashboard);
        assert_eq!(lines[0], "stationcast  127.0.0.1:8088");
        assert!(lines[1].starts_with("1 station, 0 off air, 3 watching; 1234 pictures aired"), "{lines:?}");
        assert!(lines[2].starts_with("id  name    state  now     rate  audience  aired"), "{lines:?}");
        assert!(lines[3].starts_with(" 2  Nature  film   -    29.97/s         3   1234"), "{lines:?}");
        let error = StatusError::Unreachable { address: "a:1".into(), reason: "gone".into() };
        dashboard.update(Err(error));
        dashboard.age = Some(Duration::from_secs(7));
        let lost = screen(&mut dashboard);
        assert!(lost[1].starts_with("7 s old. no broadcaster answers at http://a:1/: gone"), "{lost:?}");
        assert_eq!(lost[3], lines[3]);
    }
}
