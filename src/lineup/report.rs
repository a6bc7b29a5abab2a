//! The faults of one file, as sentences that name the place, the value, the rule and the fix.

use std::fmt::Display;
use std::ops::Range;
use std::path::Path;

use super::ConfigError;

/// Collects every fault of a file, so that one run of `check` shows them all.
pub(super) struct Report<'a> {
    file: String,
    text: &'a str,
    faults: Vec<(usize, String)>,
}

impl<'a> Report<'a> {
    pub(super) fn new(file: &Path, text: &'a str) -> Report<'a> {
        Report { file: printable(&file.display().to_string()), text, faults: Vec::new() }
    }

    /// The file's path, as messages show it.
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// The line on which byte `at` lies, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        1 + self.text.bytes().take(at).filter(|&byte| byte == b'\n').count()
    }

    /// The file's text at `span`, on one line, shortened.
    pub(super) fn typed(&self, span: Range<usize>) -> String {
        short(self.text.get(span).unwrap_or_default())
    }

    /// Reports a fault on the line of byte `at`.
    pub(super) fn fault(&mut self, at: usize, sentence: impl Display) {
        self.fault_on(self.line(at), sentence);
    }

    /// Reports a fault on a line.
    pub(super) fn fault_on(&mut self, line: usize, sentence: impl Display) {
        self.faults.push((line, format!("{}:{line}: {sentence}", self.file)));
    }

    /// Reports a fault of the file as a whole.
    pub(super) fn fault_of_file(&mut self, sentence: impl Display) {
        self.faults.push((0, format!("{}: {sentence}", self.file)));
    }

    /// Reports why the text is not TOML, in words for people who write a line-up once a year.
    pub(super) fn syntax(&mut self, errors: Vec<toml::de::Error>) {
        let mut errors: Vec<_> =
            errors.iter().map(|error| (error.span().unwrap_or(0..0), error.message())).collect();
        errors.sort_by_key(|(span, _)| span.start);
        for (span, message) in errors {
            let line = self.line(span.start);
            // One mistake often causes several errors on its line; the first is the one to correct.
            if self.faults.last().is_some_and(|(last, _)| *last == line) {
                continue;
            }
            let typed = self.typed(span.clone());
            let sentence = match message.split(',').next().unwrap_or(message) {
                "duplicate key" => format!("`{typed}` is there twice; keep one of them"),
                "string values must be quoted" if typed.is_empty() => {
                    "there is no value after the =; write one, text in quotes".to_owned()
                }
                "string values must be quoted" if is_truth(&typed) => {
                    format!(
                        "`{typed}` is not a valid value; write true or false, or put text in quotes, as in \"{typed}\""
                    )
                }
                "string values must be quoted" => {
                    format!("`{typed}` is not a valid value; put text in quotes, as in \"{typed}\"")
                }
                "invalid basic string" | "invalid literal string"
                    if message.contains("visible characters") =>
                {
                    "this text has a control character; remove it".to_owned()
                }
                "invalid basic string" | "invalid literal string" => {
                    "this text has no closing quote; end it where it began, on this line".to_owned()
                }
                "invalid float" => {
                    "this is not a number; put text in quotes, as in \"239.77.0.1:5004\"".to_owned()
                }
                "invalid mantissa" | "invalid fraction" => {
                    "a number has digits on both sides of its decimal point; write it as in 0.5".to_owned()
                }
                "unexpected key or value" if is_decimal_comma(self.text, span.start) => {
                    "a number has a decimal point, not a comma; write it as in 0.5".to_owned()
                }
                "unexpected leading zero" => "a number does not begin with 0; remove the 0".to_owned(),
                _ => {
                    let plain = message.strip_suffix(", expected nothing").unwrap_or(message);
                    format!("not TOML: {}", plain.replace('\n', "line break"))
                }
            };
            self.fault(span.start, sentence);
        }
    }

    /// `value` if there is no fault; else all faults, in the order of the file.
    pub(super) fn finish<T>(mut self, value: T) -> Result<T, ConfigError> {
        if self.faults.is_empty() {
            return Ok(value);
        }
        self.faults.sort_by_key(|(line, _)| *line);
        Err(ConfigError { sentences: self.faults.into_iter().map(|(_, sentence)| sentence).collect() })
    }
}

/// Whether `typed` was meant as a boolean, in other words than TOML's.
fn is_truth(typed: &str) -> bool {
    ["true", "false", "yes", "no", "on", "off"].iter().any(|word| typed.eq_ignore_ascii_case(word))
}

/// Whether a number has a decimal comma at byte `at`, as half the world writes it.
fn is_decimal_comma(text: &str, at: usize) -> bool {
    let (before, after) = text.as_bytes().split_at_checked(at).unwrap_or_default();
    before.last().is_some_and(u8::is_ascii_digit) && matches!(after, [b',', b'0'..=b'9', ..])
}

/// The name in `known` that `typed` was probably meant to be.
pub(super) fn nearest<'k>(typed: &str, known: &[&'k str]) -> Option<&'k str> {
    let typed = typed.to_lowercase();
    // A third of the letters may be wrong: "groop" is meant as "group", but "x" is not.
    known
        .iter()
        .map(|&name| (distance(&typed, name), name))
        .filter(|(wrong, name)| *wrong <= (name.len() / 3).max(1))
        .min()
        .map(|(_, name)| name)
}

/// Letters to insert, delete or replace to turn `a` into `b` (Levenshtein distance).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// The names as `a, b and c`.
pub(super) fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// `text` with its control characters escaped, so that a sentence stays on one line.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|character| {
            let escaped = character.is_control().then(|| character.escape_default());
            let plain = escaped.is_none().then_some(character);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

/// `text` on one line, cut to 60 characters.
pub(super) fn short(text: &str) -> String {
    let text = printable(text);
    match text.char_indices().nth(60) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}
