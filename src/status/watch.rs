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

use super::client::{StatusError, fetch};
use super::rows::{NUMBERS, rows, summary};
use crate::text_table::widths;
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

/// Shows the stations of the broadcaster at `address` until q, Esc or Ctrl-C is pressed, or `stop` turns true. Then, and
/// after a panic, the terminal is as it was before.
///
/// # Errors
/// Standard output is not a terminal, or the terminal is gone.
pub fn watch(address: &str, stop: &AtomicBool) -> io::Result<()> {
    let mut terminal = ratatui::try_init()?;
    let shown = show(&mut terminal, address, stop);
    ratatui::restore();
    shown
}

fn show(terminal: &mut DefaultTerminal, address: &str, stop: &AtomicBool) -> io::Result<()> {
    let answers = ask(address.to_owned());
    let mut dashboard = Dashboard { address: address.to_owned(), ..Dashboard::default() };
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
fn ask(address: String) -> mpsc::Receiver<Result<Vec<StationStatus>, StatusError>> {
    // The thread waits until its last answer is taken, so that no old answers queue up.
    let (answers, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let (_never, pause) = mpsc::channel::<()>();
        while answers.send(fetch(&address)).is_ok() {
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
        let [head, body, foot] =
            Layout::vertical([Constraint::Length(2), Constraint::Min(1), Constraint::Length(1)])
                .areas(frame.area());
        let quiet = Style::new().add_modifier(Modifier::DIM);
        let attention = Style::new().fg(Color::Yellow);
        let state = match (&self.lost, self.age) {
            (Some(reason), Some(age)) => {
                Line::styled(format!("{} s old. {reason}; retrying", age.as_secs()), attention)
            }
            (Some(reason), None) => Line::styled(format!("{reason}; retrying"), attention),
            (None, None) => Line::styled(format!("asking {} ...", self.address), quiet),
            (None, Some(_)) => Line::raw(summary(&self.stations)),
        };
        let title = Line::styled(format!("stationcast  {}", self.address), Modifier::BOLD);
        frame.render_widget(Paragraph::new(Text::from(vec![title, state])), head);

        let rows = rows(&self.stations);
        let widths = widths(&rows).map(|width| Constraint::Length(width as u16));
        let cells =
            |row: [String; 15]| row.into_iter().zip(NUMBERS).map(|(cell, number)| aligned(cell, number));
        let mut rows = rows.into_iter();
        let heads = rows.next().into_iter().flat_map(cells);
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
            .column_spacing(2)
            .row_highlight_style(Modifier::REVERSED);
        frame.render_stateful_widget(table, body, &mut self.selected);
        frame.render_widget(Line::styled("q ends   arrows and page keys scroll", quiet), foot);
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

    fn screen(dashboard: &mut Dashboard) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(130, 6)).unwrap();
        terminal.draw(|frame| dashboard.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| (0..130).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..6).map(line).collect()
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
        assert!(lines[2].starts_with("id  name    state  now        rate  audience  aired"), "{lines:?}");
        assert!(lines[3].starts_with(" 2  Nature  film   -    30000/1001         3   1234"), "{lines:?}");
        let error = StatusError::Unreachable { address: "a:1".into(), reason: "gone".into() };
        dashboard.update(Err(error));
        dashboard.age = Some(Duration::from_secs(7));
        let lost = screen(&mut dashboard);
        assert!(lost[1].starts_with("7 s old. no broadcaster answers at http://a:1/: gone"), "{lost:?}");
        assert_eq!(lost[3], lines[3]);
    }
}
