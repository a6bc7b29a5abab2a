//! Which of the two formats of metrics a client wants, and the older one of them.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

/// A format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus's text format 0.0.4, which every reader of metrics knows.
    Text,
    /// OpenMetrics 1.0 text.
    OpenMetrics,
}

impl Format {
    /// Its media type.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// OpenMetrics if a request with these `headers` asks for it by its name, and for the text format no more than for it.
    pub(super) fn wanted(headers: &HeaderMap) -> Format {
        let (mut text, mut open) = (0.0, 0.0);
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        for range in values.flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(|part| part.trim().to_ascii_lowercase());
            let kind = parts.next().unwrap_or_default();
            let (mut quality, mut known) = (1.0_f32, true);
            for part in parts {
                match part
                    .split_once('=')
                    .map(|(name, value)| (name.trim_end(), value.trim().trim_matches('"')))
                {
                    // A weight that is no number is no reason to choose.
                    Some(("q", value)) => quality = value.parse().unwrap_or(0.0),
                    // "0.0.1" is the draft of 1.0.0. No later version is written here.
                    Some(("version", value)) => known = ["1.0.0", "0.0.1", "0.0.4"].contains(&value),
                    _ => {}
                }
            }
            match kind.as_str() {
                "application/openmetrics-text" if known => open = quality.max(open),
                "text/plain" if known => text = quality.max(text),
                _ => {}
            }
        }
        if open > 0.0 && open >= text { Format::OpenMetrics } else { Format::Text }
    }
}

/// OpenMetrics text as Prometheus's text format: the metadata of a counter bears the name of its samples, there are no
/// units, and no end is marked. `openmetrics` has `# HELP` before `# TYPE`, as `prometheus-client` writes it.
pub(super) fn to_text_format(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut help = None;
    let mut push = |parts: &[&str]| {
        parts.iter().for_each(|part| text.push_str(part));
        text.push('\n');
    };
    for line in openmetrics.lines() {
        let Some(meta) = line.strip_prefix("# ") else {
            push(&[line]);
            continue;
        };
        let mut words = meta.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("HELP"), Some(name), Some(sentence)) => help = Some((name, sentence)),
            (Some("TYPE"), Some(name), Some(kind)) => {
                let suffix = if kind == "counter" { "_total" } else { "" };
                if let Some((_, sentence)) = help.take().filter(|(family, _)| *family == name) {
                    push(&["# HELP ", name, suffix, " ", sentence]);
                }
                push(&["# TYPE ", name, suffix, " ", if kind == "unknown" { "untyped" } else { kind }]);
            }
            // UNIT and EOF.
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn openmetrics_is_sent_only_to_clients_that_ask_for_it() {
        let wanted = |accept: &[&'static str]| {
            let headers = accept.iter().map(|value| (ACCEPT, HeaderValue::from_static(value))).collect();
            Format::wanted(&headers)
        };
        for accept in [
            &[][..],
            &["text/plain"],
            &["*/*"],
            &["text/html,application/xhtml+xml,*/*;q=0.8"],
            &["application/json"],
            &["application/openmetrics-text;q=0"],
            &["application/openmetrics-text;q=0.2, text/plain;version=0.0.4;q=0.5"],
            &["application/openmetrics-text; version=2.0.0"],
            &["application/openmetrics-text;q=much"],
            &["application/*"],
            &[""],
        ] {
            assert_eq!(wanted(accept), Format::Text, "{accept:?}");
        }
        for accept in [
            &["application/openmetrics-text"][..],
            &["Application/OpenMetrics-Text ; Version=\"1.0.0\""],
            // Prometheus 2.42 and 3.5.
            &[
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            ],
            &[
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            ],
            &["text/plain;q=0.5", "application/openmetrics-text"],
        ] {
            assert_eq!(wanted(accept), Format::OpenMetrics, "{accept:?}");
        }
    }

    #[test]
    fn the_text_format_has_no_units_and_names_counters_as_their_samples() {
        let openmetrics = "# HELP sent_bytes Bytes \\\\ sent.\n# TYPE sent_bytes counter\n# UNIT sent_bytes bytes\n\
                           sent_bytes_total{name=\"# TYPE a counter\"} 7\n# HELP up Up.\n# TYPE up gauge\nup 1\n# EOF\n";
        let text = "# HELP sent_bytes_total Bytes \\\\ sent.\n# TYPE sent_bytes_total counter\n\
                    sent_bytes_total{name=\"# TYPE a counter\"} 7\n# HELP up Up.\n# TYPE up gauge\nup 1\n";
        assert_eq!(to_text_format(openmetrics), text);
    }
}
