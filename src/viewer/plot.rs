//! A plot of a measurement: lateness over time, the intervals, and the cumulative distribution, in one self-contained
//! SVG file.

mod axes;

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use self::axes::{bounds, micros, plain, ticks};
use super::measure::ProbeSummary;
use crate::probe::UnitSample;
use crate::probe::report::{Distribution, Histogram};
use crate::probe::traffic::Verdict;

/// Width and height in pixels of the SVG: wide enough for a slide, high enough for a page.
const SIZE: (u32, u32) = (1280, 900);

/// Height of the text above the panels, in pixels.
const HEADER: u32 = 108;

/// Columns of a long time series. Each is drawn from its minimum to its maximum, so that the file stays small however
/// long the measurement was, and every outlier is visible.
const COLUMNS: usize = 1000;

/// Approximate number of steps of the cumulative curve.
const STEPS: usize = 1200;

const FONT: &str = "Helvetica, Arial, 'Liberation Sans', sans-serif";
const INK: RGBColor = RGBColor(0x1f, 0x29, 0x33);
const QUIET: RGBColor = RGBColor(0x6b, 0x77, 0x85);
const GRID: RGBColor = RGBColor(0xe6, 0xea, 0xee);
const BLUE: RGBColor = RGBColor(0x1d, 0x5f, 0xa6);
const MARKS: [RGBColor; 3] =
    [RGBColor(0x2a, 0x85, 0x55), RGBColor(0xc4, 0x7d, 0x0c), RGBColor(0xb8, 0x32, 0x2c)];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error + Send + Sync>>;

/// Draws a measurement; returns the SVG.
///
/// # Errors
/// The drawing library's; none is known for a drawing in memory.
pub fn svg(summary: &ProbeSummary, samples: &[UnitSample]) -> anyhow::Result<String> {
    let mut text = String::new();
    let drawn = draw(&mut text, summary, samples);
    drawn.map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(text)
}

fn draw(text: &mut String, summary: &ProbeSummary, samples: &[UnitSample]) -> Drawn {
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (head, body) = root.split_vertically(HEADER);
    let (above, below) = body.split_vertically((SIZE.1 - HEADER) * 52 / 100);
    let (left, right) = below.split_horizontally(SIZE.0 / 2);

    let report = &summary.report;
    let late = report.lateness_us.is_some();
    let what = if late { "lateness" } else { "pacing" };
    let value = |sample: &UnitSample| sample.lateness.filter(|_| late).unwrap_or(sample.pacing) as f64 / 1e3;
    let meaning = if late {
        "Lateness: arrival less the sender's due time"
    } else {
        "Pacing: how much longer than the fastest unit each took"
    };
    header(&head, summary, what)?;
    let series: Vec<(f64, f64)> = samples
        .first()
        .map(|first| {
            let at = |sample: &UnitSample| sample.arrival.signed_since(first.arrival) as f64 / 1e9;
            samples.iter().map(|sample| (at(sample), value(sample))).collect()
        })
        .unwrap_or_default();
    if series.is_empty() {
        return note(&above, "No access unit was received from its beginning: nothing to draw.");
    }
    time_series(&above, meaning, what, &series)?;
    histogram(&left, &report.interval_histogram, report.units.nominal_interval_ms)?;
    let distribution = report.lateness_us.or(report.pacing_us).unwrap_or_default();
    cumulative(&right, what, series.into_iter().map(|(_, value)| value).collect(), distribution)?;
    root.present()?;
    Ok(())
}

fn font(size: u32, color: RGBColor) -> TextStyle<'static> {
    let mut style = TextStyle::from((FONT, size).into_font());
    style.color = color.to_backend_color();
    style
}

