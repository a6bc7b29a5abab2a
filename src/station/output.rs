//! The output of a station: sends each unit to the group, by the air thread, and to all other clients, by the feed. Follows
//! changes of the interface.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::reports::{Reports, rtcp_address};
use super::runtime::WakeSlots;
use super::sealer::Sealer;
use super::sound::{Heard, SoundOutput};
use crate::air::sender::RtpSender;
use crate::air::{AirCounters, Flow, LEAD};
use crate::clock::AirClock;
use crate::content::{LONGEST_PAUSE, START_LEAD};
use crate::directory::StationTable;
use crate::headend::{HeadEnd, NumberedOrder, StationHandle, StationOrder, SyncSource};
use crate::interface::Interface;
use crate::lineup::Spread;
use crate::media::{AirTime, Due, REPEAT_RATE, Track, Unit};
use crate::net::Network;
use crate::wire::sdp::sound_port;
use crate::wire::signature::tickets::Tickets;
use crate::wire::signature::{SigningKey, card_port};
use crate::wire::srtp::Profile;

/// A station that is [`LEAD`] ahead sleeps until it is this far ahead, at one of the timer's [slots](WakeSlots). Enough to
/// survive another program's burst of load. Wake-ups are most of a station's cost beside the air thread, which costs as much as
/// the bare sender: with five wake-ups a second, one station costs 1.48 times that, with two 1.30, with these 1.3 a second 1.2.
const MIN_LEAD: Duration = Duration::from_millis(200);

/// Shortest wait for room in a full ring. The wait is until half the ring is empty, or [`MIN_LEAD`] is left.
const MIN_WAIT: Duration = Duration::from_millis(5);

/// How long before it is due the last unit is repeated if nothing else has come: enough to be on time on a busy machine.
const REPEAT_LEAD: Duration = Duration::from_millis(50);

/// Pause before another attempt to open the sockets, which the system may refuse for a moment: there are no descriptors left, or an
/// address is not ready yet.
const REOPEN: Duration = Duration::from_secs(5);
/// A unit is not repeated so shortly before the next one. Both had one RTP timestamp on a busy machine.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// A wait that something else ends.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Why a wait of the output ended before its time.
#[derive(Debug)]
pub(super) enum Interrupted {
    /// The station is told to stop.
    Stopping,
    /// There is an order that was not [taken](Output::take_order).
    Ordered,
}

/// The output of one station.
pub(super) struct Output {
    handle: Arc<StationHandle>,
    clock: AirClock,
    network: Network,
    /// The directory's, which is told from which address the station is sent.
    table: Arc<StationTable>,
    wake_slots: WakeSlots,
    stop: watch::Receiver<bool>,
    orders: watch::Receiver<NumberedOrder>,
    /// The number of the order that was taken last.
    taken: u64,
    flow: Flow,
    /// Encrypts the pictures for the group; `None` if they are not encrypted, or while nothing can be sent.
    sealer: Option<Sealer>,
    /// `None` if the station has no sound.
    sound: Option<SoundOutput>,
    /// The sender reports of its streams.
    reports: Vec<Reports>,
    /// The SSRCs of the flows' senders: of the pictures, and of the sound, if there is any.
    ssrcs: (u32, Option<u32>),
    /// Why nothing can be sent to the group, as last logged. `None` if units can be sent.
    obstacle: Option<String>,
    /// When the sockets are opened again, if there is an obstacle.
    reopen_at: Instant,
    /// Most bytes of UDP payload in a datagram, of the interface that the station sends by.
    datagram: Option<usize>,
    /// Signs the pictures, with these tickets; `None` if the station's are not signed.
    signer: Option<(Arc<SigningKey>, Tickets)>,
    /// The unit that was handed over last.
    last: Option<Unit>,
    /// When the last unit's time on air ends.
    free_at: AirTime,
}

