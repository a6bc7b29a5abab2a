//! The lateness of each sender as a plot: the share of its pictures that are later than so many microseconds, on an idle
//! machine and beside busy processes. Both axes are logarithmic, to show the one picture in a hundred.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::rows::{Row, Sender};

const SIZE: (u32, u32) = (1280, 680);

/// Height of the legend below the panels, in pixels.
const LEGEND: u32 = 72;
const FONT: &str = "Helvetica, Arial, 'Liberation Sans', sans-serif";
const INK: RGBColor = RGBColor(0x1f, 0x29, 0x33);
const QUIET: RGBColor = RGBColor(0x6b, 0x77, 0x85);
const GRID: RGBColor = RGBColor(0xe6, 0xea, 0xee);

/// The left end of the x axis, in microseconds. Earlier pictures are drawn there.
const FIRST: f64 = 1.0;

type Drawn = Result<(), Box<dyn std::error::Error + Send + Sync>>;

pub(crate) fn svg(rows: &[Row]) -> anyhow::Result<String> {
    let mut text = String::new();
    draw(&mut text, rows).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(text)
}

fn font(size: u32, color: RGBColor) -> TextStyle<'static> {
    let mut style = TextStyle::from((FONT, size).into_font());
    style.color = color.to_backend_color();
    style
}

fn draw(text: &mut String, rows: &[Row]) -> Drawn {
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (head, body) = root.split_vertically(84);
    head.draw_text("How late pictures leave", &font(27, INK), (28, 18))?;
    let what = "Share of the pictures that leave later than so many microseconds after the ideal line; kernel stamps";
    head.draw_text(what, &font(16, QUIET), (28, 54))?;
    let (body, foot) = body.split_vertically(SIZE.1 - 84 - LEGEND);
    let (left, right) = body.split_horizontally(SIZE.0 / 2);
    panel(&left, "Idle machine", rows, false)?;
    panel(&right, "Beside four busy processes", rows, true)?;
    for (n, row) in drawn(rows).filter(|row| !row.busy).enumerate() {
        let (style, label) = look(row);
        let (x, y) = (72 + (n as i32 / 2) * 236, 14 + (n as i32 % 2) * 26);
        foot.draw(&PathElement::new(vec![(x, y), (x + 28, y)], style))?;
        foot.draw_text(&label, &font(14, INK).pos(Pos::new(HPos::Left, VPos::Center)), (x + 38, y))?;
    }
    root.present()?;
    Ok(())
}

/// The rows that are drawn. The bare sender's curves of many stations would cover ours, which look the same.
fn drawn(rows: &[Row]) -> impl Iterator<Item = &Row> {
    rows.iter().filter(|row| !row.runs.is_empty() && (row.sender != Sender::Bare || row.stations == 1))
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    rows: &[Row],
    busy: bool,
) -> Drawn {
    area.draw_text(title, &font(19, INK), (72, 6))?;
    let mut chart = ChartBuilder::on(area)
        .margin_top(36)
        .margin_right(24)
        .x_label_area_size(48)
        .y_label_area_size(72)
        .build_cartesian_2d((FIRST..100_000f64).log_scale(), (0.001..1f64).log_scale())?;
    let span = |us: &f64| match *us {
        us if us >= 1000.0 => format!("{:.0} ms", us / 1000.0),
        us => format!("{us:.0} us"),
    };
    let share = |share: &f64| match *share {
        share if share > 0.9 => "all".to_owned(),
        share => format!("1 in {:.0}", 1.0 / share),
    };
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(WHITE)
        .axis_style(QUIET)
        .label_style(font(14, QUIET))
        .x_label_formatter(&span)
        .y_label_formatter(&share)
        .x_labels(6)
        .y_labels(4)
        .x_desc("later than")
        .draw()?;
    for row in drawn(rows).filter(|row| row.busy == busy) {
        let mut values = row.deviations();
        values.sort_unstable();
        let (all, mut line) = (values.len() as f64, Vec::new());
        let mut step = 0usize;
        // Every value of the tail; elsewhere only points that the eye can tell apart.
        while let Some(&value) = values.get(step) {
            let x = (value as f64 / 1e3).clamp(FIRST, 100_000.0);
            line.push((x, ((all - step as f64) / all).max(0.001)));
            step += ((values.len() - step) / 100).max(1);
        }
        chart.draw_series(LineSeries::new(line, look(row).0))?;
    }
    Ok(())
}

/// A curve's style and label. Ours are blue, darker the more stations; real-time priority makes a curve bold.
fn look(row: &Row) -> (ShapeStyle, String) {
    let depth = f64::from(row.stations).log10() / 3.0;
    let mix = |from: u8, to: u8| (f64::from(from) + (f64::from(to) - f64::from(from)) * depth) as u8;
    let color = match row.sender {
        Sender::Ours => RGBColor(mix(0x5a, 0x08), mix(0xb0, 0x22), mix(0xf0, 0x4a)),
        Sender::Live => RGBColor(0x3f, 0xa3, 0x6b),
        Sender::Bare => RGBColor(0x9a, 0xa2, 0xaa),
        Sender::GStreamer => RGBColor(0xc4, 0x7d, 0x0c),
        Sender::Ffmpeg => RGBColor(0xb8, 0x32, 0x2c),
    };
    let style = ShapeStyle { color: color.into(), filled: false, stroke_width: if row.fifo { 3 } else { 1 } };
    let many = if row.stations == 1 { String::new() } else { format!(" x {}", row.stations) };
    let fifo = if row.fifo { ", SCHED_FIFO" } else { "" };
    (style, format!("{}{many}{fifo}", row.sender.name()))
}