fn right(style: TextStyle<'static>) -> TextStyle<'static> {
    style.pos(Pos::new(HPos::Right, VPos::Top))
}

fn note(area: &Area, text: &str) -> Drawn {
    area.draw_text(text, &font(18, QUIET), (70, 60))?;
    Ok(())
}

fn header(area: &Area, summary: &ProbeSummary, what: &str) -> Drawn {
    let r = &summary.report;
    let (edge, end) = (28, SIZE.0 as i32 - 28);
    area.draw_text(&format!("Frame pacing of {}", summary.subject()), &font(27, INK), (edge, 20))?;
    let rate = r.packets.bytes_per_s * 8.0 / 1e6;
    let stream = format!(
        "{:.3} units/s · {:.0} packets/s · {rate:.2} Mb/s · {} units in {:.1} s · received by {}",
        r.units.per_s, r.packets.per_s, r.units.received, r.span_s, summary.interface
    );
    area.draw_text(&stream, &font(16, QUIET), (edge, 55))?;
    let mut figures = Vec::new();
    if let Some(d) = r.lateness_us.or(r.pacing_us) {
        figures.push(format!(
            "{what} p50 {} · p99 {} · p99.9 {} · max {}",
            micros(d.p50),
            micros(d.p99),
            micros(d.p999),
            micros(d.max)
        ));
    }
    figures.push(format!("jitter {}", micros(r.jitter.us)));
    figures.push(format!("{} of {} packets lost", r.packets.lost, r.packets.expected));
    if let Some(drift) = r.drift {
        figures.push(format!("drift {:+.2} ± {:.2} ppm", drift.ppm, drift.stderr_ppm));
    }
    if let Some(traffic) = &r.st2110_21 {
        let verdict = match traffic.verdict {
            Verdict::Narrow => "narrow",
            Verdict::NarrowLinear => "narrow linear",
            Verdict::Wide => "wide",
            Verdict::NotCompliant => "not compliant",
            Verdict::NotApplicable => "does not apply",
        };
        figures.push(format!("ST 2110-21 {verdict}"));
    }
    area.draw_text(&figures.join("  |  "), &font(16, INK), (edge, 79))?;
    area.draw_text(&summary.started, &right(font(14, QUIET)), (end, 26))?;
    area.draw_text(&summary.host, &right(font(14, QUIET)), (end, 56))?;
    Ok(())
}

/// Draws the title of a panel; returns the area left for the chart.
fn panel<'a>(area: &Area<'a>, title: &str) -> Result<Area<'a>, Box<dyn Error + Send + Sync>> {
    area.draw_text(title, &font(17, INK), (28, 10))?;
    Ok(area.margin(38, 12, 0, 0))
}

fn time_series(area: &Area, meaning: &str, what: &str, series: &[(f64, f64)]) -> Drawn {
    let area = panel(area, meaning)?;
    let end = series.last().map_or(1.0, |&(at, _)| at).max(1e-3);
    let (low, high) = bounds(series.iter().map(|&(_, value)| value));
    let mut chart = ChartBuilder::on(&area)
        .margin_left(16)
        .margin_right(28)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..end, low..high)?;
    chart
        .configure_mesh()
        .axis_style(GRID.stroke_width(1))
        .bold_line_style(GRID.stroke_width(1))
        .light_line_style(TRANSPARENT)
        .label_style(font(14, QUIET))
        .axis_desc_style(font(14, INK))
        .x_labels(12)
        .y_labels(8)
        .x_label_formatter(&|x| format!("{x}"))
        .y_label_formatter(&|y| plain(*y))
        .x_desc("time, s")
        .y_desc(format!("{what}, µs"))
        .draw()?;
    if low < 0.0 {
        chart.draw_series(LineSeries::new([(0.0, 0.0), (end, 0.0)], QUIET.stroke_width(1)))?;
    }
    if series.len() <= 2 * COLUMNS {
        chart.draw_series(LineSeries::new(series.iter().copied(), BLUE.mix(0.28).stroke_width(1)))?;
        chart.draw_series(series.iter().map(|&at| Circle::new(at, 2, BLUE.filled())))?;
    } else {
        let columns = columns(series, end);
        let bars = columns.iter().map(|&(at, least, most)| {
            PathElement::new(vec![(at, least), (at, most)], BLUE.mix(0.75).stroke_width(1))
        });
        chart.draw_series(bars)?;
        // A column of one value would be a line of length zero.
        chart.draw_series(columns.iter().map(|&(at, _, most)| Circle::new((at, most), 1, BLUE.filled())))?;
    }
    Ok(())
}