impl Output {
    /// The output of a station. Nothing is sent to the group while the interface has no address to send from.
    #[expect(clippy::disallowed_methods, reason = "a shell: it opens sockets, and again later")]
    pub(super) fn open(handle: Arc<StationHandle>, head_end: &HeadEnd, wake_slots: WakeSlots) -> Output {
        let flow = head_end.air.picture_flow(RtpSender::without_socket(&handle.spec()), handle.air.clone());
        let mut output = Output {
            clock: head_end.clock.clone(),
            network: head_end.network.clone(),
            table: head_end.table.clone(),
            stop: handle.stopping(),
            orders: handle.orders.given(),
            // What was ordered of a task that crashed is not ordered again.
            taken: handle.orders.given().borrow().0,
            wake_slots,
            flow,
            sealer: None,
            sound: None,
            reports: Vec::new(),
            ssrcs: (0, None),
            obstacle: None,
            datagram: None,
            signer: handle.spec().sign.then(|| (head_end.signing_key.clone(), Tickets::new())),
            reopen_at: Instant::now(),
            last: None,
            free_at: AirTime::default(),
            handle,
        };
        output.sends_by(None);
        output.follow_interface();
        output
    }

    /// From now on, the station has sound.
    pub(super) fn open_sound(&mut self, head_end: &HeadEnd) {
        let (handle, catalogue) = (self.handle.clone(), head_end.catalogue.clone());
        let flow =
            head_end.air.sound_flow(RtpSender::without_socket(&handle.spec()), handle.sound_air.clone());
        handle.set_sound(true);
        self.sound = Some(SoundOutput::new(handle, catalogue, flow));
        // Opens the sockets anew: with those of the sound.
        self.sends_by(None);
        self.follow_interface();
    }

    /// Takes the last order, if it was not taken yet, and its number. What follows may begin when the unit that was handed over
    /// last has been on air, however long that was to stay.
    #[expect(clippy::disallowed_methods, reason = "a shell: what follows begins soon")]
    pub(super) fn take_order(&mut self) -> Option<(u64, StationOrder)> {
        let (number, order) = self.orders.borrow_and_update().clone();
        if std::mem::replace(&mut self.taken, number) == number {
            return None;
        }
        if let Some(last) = &self.last {
            let shown = last.due.at + last.due.interval.min(REPEAT_RATE.interval());
            self.free_at = self.free_at.min(shown.max(self.clock.now() + START_LEAD));
        }
        Some((number, order?))
    }

    /// From the next unit on this is heard, or nothing.
    pub(super) fn set_heard(&mut self, heard: Option<Heard>) {
        if let Some(sound) = &mut self.sound {
            sound.set_heard(heard);
        }
    }

    /// Sound of a live source has come.
    #[expect(clippy::disallowed_methods, reason = "a shell: it paces what it hands to the air")]
    pub(super) fn live_sound_has_come(&mut self) {
        if let Some(sound) = &mut self.sound {
            sound.live_sound_has_come(self.clock.now());
        }
    }

    /// From the next picture on, packets are spread over this share of its interval.
    pub(super) fn set_spread(&self, spread: Spread) {
        self.flow.change(move |sender| sender.set_spread(spread));
    }

    /// When the time on air of the last unit ends.
    pub(super) fn free_at(&self) -> AirTime {
        self.free_at
    }

    /// Extends the last unit's time on air to `moment`.
    pub(super) fn hold_until(&mut self, moment: AirTime) {
        self.free_at = self.free_at.max(moment);
    }

    /// Waits until so little of what was handed over is left that the group would soon be silent.
    ///
    /// # Errors
    /// The station is told to stop, or to show something else.
    #[expect(clippy::disallowed_methods, reason = "a shell: it paces what it hands to the air")]
    pub(super) async fn run_dry(&mut self) -> Result<(), Interrupted> {
        let Some(last) = &self.last else {
            // Nothing can be repeated yet.
            return self.wait_until(Instant::now() + DAY).await;
        };
        let dry = self.clock.until(last.due.at + LONGEST_PAUSE).saturating_sub(REPEAT_LEAD);
        self.wait_until(Instant::now() + dry).await
    }

    /// Repeats the last unit: the content is late, and the group is not to be silent meanwhile.
    ///
    /// # Errors
    /// The station is told to stop, or to show something else.
    #[expect(clippy::disallowed_methods, reason = "a shell: it paces what it hands to the air")]
    pub(super) async fn repeat(&mut self) -> Result<(), Interrupted> {
        let Some(last) = self.last.clone() else { return Ok(()) };
        let at = (last.due.at + LONGEST_PAUSE).max(self.clock.now());
        // A picture that is held for longer, such as a slide, keeps its time on air.
        let free_at = self.free_at;
        self.hand_over(Unit { due: Due { at, interval: REPEAT_RATE.interval() }, ..last }).await?;
        self.hold_until(free_at);
        Ok(())
    }

