//! The sections of the manual pages that a command line does not tell: keys, exit status, environment, files, examples.

/// A section of a manual page.
#[derive(Debug, Clone)]
pub struct ManualSection {
    title: &'static str,
    /// A term, such as a key or a command line, and what it means.
    entries: Vec<(String, String)>,
}

/// The page of the viewer tells the keys that its documentation has: they are written down once.
const VIEWER_DOCUMENTATION: &str = include_str!("../../docs/viewer.md");

impl ManualSection {
    fn new(title: &'static str, entries: &[(&str, &str)]) -> ManualSection {
        let entries = entries.iter().map(|(term, text)| ((*term).to_owned(), (*text).to_owned())).collect();
        ManualSection { title, entries }
    }

    pub(super) fn roff(&self) -> String {
        let entries = self.entries.iter().map(|(term, text)| entry(term, text));
        format!(".SH \"{}\"\n{}", self.title, entries.collect::<String>())
    }
}

/// A term in bold, and below it a text.
pub(super) fn entry(term: &str, text: &str) -> String {
    format!(".TP\n\\fB{}\\fR\n{}\n", escaped(term), escaped(text))
}

/// `text` as roff shows it: a backslash begins an escape, a dot or a quote at the start of a line a request, and a bare hyphen may
/// become a dash that no shell understands.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

fn exit_status(wrong: &str) -> ManualSection {
    ManualSection::new(
        "EXIT STATUS",
        &[("0", "Success."), ("1", "A failure while running. Standard error says why."), ("2", wrong)],
    )
}

const LOG: (&str, &str) = (
    "RUST_LOG",
    "What is logged on standard error: error, warn, info, debug or trace, for all or, as in stationcast::rtsp=debug, for a part.",
);
const COLOUR: (&str, &str) =
    ("NO_COLOR", "If it is set and not empty, the log on a terminal has no colours.");

/// The sections of broadcaster(1).
pub fn broadcaster() -> Vec<ManualSection> {
    vec![
        ManualSection::new(
            "KEYS",
            &[
                ("q, Esc, Ctrl-C", "End broadcaster status --watch."),
                ("Up, Down, Page Up, Page Down", "Scroll its table."),
            ],
        ),
        exit_status("Wrong usage, a wrong line-up, or a film in it that cannot be played."),
        ManualSection::new(
            "ENVIRONMENT",
            &[
                LOG,
                COLOUR,
                ("XDG_CACHE_HOME", "Where the folder stationcast of the reels is, by default ~/.cache."),
                (
                    "XDG_STATE_HOME",
                    "Where the folder stationcast is, by default ~/.local/state: the certificate that is made, and the numbers of publishers.",
                ),
                ("STATIONCAST_TOKEN", "A token for broadcaster status, unless --token-file names one."),
                (
                    "OPENCV_FFMPEG_LOGLEVEL",
                    "How much FFmpeg says on standard error about films; -8 silences it.",
                ),
            ],
        ),
        ManualSection::new(
            "FILES",
            &[
                ("stations.toml", "The line-up, in the current folder unless --config names another file."),
                ("/etc/stationcast/stations.toml", "The line-up of the service stationcast.service."),
                (
                    "~/.cache/stationcast",
                    "Reels: the encoded pictures of films. Everything in it can be made again.",
                ),
                (
                    "/usr/share/doc/stationcast",
                    "The documentation. stations.md explains each key of the line-up.",
                ),
            ],
        ),
        ManualSection::new(
            "EXAMPLES",
            &[
                (
                    "broadcaster play film.mp4",
                    "Put a film on air on this machine, and print how to watch it.",
                ),
                (
                    "broadcaster play --interface eth0 --name Foyer opening.mp4 films/",
                    "Put a film and a folder of films on air for the network at eth0.",
                ),
                (
                    "broadcaster check --config stations.toml",
                    "Print the line-up as it was understood and what its films are, or what is wrong with it.",
                ),
                ("broadcaster --config stations.toml", "Put every station on air, until Ctrl-C."),
                (
                    "broadcaster publish rtsp://anna:TOKEN@192.0.2.7:8554/publish/Anna film.mp4",
                    "Publish a film, live, to the broadcaster at 192.0.2.7.",
                ),
                (
                    "broadcaster publish rtsp://anna:TOKEN@192.0.2.7:8554/publish/Anna /dev/video0 --microphone --preview",
                    "Publish the camera and the microphone of this machine, and watch what is on air.",
                ),
                ("broadcaster status --watch", "Watch the stations of a running broadcaster."),
                (
                    "broadcaster control 2 hold \"back at 14:00\"",
                    "Have station 2 of a running broadcaster show a slate with this text; resume ends that.",
                ),
                (
                    "broadcaster token add anna --admin",
                    "Make a token with which anna gives such orders by HTTP, with POST to /api/stations/2/control and /api/reload.",
                ),
                (
                    "broadcaster sdp 2 >2.sdp; ffplay -protocol_whitelist file,udp,rtp -localaddr 127.0.0.1 -i 2.sdp",
                    "Watch station 2 with ffplay, from its group on loopback.",
                ),
            ],
        ),
        ManualSection::new("SEE ALSO", &[("viewer(1), ffplay(1), mpv(1), systemctl(1)", "")]),
    ]
}

