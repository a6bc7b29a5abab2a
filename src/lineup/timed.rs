//! Media by the time of day: `[[station.at]]`. Pure.

use toml::de::DeValue;

use super::Media;
use super::fields::{Field, Section, kind};
use super::report::{Report, short};

/// The days of the week, from Monday on, as they are written.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// Media that a station shows at a time of day instead of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimedMedia {
    /// When it begins: minutes since midnight of this machine's time, under 1440.
    pub from: u16,
    /// When it ends; if that is not after `from`, on the next day.
    pub to: u16,
    /// The days on which it begins, from Monday on.
    pub days: [bool; 7],
    /// What is shown.
    pub media: Media,
}

impl TimedMedia {
    /// Whether it is shown in this minute of a day; 0 is Monday.
    pub fn is_on(&self, weekday: usize, minute: u16) -> bool {
        let begins_on = |day: usize| self.days[day % 7];
        if self.from < self.to {
            begins_on(weekday) && (self.from..self.to).contains(&minute)
        } else {
            begins_on(weekday) && minute >= self.from || begins_on(weekday + 6) && minute < self.to
        }
    }
}

/// Reads from when to when, and on which days; `None` if one of them is wrong.
pub(super) fn span(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<(u16, u16, [bool; 7])> {
    let fix = "write hours and minutes, as in \"18:00\"";
    let mut minute = |key: &str| {
        let text = section.text(report, key, fix);
        if let Field::Absent = text {
            section.missing(report, key, fix);
        }
        let text = text.value()?;
        let minute = minute(text);
        if minute.is_none() {
            section.wrong::<()>(report, key, format_args!("is no time of day; {fix}"));
        }
        minute
    };
    let (from, to) = (minute("from"), minute("to"));
    let days = days(section, report);
    let (from, to) = (from?, to?);
    if from == to {
        section.wrong::<()>(report, "to", "is when it begins; choose another time");
        return None;
    }
    Some((from, to % DAY, days?))
}

/// Minutes since midnight of `18:00`; `24:00` is the end of the day.
fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str| {
        let is_number = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse::<u16>().ok())?
    };
    let (hours, minutes) = (number(hours)?, number(minutes).filter(|_| minutes.len() == 2)?);
    let at = hours * 60 + minutes;
    (minutes < 60 && at <= DAY).then_some(at)
}

/// The days that `days` lists; all if it is absent.
fn days(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<[bool; 7]> {
    let fix = "list days as in [\"mon\", \"fri\"]";
    let Some(value) = section.get("days") else { return Some([true; 7]) };
    let DeValue::Array(list) = value.get_ref() else {
        section.wrong::<()>(report, "days", format_args!("is {}; {fix}", kind(value.get_ref())));
        return None;
    };
    let mut days = [false; 7];
    for entry in list {
        let day = entry.get_ref().as_str().map(str::to_ascii_lowercase);
        match day.and_then(|day| DAYS.iter().position(|known| *known == day)) {
            Some(day) => days[day] = true,
            None => {
                let typed = short(&report.typed(entry.span()));
                let sentence = format!("has {typed}, which is no day; choose of {}", DAYS.join(", "));
                section.wrong::<()>(report, "days", sentence);
                return None;
            }
        }
    }
    if days == [false; 7] {
        section.wrong::<()>(
            report,
            "days",
            format_args!("is an empty list; {fix}, or leave it out for every day"),
        );
        return None;
    }
    Some(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed(from: &str, to: &str, days: [bool; 7]) -> TimedMedia {
        let (from, to) = (minute(from).unwrap(), minute(to).unwrap() % DAY);
        TimedMedia { from, to, days, media: Vec::new().into() }
    }

    #[test]
    fn it_is_on_from_the_first_minute_to_the_last_of_its_days() {
        let evening = timed("18:00", "19:30", [true; 7]);
        let minutes = |timed: &TimedMedia, day| (0..DAY).filter(|&minute| timed.is_on(day, minute)).count();
        assert!(
            !evening.is_on(0, 18 * 60 - 1) && evening.is_on(0, 18 * 60) && !evening.is_on(0, 19 * 60 + 30)
        );
        let friday = [false, false, false, false, true, false, false];
        let night = timed("22:00", "02:00", friday);
        assert_eq!([3, 4, 5, 6].map(|day| minutes(&night, day)), [0, 120, 120, 0]);
        // Over midnight from Sunday to Monday.
        let sunday = timed("23:00", "01:00", [false, false, false, false, false, false, true]);
        assert_eq!([6, 0, 1].map(|day| minutes(&sunday, day)), [60, 60, 0]);
        assert_eq!(minutes(&timed("20:00", "24:00", friday), 4), 240);
        assert_eq!(minutes(&timed("20:00", "24:00", friday), 5), 0);
        assert_eq!(minutes(&timed("00:00", "24:00", friday), 4), 1440);
    }

    #[test]
    fn times_of_day_are_read() {
        assert_eq!(["0:00", "18:05", "24:00"].map(minute), [Some(0), Some(1085), Some(1440)]);
        assert_eq!(["", "18", "18:5", "18:60", "24:01", "x:00", "+1:00", "1:000"].map(minute), [None; 8]);
    }
}