    /// Whether a unit that is due at `at` comes too late: what was repeated meanwhile has its place.
    pub(super) fn is_taken(&self, at: AirTime) -> bool {
        self.last.as_ref().is_some_and(|last| at <= last.due.at)
    }

    /// Hands over a unit, due after all before it. If there is a long pause before it, repeats the unit before. Waits while the
    /// station is [`LEAD`] ahead.
    ///
    /// # Errors
    /// The station is told to stop, or to show something else.
    #[expect(clippy::disallowed_methods, reason = "a shell: it paces what it hands to the air")]
    pub(super) async fn hand_over(&mut self, unit: Unit) -> Result<(), Interrupted> {
        let is_far = |last: &&Unit| unit.due.at.since(last.due.at) > LONGEST_PAUSE;
        while let Some(last) = self.last.as_ref().filter(is_far).cloned() {
            // Some of the pause may be over.
            let at = (last.due.at + REPEAT_RATE.interval()).max(self.clock.now());
            if unit.due.at.since(at) < SHORTEST_PAUSE {
                break;
            }
            let repeated = Unit { due: Due { at, interval: REPEAT_RATE.interval() }, ..last };
            self.last = Some(repeated.clone());
            self.offer(repeated).await?;
        }
        if let Some(sound) = &mut self.sound {
            sound.reach(unit.due.at, self.clock.now());
        }
        self.last = Some(unit.clone());
        self.free_at = unit.due.at + unit.due.interval;
        self.offer(unit).await
    }

    #[expect(clippy::disallowed_methods, reason = "a shell: it paces what it hands to the air")]
    async fn offer(&mut self, mut unit: Unit) -> Result<(), Interrupted> {
        let (due, now) = (unit.due.at, self.clock.now());
        self.handle.feed.push(unit.clone(), now);
        if let Some(sound) = &mut self.sound {
            // A picture that stays for longer is repeated, and sound goes on with each repetition.
            sound.advance(due, due + unit.due.interval.min(REPEAT_RATE.interval()), now);
        }
        // The feed's subscribers have no use for the card. Here, the air thread does not wait for the signature.
        unit.card = self.card(&unit);
        if let Some(sealer) = &mut self.sealer {
            sealer.seal(&mut unit);
            self.follow_sealers();
        }
        for reports in &mut self.reports {
            let sound = self.sound.as_mut().and_then(|sound| sound.sealer.as_mut());
            reports.send(now, if reports.track() == Track::Sound { sound } else { self.sealer.as_mut() });
        }
        while let Err(full) = self.flow.offer(unit) {
            unit = full;
            let ahead = self.clock.until(due);
            let room = ahead.saturating_sub(MIN_LEAD).min(ahead / 2).max(MIN_WAIT);
            // The feed has the unit already, so the group gets it, too, whatever is ordered.
            if let Err(Interrupted::Stopping) = self.wait_for(Instant::now() + room, false).await {
                return Err(Interrupted::Stopping);
            }
        }
        if self.clock.until(due) < LEAD {
            return Ok(());
        }
        // Far enough ahead: sleep, so that the station does not wake up for each picture.
        let wake = Instant::now() + self.clock.until(due - MIN_LEAD);
        self.wait_until(self.wake_slots.before(wake)).await
    }

    /// Notes the SSRCs of the streams, if another stream has begun.
    fn follow_sealers(&mut self) {
        let sound = self.sound.as_ref().and_then(|sound| sound.sealer.as_ref());
        let ssrcs = (self.sealer.as_ref().map_or(self.ssrcs.0, Sealer::ssrc), sound.map(Sealer::ssrc));
        if ssrcs != self.ssrcs {
            self.ssrcs = ssrcs;
            self.sends_by(self.handle.interface());
        }
    }

    /// The card of a picture; `None` if it is not signed, or cannot be sent.
    fn card(&mut self, unit: &Unit) -> Option<Arc<[u8]>> {
        let spec = self.handle.spec();
        let overhead = spec.encrypt.map_or(0, Profile::overhead);
        let (key, tickets) = self.signer.as_mut()?;
        key.card(spec.id, self.handle.epoch(), tickets, unit, self.datagram? - overhead)
    }