/// The sections of viewer(1).
pub fn viewer() -> Vec<ManualSection> {
    vec![
        ManualSection { title: "KEYS", entries: keys(VIEWER_DOCUMENTATION) },
        exit_status("Wrong usage."),
        ManualSection::new(
            "ENVIRONMENT",
            &[
                LOG,
                COLOUR,
                ("DISPLAY", "The X11 display on which the window opens."),
                ("XDG_STATE_HOME", "Where the folder stationcast is, by default ~/.local/state."),
                ("STATIONCAST_TOKEN", "The token to show, unless --token-file names one."),
            ],
        ),
        ManualSection::new(
            "FILES",
            &[
                (
                    "~/.local/state/stationcast",
                    "What is remembered from one run to the next, such as the volume and the certificates of directories.",
                ),
                (
                    "stationcast-02-Nature-*.png",
                    "Saved pictures, in the current folder or that of --save-to.",
                ),
                (
                    "/usr/share/doc/stationcast",
                    "The documentation. viewer.md explains each option and each key of the JSON.",
                ),
            ],
        ),
        ManualSection::new(
            "EXAMPLES",
            &[
                (
                    "viewer",
                    "Watch the first station of the broadcaster on this machine or, if there is none, on the network.",
                ),
                (
                    "viewer --directory 192.0.2.7:9688 --station 2",
                    "Watch station 2 of a broadcaster elsewhere.",
                ),
                ("viewer --station 2 --tcp", "The same without multicast."),
                (
                    "viewer --sdp rtsps://tv.example.org:8554/7 --token-file token",
                    "Watch station 7 by TLS, with a token and without a directory.",
                ),
                ("viewer --station 2 --player \"mpv {rtsp}\"", "Watch with mpv."),
                ("viewer --list", "Print the line-up."),
                ("viewer --headless --seconds 5 --json", "Count what arrives in 5 s, as JSON."),
                ("viewer --probe --rtp 239.1.1.1:5004 --interface eth0", "Measure any RTP stream."),
            ],
        ),
        ManualSection::new("SEE ALSO", &[("broadcaster(1), ffplay(1), mpv(1)", "")]),
    ]
}

/// The rows of the table in the section "Keys" of a document in Markdown: `| key | effect |`, without their marks.
fn keys(document: &str) -> Vec<(String, String)> {
    let section = document.lines().skip_while(|line| *line != "## Keys").skip(1);
    let rows = section.take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with('|'));
    // Without the column names and the rule below them.
    rows.skip(2)
        .filter_map(|row| row.trim_matches('|').split_once('|'))
        .map(|row| (plain(row.0), plain(row.1)))
        .collect()
}

fn plain(cell: &str) -> String {
    cell.trim().replace(['`', '*'], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_those_of_the_documentation() {
        let keys = keys(VIEWER_DOCUMENTATION);
        assert!(keys.len() > 10, "{keys:?}");
        let (key, effect) = &keys[0];
        assert!(key == "0-9" && effect.starts_with("choose a station by its number"), "{keys:?}");
        assert!(keys.iter().all(|(key, effect)| !key.is_empty() && !effect.is_empty()));
    }

    #[test]
    fn roff_shows_a_text_as_it_is() {
        assert_eq!(entry("-v", ".profile: a\\b"), ".TP\n\\fB\\-v\\fR\n\\&.profile: a\\eb\n");
    }
}
