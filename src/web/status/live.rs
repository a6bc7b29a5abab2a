//! `broadcaster status --watch`: the table, kept up to date in a terminal.

#![expect(clippy::disallowed_methods, reason = "a shell: it says how old what it shows is")]

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

use super::{NUMBERS, StatusError, fetch, rows, summary};
use crate::text_table::widths;
use crate::web::api::{Sending, Station};

/// How often the broadcaster is asked.
const EVERY: Duration = Duration::from_secs(1);

/// How long a key may wait to be seen, and a signal.
const TICK: Duration = Duration::from_millis(100);

/// What is on the screen.
#[derive(Default)]
struct View {
    address: String,
    stations: Vec<Station>,
    /// Why the last question had no answer.
    lost: Option<String>,
    /// Of the last answer.
    age: Option<Duration>,
    /// Which row is chosen: more stations than lines are scrolled.
    rows: TableState,
}

/// Shows the stations of the broadcaster at `address` until q, Esc or Ctrl-C is pressed, or `stop` turns true. The terminal
/// is then as it was before, also after a panic.
///
/// # Errors
/// This is no terminal, or it is gone.
pub fn watch(address: &str, stop: &AtomicBool) -> io::Result<()> {
    let mut terminal = ratatui::try_init()?;
    let shown = show(&mut terminal, address, stop);
    ratatui::restore();
    shown
}

fn show(terminal: &mut DefaultTerminal, address: &str, stop: &AtomicBool) -> io::Result<()> {
    let answers = ask(address.to_owned());
    let mut view = View { address: address.to_owned(), ..View::default() };
    let mut answered = None;
    while !stop.load(Relaxed) {
        for answer in answers.try_iter() {
            if answer.is_ok() {
                answered = Some(Instant::now());
            }
            view.take(answer);
        }
        view.age = answered.map(|at| at.elapsed());
        terminal.draw(|frame| view.draw(frame))?;
        if event::poll(TICK)?
            && let Event::Key(key) = event::read()?
            && key.kind != KeyEventKind::Release
        {
            let interrupt = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
            match key.code {
                _ if interrupt => return Ok(()),
                KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                KeyCode::Down => view.rows.scroll_down_by(1),
                KeyCode::Up => view.rows.scroll_up_by(1),
                KeyCode::PageDown => view.rows.scroll_down_by(10),
                KeyCode::PageUp => view.rows.scroll_up_by(10),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Asks again and again on a thread of its own, so that keys are not kept waiting, until nobody listens.
fn ask(address: String) -> mpsc::Receiver<Result<Vec<Station>, StatusError>> {
    // The newest is enough: the thread waits until it was taken.
    let (answers, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let (_never, pause) = mpsc::channel::<()>();
        while answers.send(fetch(&address)).is_ok() {
            if pause.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    });
    receiver
}

impl View {
    fn take(&mut self, answer: Result<Vec<Station>, StatusError>) {
        match answer {
            Ok(stations) => {
                self.stations = stations;
                self.lost = None;
            }
            // What was known stays on the screen.
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
                Line::styled(format!("{} s old. {reason}; trying again", age.as_secs()), attention)
            }
            (Some(reason), None) => Line::styled(format!("{reason}; trying again"), attention),
            (None, None) => Line::styled(format!("asking {} ...", self.address), quiet),
            (None, Some(_)) => Line::raw(summary(&self.stations)),
        };
        let title = Line::styled(format!("stationcast  {}", self.address), Modifier::BOLD);
        frame.render_widget(Paragraph::new(Text::from(vec![title, state])), head);

        let rows = rows(&self.stations);
        let widths = widths(&rows).map(|width| Constraint::Length(width as u16));
        let cells =
            |row: [String; 13]| row.into_iter().zip(NUMBERS).map(|(cell, number)| aligned(cell, number));
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
        frame.render_stateful_widget(table, body, &mut self.rows);
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

    use super::super::tests::station;
    use super::*;

    fn screen(view: &mut View) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(130, 6)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| (0..130).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..6).map(line).collect()
    }

    #[test]
    fn a_wide_name_is_whole() {
        let mut view = View::default();
        let mut wide = station(2, Sending::Film, None);
        wide.name = "日本放送".into();
        view.take(Ok(vec![wide]));
        let lines = screen(&mut view);
        // The cell beside a wide character is empty.
        let line: String = lines[3].split_whitespace().collect();
        assert!(line.starts_with("2日本放送film"), "{lines:?}");
    }

    #[test]
    fn what_was_known_stays_on_the_screen_when_the_broadcaster_is_lost() {
        let mut view = View { address: "127.0.0.1:8088".into(), ..View::default() };
        assert_eq!(screen(&mut view)[1], "asking 127.0.0.1:8088 ...");
        view.take(Ok(vec![station(2, Sending::Film, None)]));
        view.age = Some(Duration::ZERO);
        let lines = screen(&mut view);
        assert_eq!(lines[0], "stationcast  127.0.0.1:8088");
        assert!(lines[1].starts_with("1 station, 0 off air, 3 watching; 1234 pictures aired"), "{lines:?}");
        assert!(lines[2].starts_with("id  name    state        rate  audience  aired"), "{lines:?}");
        assert!(lines[3].starts_with(" 2  Nature  film   30000/1001         3   1234"), "{lines:?}");
        let error = StatusError::Unreachable { address: "a:1".into(), reason: "gone".into() };
        view.take(Err(error));
        view.age = Some(Duration::from_secs(7));
        let lost = screen(&mut view);
        assert!(lost[1].starts_with("7 s old. no broadcaster answers at http://a:1/: gone"), "{lost:?}");
        assert_eq!(lost[3], lines[3]);
    }
}