/// Time, minimum and maximum of each column that is not empty.
fn columns(series: &[(f64, f64)], end: f64) -> Vec<(f64, f64, f64)> {
    let mut columns = vec![None::<(f64, f64, f64)>; COLUMNS];
    for &(at, value) in series {
        let column = ((at / end * COLUMNS as f64) as usize).min(COLUMNS - 1);
        let (_, least, most) = columns[column].unwrap_or((at, value, value));
        columns[column] = Some((at, value.min(least), value.max(most)));
    }
    columns.into_iter().flatten().collect()
}

fn histogram(area: &Area, histogram: &Histogram, nominal_ms: Option<f64>) -> Drawn {
    let area = panel(area, "Interval between units, first packet to first packet")?;
    let (Some(first), Some(last)) = (histogram.bins.first(), histogram.bins.last()) else {
        return note(&area, "No two successive units were received.");
    };
    let width = histogram.width_us;
    // A margin at both ends, wide enough for a single bin.
    let margin = (width * 2.0).max((last.from_us + width - first.from_us) * 0.03);
    let (low, high) = (first.from_us - margin, last.from_us + width + margin);
    let most = histogram.bins.iter().map(|bin| bin.count).max().unwrap_or(1).max(1) as f64;
    let mut chart = ChartBuilder::on(&area)
        .margin_left(16)
        .margin_right(20)
        .margin_bottom(14)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d(low / 1e3..high / 1e3, 0.0..most * 1.06)?;
    let digits = if high - low < 2.0 {
        4
    } else if high - low < 200.0 {
        3
    } else {
        2
    };
    let outside = match (histogram.below, histogram.above) {
        (0, 0) => String::new(),
        (below, above) => format!("; {below} below and {above} above are not shown"),
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .axis_style(GRID.stroke_width(1))
        .bold_line_style(GRID.stroke_width(1))
        .light_line_style(TRANSPARENT)
        .label_style(font(14, QUIET))
        .axis_desc_style(font(14, INK))
        .x_labels(6)
        .y_labels(6)
        .x_label_formatter(&|x| format!("{x:.digits$}"))
        .y_label_formatter(&|y| plain(*y))
        .x_desc(format!("interval, ms (bins of {} µs{outside})", plain(width)))
        .y_desc("units")
        .draw()?;
    let gap = width * 0.06;
    chart.draw_series(histogram.bins.iter().filter(|bin| bin.count > 0).map(|bin| {
        let (from, to) = (bin.from_us + gap, bin.from_us + width - gap);
        Rectangle::new([(from / 1e3, 0.0), (to / 1e3, bin.count as f64)], BLUE.mix(0.8).filled())
    }))?;
    if let Some(nominal) = nominal_ms.filter(|ms| (low / 1e3..high / 1e3).contains(ms)) {
        let line = [(nominal, 0.0), (nominal, most * 1.06)];
        chart.draw_series(DashedLineSeries::new(line, 5, 4, INK.stroke_width(1)))?;
        // The label goes to the side with more room.
        let (side, nudge) = if nominal * 2e3 > low + high { (HPos::Right, -1.0) } else { (HPos::Left, 1.0) };
        let style = font(13, INK).pos(Pos::new(side, VPos::Top));
        let label = format!("{nominal:.3} by the timestamps");
        let nominal = nominal + nudge * (high - low) / 1e3 * 0.012;
        chart.draw_series([Text::new(label, (nominal, most * 1.05), style)])?;
    }
    Ok(())
}

fn cumulative(area: &Area, what: &str, mut values: Vec<f64>, distribution: Distribution) -> Drawn {
    let area = panel(area, &format!("Share of units with no more {what} than"))?;
    values.sort_unstable_by(f64::total_cmp);
    // Values below this are drawn here, since a logarithmic axis has no zero.
    const LEAST: f64 = 1.0;
    let low = values.first().copied().unwrap_or(LEAST).max(LEAST);
    let low = ticks(low / 10.0, low * 1.000_001).pop().unwrap_or(LEAST);
    let high = values.last().copied().unwrap_or(LEAST).max(LEAST * 10.0) * 1.6;
    let mut chart = ChartBuilder::on(&area)
        .margin_left(4)
        .margin_right(28)
        .margin_bottom(14)
        .x_label_area_size(44)
        .y_label_area_size(58)
        .build_cartesian_2d((low..high).log_scale().with_key_points(ticks(low, high)), 0.0..104.0)?;
    chart
        .configure_mesh()
        .y_max_light_lines(0)
        .axis_style(GRID.stroke_width(1))
        .bold_line_style(GRID.stroke_width(1))
        .light_line_style(GRID.mix(0.45).stroke_width(1))
        .label_style(font(14, QUIET))
        .axis_desc_style(font(14, INK))
        .x_labels(12)
        .y_labels(6)
        .x_label_formatter(&|x| plain(*x))
        .y_label_formatter(&|y| format!("{y:.0} %"))
        .x_desc(format!("{what}, µs (logarithmic)"))
        .draw()?;
    let n = values.len();
    let step = n.div_ceil(STEPS).max(1);
    let mut curve = vec![(low, 0.0)];
    let mut share = 0.0;
    // If there are many values, some are left out, but never in the tail, which readers look for.
    for at in (0..n).filter(|at| at % step == 0 || at + STEPS / 4 >= n) {
        let value = values[at].max(low);
        curve.push((value, share));
        share = (at + 1) as f64 / n as f64 * 100.0;
        curve.push((value, share));
    }
    curve.push((high, 100.0));
    chart.draw_series(LineSeries::new(curve, BLUE.stroke_width(2)))?;
    let marks = [
        (50.0, "p50", distribution.p50),
        (99.0, "p99", distribution.p99),
        (99.9, "p99.9", distribution.p999),
    ];
    let from_left = (high / low).powf(0.03);
    for (n, ((share, name, value), color)) in marks.into_iter().zip(MARKS).enumerate() {
        let value = value.max(low);
        chart.draw_series(DashedLineSeries::new(
            [(value, 0.0), (value, share)],
            4,
            4,
            color.stroke_width(1),
        ))?;
        chart.draw_series([Circle::new((value, share), 4, color.filled())])?;
        // The labels are stacked at the upper left, where the curve never is.
        let style = font(15, color).pos(Pos::new(HPos::Left, VPos::Center));
        let label = format!("{name}  {}", micros(value));
        chart.draw_series([Text::new(label, (low * from_left, 96.0 - 9.0 * n as f64), style)])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{AirTime, RTP_CLOCK};
    use crate::probe::{Probe, Timestamps};
    use crate::wire::rtp::{HEADER_LEN, Header};
    use std::num::NonZeroU32;
    use std::time::Duration;

    fn measured(units: u64) -> (ProbeSummary, Vec<UnitSample>) {
        let mut probe = Probe::new(NonZeroU32::new(RTP_CLOCK).unwrap(), Timestamps::Unknown);
        for n in 0..units {
            let header = Header {
                marker: true,
                payload_type: 26,
                sequence: n as u16,
                timestamp: 3600 * n as u32,
                ssrc: 1,
            };
            let mut packet = [0; HEADER_LEN];
            header.emit(&mut packet);
            let late = Duration::from_micros(n * n % 97);
            let at = AirTime(1_790_000_000_000_000_000) + Duration::from_millis(40 * n) + late;
            probe.packet(at, &packet).unwrap();
        }
        let summary = ProbeSummary {
            station: None,
            name: None,
            group: "239.1.1.1:5004".into(),
            interface: "lo".into(),
            host: "<a host>".into(),
            started: "2026-01-01T00:00:00Z".into(),
            seconds: 10.0,
            kernel_drops: 0,
            receive_buffer_bytes: 212_992,
            report: probe.report().unwrap(),
        };
        (summary, probe.samples())
    }

    #[test]
    fn one_unit_or_many_are_drawn_in_a_small_file() {
        for units in [1, 2, 3, 500, 50_000] {
            let (summary, samples) = measured(units);
            let svg = svg(&summary, &samples).unwrap();
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
            assert!(svg.contains("RTP on 239.1.1.1:5004") && svg.contains("&lt;a host&gt;"), "{units}");
            assert!(!svg.contains("NaN") && !svg.contains("href"), "{units}");
            assert!(svg.len() < 1_000_000, "{units} units: {} bytes", svg.len());
            assert!(!summary.to_string().contains("NaN"));
        }
    }
}
