//! What a station sends: each unit to its group, by the air thread, and to everybody else, by its feed. Follows the interface.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::runtime::WakeSlots;
use crate::air::sender::RtpSender;
use crate::air::{Flow, LEAD};
use crate::clock::AirClock;
use crate::content::LONGEST_PAUSE;
use crate::directory::StationTable;
use crate::headend::{HeadEnd, StationHandle};
use crate::interface::Interface;
use crate::media::{AirTime, Due, REPEAT_RATE, Unit};
use crate::net::Network;

/// How far ahead a station is at least before it sleeps: enough to sleep through another program's burst on the machine. In between a
/// station sleeps, until one of the [slots](WakeSlots) of the timers. Waking up is most of what it costs beside the air thread, which
/// takes as much as the bare sender: with five wake-ups a second one station costs 1.48 times that, with two 1.30, with these 1.3 a
/// second 1.2.
pub(super) const LEAST_LEAD: Duration = Duration::from_millis(200);

/// A station whose ring is full waits until half of it is empty or [`LEAST_LEAD`] is left, but not less than this.
const FULL: Duration = Duration::from_millis(5);

/// The broadcaster stops.
#[derive(Debug)]
pub(super) struct Stopping;

/// The output of one station.
pub(super) struct Output {
    handle: Arc<StationHandle>,
    clock: AirClock,
    network: Network,
    /// The directory's, which is told from which address the station is sent.
    table: Arc<StationTable>,
    wake_slots: WakeSlots,
    stop: watch::Receiver<bool>,
    flow: Flow,
    /// Why nothing can be sent to the group, as the log was told; `None` when it can.
    unplugged: Option<String>,
    /// The unit that was handed over last.
    last: Option<Unit>,
    /// When what has been handed to the air is over.
    free_at: AirTime,
}

impl Output {
    /// The output that a station's configuration describes. While its interface has no address, nothing reaches its group.
    pub(super) fn open(handle: Arc<StationHandle>, head_end: &HeadEnd, wake_slots: WakeSlots) -> Output {
        let flow = head_end.air.flow(RtpSender::unplugged(&handle.spec), handle.air.clone());
        let mut output = Output {
            clock: head_end.clock.clone(),
            network: head_end.network.clone(),
            table: head_end.table.clone(),
            stop: head_end.stop.clone(),
            wake_slots,
            flow,
            unplugged: None,
            last: None,
            free_at: AirTime::default(),
            handle,
        };
        output.sends_by(None);
        output.follow_interface();
        output
    }

    /// When what has been handed to the air is over.
    pub(super) fn free_at(&self) -> AirTime {
        self.free_at
    }

    /// Says that the last unit lasts until `moment`.
    pub(super) fn hold_until(&mut self, moment: AirTime) {
        self.free_at = self.free_at.max(moment);
    }

    /// Hands over a unit, due after all before it. Repeats the last one in a long pause before it. Waits when the station is
    /// [`LEAD`] ahead.
    pub(super) async fn hand_over(&mut self, unit: Unit) -> Result<(), Stopping> {
        if let Some(last) = self.last.take() {
            let mut at = last.due.at.max(self.clock.now());
            while unit.due.at.since(at) > LONGEST_PAUSE {
                at = at + REPEAT_RATE.interval();
                let due = Due { at, interval: REPEAT_RATE.interval() };
                self.offer(Unit { due, ..last.clone() }).await?;
            }
        }
        self.last = Some(unit.clone());
        self.free_at = unit.due.at + unit.due.interval;
        self.offer(unit).await
    }

    async fn offer(&mut self, mut unit: Unit) -> Result<(), Stopping> {
        let due = unit.due.at;
        self.handle.feed.push(unit.clone(), self.clock.now());
        while let Err(full) = self.flow.offer(unit) {
            unit = full;
            let ahead = self.clock.until(due);
            self.wait(ahead.saturating_sub(LEAST_LEAD).min(ahead / 2).max(FULL)).await?;
        }
        if self.clock.until(due) < LEAD {
            return Ok(());
        }
        // So that a station does not wake up for each picture.
        let wake = Instant::now() + self.clock.until(due - LEAST_LEAD);
        self.wait_until(self.wake_slots.before(wake)).await
    }

    /// Waits until no more than [`LEAST_LEAD`] of what has been handed over is still to come.
    pub(super) async fn drain(&mut self) -> Result<(), Stopping> {
        self.wait(self.clock.until(self.free_at).saturating_sub(LEAST_LEAD)).await
    }

    /// Waits, and follows the interface meanwhile.
    pub(super) async fn wait(&mut self, span: Duration) -> Result<(), Stopping> {
        self.wait_until(Instant::now() + span).await
    }

    async fn wait_until(&mut self, moment: Instant) -> Result<(), Stopping> {
        loop {
            if *self.stop.borrow() {
                return Err(Stopping);
            }
            if moment <= Instant::now() {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep_until(moment) => return Ok(()),
                _ = self.stop.wait_for(|&stop| stop) => return Err(Stopping),
                Ok(()) = self.network.interfaces.changed() => {}
            }
            self.follow_interface();
        }
    }

    /// Sends by the interface as it is now: a socket keeps to what the interface was when it was opened.
    fn follow_interface(&mut self) {
        let spec = self.handle.spec.clone();
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
                self.flow.change(move |sender| sender.fit(&spec, mtu));
            }
            self.sends_by(found);
            return;
        }
        match self.plug_in(found.as_ref()) {
            Ok(sender) => {
                self.flow.change(|unplugged| *unplugged = sender);
                if let Some(interface) =
                    found.as_ref().filter(|_| before.is_some() || self.unplugged.is_some())
                {
                    info!("station {} \"{}\" sends by {interface} now", spec.id, spec.name);
                }
                self.unplugged = None;
                self.sends_by(found);
            }
            Err(reason) => {
                if before.is_some() {
                    self.flow.change(move |sender| *sender = RtpSender::unplugged(&spec));
                    self.sends_by(None);
                }
                if self.unplugged.as_ref() != Some(&reason) {
                    let spec = &self.handle.spec;
                    warn!(
                        "station {} \"{}\" cannot be sent for now: {reason}; it will be as soon as that changes",
                        spec.id, spec.name
                    );
                    self.unplugged = Some(reason);
                }
            }
        }
    }

    /// Notes the interface that the station is sent by, and tells the directory from which address.
    fn sends_by(&self, interface: Option<Interface>) {
        self.handle.set_interface(interface);
        self.table.set_source(self.handle.spec.id, self.handle.source());
    }

    fn plug_in(&self, interface: Option<&Interface>) -> Result<RtpSender, String> {
        let spec = &self.handle.spec;
        let name = &spec.interface.name;
        let Some(interface) = interface else { return Err(format!("there is no interface {name}")) };
        if interface.source(spec.group.ip()).is_none() {
            let family = if spec.group.is_ipv4() { "IPv4" } else { "IPv6" };
            return Err(format!("interface {name} has no {family} address"));
        }
        let socket = self.network.open(spec.group, interface, spec.ttl);
        let socket = socket.map_err(|error| format!("interface {interface}: {error}"))?;
        Ok(RtpSender::to_group(socket, spec, interface.mtu))
    }
}
