//! Axes and numbers of a plot: which ticks an axis has, how far it goes, and how a number is written.

/// 1, 2 and 5 times the powers of ten from `low` to `high`; over more than three decades, only the powers.
pub(super) fn ticks(low: f64, high: f64) -> Vec<f64> {
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let steps: &[f64] = if high / low > 1e3 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let ticks = decades.flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)));
    ticks.filter(|tick| (low..=high).contains(tick)).collect()
}

/// Range of an axis: minimum to maximum with a margin, extended to zero if zero is near.
pub(super) fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (least, most) = values.fold((f64::MAX, f64::MIN), |(least, most), v| (v.min(least), v.max(most)));
    let least = if least > 0.0 && least < most * 0.5 { 0.0 } else { least };
    let margin = ((most - least) * 0.05).max(1.0);
    (if least == 0.0 { 0.0 } else { least - margin }, most + margin)
}

/// A number for a label: `850`, `12,500`, `0.2`.
pub(super) fn plain(value: f64) -> String {
    if value != 0.0 && value.abs() < 10.0 && value.fract().abs() > 1e-9 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.abs());
    let sign = if value < 0.0 && digits != "0" { "−" } else { "" };
    let mut text = String::from(sign);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time in microseconds, in the unit that reads best.
pub(super) fn micros(us: f64) -> String {
    match us.abs() {
        large if large >= 1e6 => format!("{:.2} s", us / 1e6),
        large if large >= 1e4 => format!("{:.1} ms", us / 1e3),
        large if large >= 1e3 => format!("{:.2} ms", us / 1e3),
        large if large >= 100.0 => format!("{us:.0} µs"),
        _ => format!("{us:.1} µs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_and_labels_are_round_and_readable() {
        assert_eq!(ticks(3.0, 120.0), [5.0, 10.0, 20.0, 50.0, 100.0]);
        assert_eq!(ticks(1.0, 2e3), [1.0, 10.0, 100.0, 1000.0]);
        assert_eq!([0.0, 0.2, 850.0, -12_500.4, 1e6].map(plain), ["0", "0.2", "850", "−12,500", "1,000,000"]);
        assert_eq!(
            [3.12, 250.0, 1500.0, 25_000.0, 2e6].map(micros),
            ["3.1 µs", "250 µs", "1.50 ms", "25.0 ms", "2.00 s"]
        );
    }
}
