//! How many connections each server may have, by the process's limit of open files: a connection that is refused harms
//! one client, but a film that cannot be opened takes its station off air.

/// Descriptors of the process itself: the log, the runtime, the listeners, announcements; and clients that are being
/// refused.
const PROCESS: u64 = 128;

/// Descriptors of one station: its socket, the ones that listen for other senders and for the reports of receivers, the reels that
/// it plays and records, a film that is being decoded while the next one is opened, and what decoders open for themselves.
/// Measured with the demo line-up, peaks of /proc/PID/fd polled every 50 ms for 5 s: 18 with one station and 24 with three in the
/// first pass, 17 and 21 later, so 3 and 2 a station, one more that listens for others, and two for reports. The rest is a reserve
/// for films that fail, which was not measured.
const STATION: u64 = 10;

/// One descriptor in so many is kept for the reels that clients play on demand: one for each film of a programme, which
/// its clients share.
const ON_DEMAND: u64 = 8;

/// Descriptors of one place of RTSP: the connection, and two sockets of a session by UDP.
const RTSP: u64 = 3;

/// A server that has fewer places is of no use: these few are there in any case.
const LEAST: usize = 8;

/// Most connections of each server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) directory: usize,
    /// Also most sessions of RTSP.
    pub(crate) rtsp: usize,
    pub(crate) http: usize,
}

impl Places {
    /// The places if descriptors are no matter. `docs/protocol.md`, `docs/rtsp.md` and `docs/web.md` document them.
    pub(crate) const ALL: Places = Places { directory: 1024, rtsp: 2048, http: 1024 };

    /// The places that leave `stations` stations what they need, if the process may open `files`; `None`: any number.
    pub(crate) fn within(files: Option<u64>, stations: usize) -> Places {
        let Some(files) = files else { return Places::ALL };
        let most = Places::ALL;
        let wanted = most.directory as u64 + most.http as u64 + RTSP * most.rtsp as u64;
        let left = files.saturating_sub(reserve(files, stations)).min(wanted);
        let scaled =
            |most: usize| ((most as u128 * u128::from(left) / u128::from(wanted)) as usize).max(LEAST);
        Places { directory: scaled(most.directory), rtsp: scaled(most.rtsp), http: scaled(most.http) }
    }

    /// What to say about the limit `files` with `stations` stations; `None` if it is high enough.
    pub(crate) fn note(self, files: Option<u64>, stations: usize) -> Option<String> {
        let files = files.filter(|_| self != Places::ALL)?;
        let Places { directory, rtsp, http } = self;
        let short = if files <= reserve(files, stations) {
            format!(", too few for {stations} stations: films may fail to open")
        } else {
            String::new()
        };
        Some(format!(
            "at most {files} files may be open{short}; connections are limited to {directory} (directory), {rtsp} \
             (rtsp) and {http} (http): raise the limit (LimitNOFILE= of systemd, or ulimit -n) to have more"
        ))
    }
}

/// The descriptors that connections must leave.
fn reserve(files: u64, stations: usize) -> u64 {
    PROCESS + STATION * stations as u64 + files / ON_DEMAND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_stations_their_descriptors() {
        assert_eq!(Places::within(None, 999), Places::ALL);
        assert_eq!(Places::within(Some(u64::MAX), 999), Places::ALL);
        assert_eq!(Places::within(Some(1 << 20), 999), Places::ALL);
        assert_eq!(Places::within(Some(1024), 3), Places { directory: 92, rtsp: 184, http: 92 });
        assert_eq!(Places::within(Some(1024), 50), Places { directory: 33, rtsp: 67, http: 33 });
        for (files, stations) in [(1024, 3), (1024, 50), (4096, 50), (4096, 300), (9000, 3)] {
            let Places { directory, rtsp, http } = Places::within(Some(files), stations);
            let connections = directory as u64 + http as u64 + RTSP * rtsp as u64;
            assert!(connections + 10 * stations as u64 + 128 <= files, "{files} with {stations}");
        }
    }

    #[test]
    fn a_limit_that_is_too_low_leaves_a_few_places_and_is_told_of() {
        let places = Places::within(Some(256), 50);
        assert_eq!(places, Places { directory: 8, rtsp: 8, http: 8 });
        assert_eq!(
            places.note(Some(256), 50).unwrap(),
            "at most 256 files may be open, too few for 50 stations: films may fail to open; connections are limited \
             to 8 (directory), 8 (rtsp) and 8 (http): raise the limit (LimitNOFILE= of systemd, or ulimit -n) to \
             have more"
        );
        let note = Places::within(Some(1024), 3).note(Some(1024), 3).unwrap();
        assert!(
            note.starts_with("at most 1024 files may be open; connections are limited to 92 (directory)"),
            "{note}"
        );
        assert_eq!(Places::ALL.note(Some(1 << 20), 3), None);
        assert_eq!(Places::within(Some(0), 0), Places { directory: 8, rtsp: 8, http: 8 });
    }
}