    /// Sends nothing more to the group, not even what was handed over.
    pub(super) fn fall_silent(&mut self) {
        self.reports.clear();
        for flow in self.sound.iter().map(|sound| &sound.flow).chain([&self.flow]) {
            let spec = self.handle.spec();
            flow.change(move |sender| *sender = RtpSender::without_socket(&spec));
        }
    }

    /// Waits until [`MIN_LEAD`] before the time on air of the last unit ends.
    #[expect(clippy::disallowed_methods, reason = "a shell: it paces what it hands to the air")]
    pub(super) async fn drain(&mut self) -> Result<(), Interrupted> {
        self.wait(self.clock.until(self.free_at).saturating_sub(MIN_LEAD)).await
    }

    /// Waits for `span`, and repeats the last unit meanwhile, so that the group is not silent.
    #[expect(clippy::disallowed_methods, reason = "a shell: it paces what it hands to the air")]
    pub(super) async fn idle(&mut self, span: Duration) -> Result<(), Interrupted> {
        let end = Instant::now() + span;
        while Instant::now() < end {
            match tokio::time::timeout_at(end, self.run_dry()).await {
                Ok(dry) => {
                    dry?;
                    self.repeat().await?;
                }
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Waits for `span`, and follows the interface meanwhile.
    #[expect(clippy::disallowed_methods, reason = "a shell: it paces what it hands to the air")]
    pub(super) async fn wait(&mut self, span: Duration) -> Result<(), Interrupted> {
        self.wait_until(Instant::now() + span).await
    }

    async fn wait_until(&mut self, moment: Instant) -> Result<(), Interrupted> {
        self.wait_for(moment, true).await
    }

    /// Waits until `moment`, and follows the interface meanwhile. Orders end it if it `heeds` them.
    #[expect(clippy::disallowed_methods, reason = "a shell: it paces what it hands to the air")]
    async fn wait_for(&mut self, moment: Instant, heeds: bool) -> Result<(), Interrupted> {
        let taken = self.taken;
        loop {
            if *self.stop.borrow() {
                return Err(Interrupted::Stopping);
            }
            if heeds && self.orders.borrow().0 != taken {
                return Err(Interrupted::Ordered);
            }
            if moment <= Instant::now() {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep_until(moment) => return Ok(()),
                _ = self.stop.wait_for(|&stop| stop) => return Err(Interrupted::Stopping),
                _ = self.orders.wait_for(|(number, _)| *number != taken), if heeds => {
                    return Err(Interrupted::Ordered);
                }
                Ok(()) = self.network.interfaces.changed() => {}
                () = tokio::time::sleep_until(self.reopen_at), if self.obstacle.is_some() => {}
            }
            self.follow_interface();
        }
    }

    /// Adapts to the interface as it is now. A socket keeps the index and the address that the interface had when it was opened.
    #[expect(clippy::disallowed_methods, reason = "a shell: it opens sockets, and again later")]
    fn follow_interface(&mut self) {
        let spec = self.handle.spec();
        let found = spec.interface.find(&self.network.interfaces.borrow_and_update());
        let before = self.handle.interface();
        if let (Some(before), Some(now)) = (&before, &found)
            && now.sends_as(before, spec.group.ip())
        {
            let mtu = now.mtu;
            if mtu != before.mtu {
                info!(
                    "station {} \"{}\": the MTU of {} is {mtu} bytes now; datagrams up to {} bytes",
                    spec.id,
                    spec.name,
                    now.name,
                    spec.datagram_limit(mtu)
                );
                let sealers =
                    [self.sealer.as_mut(), self.sound.as_mut().and_then(|sound| sound.sealer.as_mut())];
                sealers
                    .into_iter()
                    .flatten()
                    .for_each(|sealer| sealer.set_datagram(spec.datagram_limit(mtu)));
                if let Some(sound) = &self.sound {
                    let spec = spec.clone();
                    sound.flow.change(move |sender| sender.set_mtu(&spec, mtu));
                }
                self.flow.change(move |sender| sender.set_mtu(&spec, mtu));
            }
            self.sends_by(found);
            return;
        }
        match self.open_senders(found.as_ref()) {
            Ok(ssrcs) => {
                self.ssrcs = ssrcs;
                if let Some(interface) =
                    found.as_ref().filter(|_| before.is_some() || self.obstacle.is_some())
                {
                    info!("station {} \"{}\" sends by {interface} now", spec.id, spec.name);
                }
                self.obstacle = None;
                self.sends_by(found);
            }
            Err(reason) => {
                self.reopen_at = Instant::now() + REOPEN;
                if before.is_some() {
                    self.fall_silent();
                    self.sends_by(None);
                }
                if self.obstacle.as_ref() != Some(&reason) {
                    let spec = self.handle.spec();
                    warn!(
                        "station {} \"{}\" cannot send for now: {reason}; it will as soon as that changes",
                        spec.id, spec.name
                    );
                    self.obstacle = Some(reason);
                }
            }
        }
    }

    /// Notes the interface that the station sends by, and tells the directory from which address.
    fn sends_by(&mut self, interface: Option<Interface>) {
        let (ssrc, sound_ssrc) = self.ssrcs;
        self.datagram = interface.as_ref().map(|interface| self.handle.spec().datagram_limit(interface.mtu));
        self.handle.set_sync_source(interface.map(|interface| SyncSource { interface, ssrc, sound_ssrc }));
        self.table.set_source(self.handle.spec().id, self.handle.source());
    }

    /// Has the air thread send by `interface` from now on. Returns the SSRC of the pictures, and that of the sound, if there is any.
    ///
    /// # Errors
    /// The sentence that says why it cannot.
    fn open_senders(&mut self, interface: Option<&Interface>) -> Result<(u32, Option<u32>), String> {
        let spec = self.handle.spec();
        let name = &spec.interface.name;
        let Some(interface) = interface else { return Err(format!("there is no interface {name}")) };
        if interface.source(spec.group.ip()).is_none() {
            let family = if spec.group.is_ipv4() { "IPv4" } else { "IPv6" };
            return Err(format!("interface {name} has no {family} address"));
        }
        let source = interface.source(spec.group.ip()).map(|source| source.to_string()).unwrap_or_default();
        // The same for both streams, by which players know that they belong together (RFC 3550 section 6.5.1).
        let cname = format!("station-{}@{source}", spec.id);
        let open = |address| {
            let socket = self.network.open(address, interface, spec.ttl);
            socket.map_err(|error| format!("interface {interface}: {error}"))
        };
        let mut reports = Vec::new();
        let mut sender = |group: SocketAddr, track: Track, counters: &Arc<AirCounters>| {
            let sender = RtpSender::to_group(open(group)?, &spec, interface.mtu);
            let sealer = spec.encrypt.map(|profile| {
                let (handle, table) = (self.handle.clone(), self.table.clone());
                Sealer::new(handle, table, track, profile, spec.datagram_limit(interface.mtu))
            });
            let sealer = sealer.transpose()?;
            let ssrc = sealer.as_ref().map_or(sender.ssrc(), Sealer::ssrc);
            if let Some(address) = rtcp_address(group) {
                reports.push(Reports::new(open(address)?, ssrc, track, cname.clone(), counters.clone()));
            }
            Ok::<_, String>((sender, sealer, ssrc))
        };
        let (mut picture_sender, sealer, ssrc) = sender(spec.group, Track::Picture, &self.handle.air)?;
        if self.signer.is_some() {
            picture_sender.set_cards(open(SocketAddr::new(spec.group.ip(), card_port(spec.group.port())))?);
        }
        let mut sound_ssrc = None;
        if let Some(sound) = &mut self.sound {
            let group = SocketAddr::new(spec.group.ip(), sound_port(spec.group.port()));
            let (sound_sender, sealer, ssrc) = sender(group, Track::Sound, &self.handle.sound_air)?;
            (sound_ssrc, sound.sealer) = (Some(ssrc), sealer);
            sound.flow.change(|sender| *sender = sound_sender);
        }
        self.sealer = sealer;
        self.flow.change(|sender| *sender = picture_sender);
        self.reports = reports;
        Ok((ssrc, sound_ssrc))
    }
}
