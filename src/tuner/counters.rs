//! What a tuner counts.

use std::ops::AddAssign;

/// Counts of one [`Tuner`](super::Tuner) since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TunerCounters {
    /// Datagrams received, of any kind.
    pub datagrams: u64,
    /// Bytes of these datagrams (UDP payload).
    pub bytes: u64,
    /// Datagrams that are neither RTP nor a kind of RTP/JPEG that we can read.
    pub malformed: u64,
    /// Datagrams that the key of an encrypted station does not open: strangers', replays, or of a key that is not known.
    pub unopened: u64,
    /// RTP packets of another payload type.
    pub other_payload: u64,
    /// RTP packets of another sender while the followed one was alive, or with a sequence number far from its last ones.
    pub other_sender: u64,
    /// RTP packets from another address than the one that the directory names.
    pub other_source: u64,
    /// Packets received again.
    pub duplicates: u64,
    /// Packets that arrived before one with a lower sequence number.
    pub reordered: u64,
    /// Packets that arrived after they had been given up.
    pub late: u64,
    /// Packets that never arrived, or arrived late.
    pub packets_lost: u64,
    /// Whole pictures.
    pub pictures: u64,
    /// Pictures sent and not received whole. While a station is silent that should send ([`Tuner::expect`](super::Tuner::expect)), the pictures
    /// that were due since are included; if its next packet tells that none was sent, they are taken back.
    pub pictures_lost: u64,
    /// Whole pictures dropped because the caller did not poll in time.
    pub overrun: u64,
    /// Times another sender took over, or the same one started over.
    pub restarts: u64,
}

impl AddAssign for TunerCounters {
    fn add_assign(&mut self, more: TunerCounters) {
        let TunerCounters {
            datagrams,
            bytes,
            malformed,
            unopened,
            other_payload,
            other_sender,
            other_source,
            duplicates,
            reordered,
            late,
            packets_lost,
            pictures,
            pictures_lost,
            overrun,
            restarts,
        } = more;
        self.datagrams += datagrams;
        self.bytes += bytes;
        self.malformed += malformed;
        self.unopened += unopened;
        self.other_payload += other_payload;
        self.other_sender += other_sender;
        self.other_source += other_source;
        self.duplicates += duplicates;
        self.reordered += reordered;
        self.late += late;
        self.packets_lost += packets_lost;
        self.pictures += pictures;
        self.pictures_lost += pictures_lost;
        self.overrun += overrun;
        self.restarts += restarts;
    }
}
