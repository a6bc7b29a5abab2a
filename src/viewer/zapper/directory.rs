//! The directory as the zapper sees it: the connection, and what the directory has told. It survives a lost connection.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc;
use std::time::Instant;

use super::ZapperInput;
use crate::directory::{
    DirectoryClient, Endpoint, State, StationInfo, StationNow, StationSigner, StationSound,
};
use crate::media::{AirTime, SoundCodec, StationId};
use crate::tuner::Expected;
use crate::tuner::signed::{Requirement, Unverifiable};

/// A directory, and what it has told.
pub(super) struct DirectoryView {
    /// `None`: there is no directory, and the line-up stays as it is.
    client: Option<DirectoryClient>,
    /// The directory's address, and how it is reached.
    pub(super) endpoint: Endpoint,
    /// Our address in the connection; before there is one, the directory's own address.
    local: IpAddr,
    connected: bool,
    line_up: Vec<StationInfo>,
    /// The addresses that stations are sent from, as far as the directory tells them.
    sources: BTreeMap<StationId, IpAddr>,
    /// How the stations' sound is sent, as far as the directory tells it.
    sounds: BTreeMap<StationId, StationSound>,
    /// Whether the keys of signed stations are asked for.
    wants_signers: bool,
    /// The keys of signed stations, and the moment at which the directory told them, by its clock; `None` if it has not.
    signers: Option<(AirTime, BTreeMap<StationId, StationSigner>)>,
    /// What is on the stations, as far as the directory tells it.
    now: BTreeMap<StationId, StationNow>,
    /// The time by the broadcaster's clock when the directory told that, and when it was here.
    told: Option<(AirTime, Instant)>,
}

impl DirectoryView {
    /// Connects to a directory. Its events go to `sender`. `wants_signers`: it is asked for the keys of signed stations.
    pub(super) fn connect(
        endpoint: Endpoint,
        wants_signers: bool,
        sender: &mpsc::Sender<ZapperInput>,
    ) -> DirectoryView {
        let client = Some(client(endpoint.clone(), wants_signers, sender));
        DirectoryView { client, wants_signers, ..DirectoryView::of(endpoint, Vec::new()) }
    }

    /// A line-up of one stream that no directory lists.
    pub(super) fn of_stream(stream: StationInfo) -> DirectoryView {
        DirectoryView { connected: true, ..DirectoryView::of(stream.group.into(), vec![stream]) }
    }

    fn of(endpoint: Endpoint, line_up: Vec<StationInfo>) -> DirectoryView {
        DirectoryView {
            client: None,
            local: endpoint.address.ip(),
            endpoint,
            connected: false,
            line_up,
            sources: BTreeMap::new(),
            sounds: BTreeMap::new(),
            wants_signers: false,
            signers: None,
            now: BTreeMap::new(),
            told: None,
        }
    }

    /// Connects to another directory instead. The last line-up stays until that directory has sent one.
    pub(super) fn move_to(&mut self, address: SocketAddr, sender: &mpsc::Sender<ZapperInput>) {
        (self.endpoint, self.local) = (self.endpoint.at(address), address.ip());
        self.client = Some(client(self.endpoint.clone(), self.wants_signers, sender));
    }

    /// Our address in the connection; before there is one, the directory's own address.
    pub(super) fn local(&self) -> IpAddr {
        self.local
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected
    }

    /// All stations, ascending by number, as last listed.
    pub(super) fn line_up(&self) -> &[StationInfo] {
        &self.line_up
    }

    /// A station of the line-up.
    pub(super) fn station(&self, id: StationId) -> Option<&StationInfo> {
        self.line_up.iter().find(|station| station.id == id)
    }

    /// The address that a station is sent from, if the directory tells it and its family is that of the group.
    pub(super) fn source_of(&self, station: &StationInfo) -> Option<IpAddr> {
        let source = self.sources.get(&station.id).copied();
        source.filter(|source| source.is_ipv4() == station.group.is_ipv4())
    }

    /// How a station's sound is sent, and its codec, if it has some that we can decode.
    pub(super) fn sound_of(&self, id: StationId) -> Option<(&StationSound, SoundCodec)> {
        let sound = self.sounds.get(&id)?;
        Some((sound, SoundCodec::of_encoding(&sound.codec)?))
    }

    /// What a station should be sending. Without a connection nothing is known: the broadcaster may have ended.
    pub(super) fn expected_of(&self, id: StationId) -> Expected {
        match self.station(id).filter(|_| self.connected && self.client.is_some()) {
            Some(StationInfo { state: State::Film | State::Slate { .. }, rate, .. }) => {
                Expected::Pictures(*rate)
            }
            _ => Expected::Unknown,
        }
    }

