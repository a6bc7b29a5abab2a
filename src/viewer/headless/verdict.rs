//! What a headless run says of silence and of a slate, and whether it has failed.

use anyhow::bail;

use super::{HeadlessSummary, Signal};
use crate::media::StationId;

/// What is received: `station 2 "Nature" on 239.77.0.2:5004`.
pub(super) fn subject(station: Option<StationId>, name: &str, group: &str) -> String {
    match station {
        Some(station) => format!("station {station} \"{name}\" on {group}"),
        None if name == group => format!("RTP on {group}"),
        None => format!("\"{name}\" on {group}"),
    }
}

impl HeadlessSummary {
    pub(super) fn subject(&self) -> String {
        subject(self.station, &self.name, &self.group)
    }

    /// The silence of the run, for people; `None` if there was none.
    pub(super) fn silence(&self) -> Option<String> {
        let HeadlessSummary { silent_s, lost_s, .. } = self;
        if self.state == Signal::Lost {
            let why = self.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
            let before = silent_s - lost_s;
            let before = if before > 0.0 { format!(", and for {before:.1} s before") } else { String::new() };
            return Some(format!("no signal for the last {lost_s:.1} s{why}{before}"));
        }
        (*silent_s > 0.0).then(|| format!("no signal for {silent_s:.1} s of it"))
    }

    /// The slate of the run, for people; `None` if there was none.
    pub(super) fn slate(&self) -> Option<String> {
        let reason = self.reason.as_ref().filter(|_| self.state != Signal::Lost);
        let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
        (self.slate_s > 0.0).then(|| format!("a slate for {:.1} s{reason}", self.slate_s))
    }

    /// Whether the run ended while the station was received.
    ///
    /// # Errors
    /// It did not: the sentence says since when.
    pub fn verdict(&self) -> anyhow::Result<()> {
        match self.silence() {
            Some(sentence) if self.state == Signal::Lost => bail!("{}: {sentence}", self.subject()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuner::distribution::Distribution;

    fn summary(state: Signal) -> HeadlessSummary {
        HeadlessSummary {
            station: Some(StationId(2)),
            name: "Nature".into(),
            group: "239.77.0.2:5004".into(),
            state,
            reason: None,
            silent_s: 0.0,
            slate_s: 0.0,
            lost_s: 0.0,
            seconds: 8.0,
            frames: 62,
            fps: 25.0,
            frames_lost: 0,
            frames_dropped: 0,
            packets_lost: 0,
            bytes: 1,
            width: 640,
            height: 368,
            first_picture_ms: 1.0,
            pacing_us: Distribution::default(),
            interval_us: Distribution::default(),
            signed: None,
            unsigned_refused: None,
            other_senders: Vec::new(),
            sound: None,
        }
    }

    #[test]
    fn a_run_that_ends_without_a_signal_fails_with_a_sentence() {
        let good = HeadlessSummary { silent_s: 3.2, ..summary(Signal::Live) };
        assert!(good.verdict().is_ok());
        assert!(good.to_string().ends_with("; no signal for 3.2 s of it"), "{good}");
        let lost = HeadlessSummary { silent_s: 5.5, lost_s: 5.5, ..summary(Signal::Lost) };
        let sentence = "station 2 \"Nature\" on 239.77.0.2:5004: no signal for the last 5.5 s";
        assert_eq!(lost.verdict().unwrap_err().to_string(), sentence);
        assert!(lost.to_string().ends_with("; no signal for the last 5.5 s"), "{lost}");
        let twice = HeadlessSummary { silent_s: 8.5, reason: Some("Connection refused".into()), ..lost };
        let sentence = "no signal for the last 5.5 s (Connection refused), and for 3.0 s before";
        assert!(twice.verdict().unwrap_err().to_string().ends_with(sentence));
    }

    #[test]
    fn a_slate_is_mentioned() {
        let slate = HeadlessSummary {
            slate_s: 4.0,
            reason: Some("the film is missing".into()),
            ..summary(Signal::Slate)
        };
        assert!(slate.verdict().is_ok());
        assert!(slate.to_string().ends_with("; a slate for 4.0 s (the film is missing)"), "{slate}");
        let json = serde_json::to_value(&slate).unwrap();
        assert_eq!(
            (&json["state"], &json["slate_s"], &json["silent_s"]),
            (&"slate".into(), &4.0.into(), &0.0.into())
        );
        assert_eq!((&json["reason"], json.get("lost_s")), (&"the film is missing".into(), None));
    }

    #[test]
    fn a_stream_that_no_directory_lists_has_no_number() {
        let group = "239.77.0.2:5004";
        let stream = HeadlessSummary { station: None, name: group.into(), ..summary(Signal::Live) };
        assert!(stream.to_string().starts_with("RTP on 239.77.0.2:5004: 62 pictures"), "{stream}");
        assert!(serde_json::to_value(&stream).unwrap()["station"].is_null());
        let named = HeadlessSummary { name: "Yard".into(), ..stream };
        assert!(named.to_string().starts_with("\"Yard\" on 239.77.0.2:5004: "), "{named}");
    }
}