    /// Asks for the picture now on air of a station, and for a place in its audience.
    pub(super) fn tune(&self, id: StationId) {
        if let Some(client) = &self.client {
            client.tune(id);
        }
    }

    /// Asks for all keys again.
    pub(super) fn ask_keys(&self) {
        if let Some(client) = &self.client {
            client.ask_keys();
        }
    }

    /// Asks for the films of a span.
    pub(super) fn ask_guide(&self, from: AirTime, until: AirTime) {
        if let Some(client) = &self.client {
            client.ask_guide(from, until);
        }
    }

    /// Notes that the connection exists, with our address in it. Sources are told anew.
    pub(super) fn set_connected(&mut self, local: IpAddr) {
        self.local = local;
        self.connected = true;
        self.sources.clear();
        self.sounds.clear();
        self.now.clear();
    }

    /// Notes that the connection is lost.
    pub(super) fn set_lost(&mut self) {
        self.connected = false;
    }

    pub(super) fn set_line_up(&mut self, line_up: Vec<StationInfo>) {
        self.line_up = line_up;
    }

    /// Notes what is on, at the time `at` by the broadcaster's clock. It is `here` now.
    pub(super) fn set_now(&mut self, at: AirTime, here: Instant, now: BTreeMap<StationId, StationNow>) {
        self.told = Some((at, here));
        self.now = now;
    }

    /// What is on a station, if the directory tells it.
    pub(super) fn now_of(&self, id: StationId) -> Option<&StationNow> {
        self.now.get(&id)
    }

    /// The time by the broadcaster's clock at `moment`.
    pub(super) fn air_time(&self, moment: Instant) -> Option<AirTime> {
        let (at, here) = self.told?;
        Some(at + moment.saturating_duration_since(here))
    }

    pub(super) fn set_sounds(&mut self, sounds: BTreeMap<StationId, StationSound>) {
        self.sounds = sounds;
    }

    /// Notes the keys of the signed stations, which the directory told at this moment of its clock.
    pub(super) fn set_signers(&mut self, at: AirTime, signers: BTreeMap<StationId, StationSigner>) {
        self.signers = Some((at, signers));
    }

    /// The requirement on a station's pictures if these must be signed. The keys are those that the directory told last, even if
    /// the connection is lost.
    pub(super) fn requirement_of(&self, id: StationId) -> Requirement {
        if !self.endpoint.is_safe() {
            return Requirement::Unverifiable(Unverifiable::PlainDirectory);
        }
        let Some((told, signers)) = &self.signers else {
            return Requirement::Unverifiable(Unverifiable::NotTold);
        };
        match signers.get(&id) {
            Some(&signer) => Requirement::Signed { signer, told: *told },
            None => Requirement::Unverifiable(Unverifiable::NotSigned),
        }
    }

    pub(super) fn set_sources(&mut self, sources: BTreeMap<StationId, IpAddr>) {
        self.sources = sources;
    }
}

fn client(endpoint: Endpoint, wants_signers: bool, sender: &mpsc::Sender<ZapperInput>) -> DirectoryClient {
    let sender = sender.clone();
    // Sending fails only when the zapper has been dropped.
    let events = move |event| drop(sender.send(ZapperInput::Directory(event)));
    match wants_signers {
        true => DirectoryClient::start_with_signers(endpoint, events),
        false => DirectoryClient::start(endpoint, events),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Reach;

    #[test]
    fn keys_are_believed_by_tls_or_from_this_machine_alone() {
        let signer = StationSigner { id: StationId(2), epoch: 7, key: [9; 32] };
        let told = AirTime(5);
        let required = |address: &str, tls: bool, id: u16| {
            let reach = Reach { tls, ..Reach::default() };
            let endpoint = Endpoint { address: address.parse().unwrap(), reach };
            let mut view = DirectoryView::of(endpoint, Vec::new());
            let untold = view.requirement_of(StationId(id));
            view.set_signers(told, [(signer.id, signer)].into());
            (untold, view.requirement_of(StationId(id)))
        };
        let unverifiable = Requirement::Unverifiable;
        for (address, tls) in
            [("192.0.2.7:9688", true), ("127.0.0.1:9688", false), ("[::ffff:127.0.0.1]:9688", false)]
        {
            let signed = (unverifiable(Unverifiable::NotTold), Requirement::Signed { signer, told });
            assert_eq!(required(address, tls, 2), signed, "{address}");
            assert_eq!(required(address, tls, 3).1, unverifiable(Unverifiable::NotSigned), "{address}");
        }
        let plain = unverifiable(Unverifiable::PlainDirectory);
        assert_eq!(required("192.0.2.7:9688", false, 2), (plain, plain));
    }
}
