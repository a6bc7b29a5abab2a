//! SRTP: packets of RTP and RTCP, encrypted and authenticated. Pure.
//!
//! Two profiles: AEAD_AES_128_GCM (RFC 7714), which our viewer takes, and AES_CM_128_HMAC_SHA1_80 (RFC 3711), which FFmpeg and
//! GStreamer take too. No MKI, and a key derivation rate of zero.
//!
use std::fmt;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::rtp::{Header, RtpError};

/// Bytes of a master key, and of a session key for AES.
pub const KEY_LEN: usize = 16;

/// Bytes of a master salt. GCM uses the first 12 of them.
pub const SALT_LEN: usize = 14;

/// Bytes of salt that GCM uses (RFC 7714 section 12).
const GCM_SALT_LEN: usize = NONCE_LEN;

/// Bytes of the authentication key of HMAC-SHA1 (RFC 3711 section 5.2).
const AUTH_KEY_LEN: usize = 20;

/// Bytes of HMAC-SHA1 that a packet carries.
const HMAC_TAG_LEN: usize = 10;

/// Bytes at the beginning of RTCP that are not encrypted: the header and the sender's SSRC.
const RTCP_HEADER_LEN: usize = 8;

/// Bytes of the index behind a packet of SRTCP. Its first bit says that the packet is encrypted.
const RTCP_INDEX_LEN: usize = 4;

/// A packet of SRTCP is encrypted.
const ENCRYPTED: u32 = 1 << 31;

/// The labels of the key derivation (RFC 3711 section 4.3.2) for packets of RTP: cipher, authentication, salt. Those for RTCP are
/// three higher.
const LABELS: [u8; 3] = [0, 1, 2];
const RTCP_LABELS: [u8; 3] = [3, 4, 5];

/// An algorithm of encryption and authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Profile {
    /// AEAD_AES_128_GCM (RFC 7714).
    Gcm,
    /// AES_CM_128_HMAC_SHA1_80 (RFC 3711).
    CounterMode,
}

impl Profile {
    /// Bytes by which a packet of RTP grows.
    pub const fn overhead(self) -> usize {
        match self {
            Profile::Gcm => MAX_TAG_LEN,
            Profile::CounterMode => HMAC_TAG_LEN,
        }
    }

    /// Bytes of a master salt that it uses.
    pub const fn salt_len(self) -> usize {
        match self {
            Profile::Gcm => GCM_SALT_LEN,
            Profile::CounterMode => SALT_LEN,
        }
    }

    /// The name in `a=crypto` of SDP (RFC 4568 section 6.2, RFC 7714 section 14.1).
    pub const fn name(self) -> &'static str {
        match self {
            Profile::Gcm => "AEAD_AES_128_GCM",
            Profile::CounterMode => "AES_CM_128_HMAC_SHA1_80",
        }
    }
}

/// A master key and its salt. No format shows them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterKey {
    /// The key.
    pub key: [u8; KEY_LEN],
    /// The salt.
    pub salt: [u8; SALT_LEN],
}

impl MasterKey {
    /// A random key, which nobody had before: two streams never have the same.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn random() -> Result<MasterKey, aws_lc_rs::error::Unspecified> {
        let mut master = MasterKey { key: [0; KEY_LEN], salt: [0; SALT_LEN] };
        let random = SystemRandom::new();
        random.fill(&mut master.key)?;
        random.fill(&mut master.salt)?;
        Ok(master)
    }

    /// The bytes of AES-CM under `label` (RFC 3711 section 4.3.3, for a derivation rate of zero).
    fn derive<const N: usize>(&self, label: u8) -> [u8; N] {
        let mut block = [0; 16];
        block[..SALT_LEN].copy_from_slice(&self.salt);
        block[7] ^= label;
        let mut derived = [0; N];
        counter_mode(&counter_key(&self.key), block, &mut derived);
        derived
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey")
    }
}

/// Why a packet cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SrtpError {
    /// Not RTP, even before it is decrypted.
    #[error(transparent)]
    Rtp(#[from] RtpError),
    /// Too short for a packet of SRTP.
    #[error("the packet is too short for its authentication tag")]
    Short,
    /// Somebody else's packet, a changed one, or one of another key.
    #[error("the packet does not have the tag of this key")]
    Forged,
}

/// The session keys of a master key, for one direction.
pub struct SessionKeys {
    rtp: Cipher,
    rtcp: Cipher,
}

impl fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKeys")
    }
}

impl SessionKeys {
    /// Derives the session keys (RFC 3711 section 4.3).
    pub fn new(profile: Profile, master: &MasterKey) -> SessionKeys {
        SessionKeys {
            rtp: Cipher::new(profile, master, LABELS),
            rtcp: Cipher::new(profile, master, RTCP_LABELS),
        }
    }

    /// Encrypts the payload of a packet of RTP, and appends the tag. `index` is its number of 48 bits: the roll-over counter and the
    /// sequence number. No two packets of one SSRC and key may have the same.
    ///
    /// # Errors
    /// It is not a packet of RTP.
    pub fn seal(&self, packet: &mut Vec<u8>, index: u64) -> Result<(), RtpError> {
        let (header, start) = Header::parse_with_payload_start(packet)?;
        let place = Place::of_rtp(header.ssrc, index);
        match &self.rtp {
            Cipher::Gcm { key, salt } => {
                let (aad, payload) = packet.split_at_mut(start);
                let tag = key.seal_in_place_separate_tag(place.nonce(salt), Aad::from(&*aad), payload);
                // It fails only for 64 GiB and more.
                packet.extend(tag.expect("a packet is short").as_ref());
            }
            Cipher::CounterMode { key, salt, auth } => {
                counter_mode(key, place.counter(salt), &mut packet[start..]);
                let tag = rtp_tag(auth, packet, index);
                packet.extend(tag);
            }
        }
        Ok(())
    }

    /// Checks and decrypts a packet of SRTP in place. Returns the length of the packet of RTP, which begins where it did.
    ///
    /// # Errors
    /// It is no packet of this key at `index`. Its bytes are of no more use then.
    pub fn open(&self, packet: &mut [u8], index: u64) -> Result<usize, SrtpError> {
        let (header, start) = Header::parse_with_payload_start(packet)?;
        let place = Place::of_rtp(header.ssrc, index);
        match &self.rtp {
            Cipher::Gcm { key, salt } => {
                let (aad, sealed) = packet.split_at_mut(start);
                let opened = key.open_in_place(place.nonce(salt), Aad::from(&*aad), sealed);
                Ok(start + opened.map_err(|_| SrtpError::Forged)?.len())
            }
            Cipher::CounterMode { key, salt, auth } => {
                let end = packet.len().checked_sub(HMAC_TAG_LEN).filter(|&end| end >= start);
                let (sealed, tag) = packet.split_at_mut(end.ok_or(SrtpError::Short)?);
                if !bool::from(rtp_tag(auth, sealed, index).ct_eq(tag)) {
                    return Err(SrtpError::Forged);
                }
                counter_mode(key, place.counter(salt), &mut sealed[start..]);
                Ok(sealed.len())
            }
        }
    }

    /// Encrypts a compound packet of RTCP, and appends the index and the tag. `index` has 31 bits; each packet of one SSRC and key
    /// takes the next one, from 0 on.
    ///
    /// # Panics
    /// If the packet is shorter than the header of RTCP and an SSRC.
    pub fn seal_rtcp(&self, packet: &mut Vec<u8>, index: u32) {
        let index = index & !ENCRYPTED;
        let mark = (index | ENCRYPTED).to_be_bytes();
        let ssrc = packet.get(4..RTCP_HEADER_LEN).and_then(|ssrc| ssrc.try_into().ok());
        let place = Place::of_rtcp(u32::from_be_bytes(ssrc.expect("RTCP begins with an SSRC")), index);
        match &self.rtcp {
            Cipher::Gcm { key, salt } => {
                let aad = [&packet[..RTCP_HEADER_LEN], &mark].concat();
                let payload = &mut packet[RTCP_HEADER_LEN..];
                let tag = key.seal_in_place_separate_tag(place.nonce(salt), Aad::from(aad), payload);
                packet.extend(tag.expect("a packet is short").as_ref());
                packet.extend(mark);
            }
            Cipher::CounterMode { key, salt, auth } => {
                counter_mode(key, place.counter(salt), &mut packet[RTCP_HEADER_LEN..]);
                packet.extend(mark);
                let tag = hmac::sign(auth, packet);
                packet.extend(&tag.as_ref()[..HMAC_TAG_LEN]);
            }
        }
    }

    /// Checks and decrypts a packet of SRTCP. Returns the packet of RTCP and its index.
    ///
    /// # Errors
    /// It is no packet of this key.
    pub fn open_rtcp(&self, packet: &[u8]) -> Result<(Vec<u8>, u32), SrtpError> {
        let (tag_len, tag_is_last) = match &self.rtcp {
            Cipher::Gcm { .. } => (MAX_TAG_LEN, false),
            Cipher::CounterMode { .. } => (HMAC_TAG_LEN, true),
        };
        let mark_at = packet.len().checked_sub(if tag_is_last { tag_len } else { 0 } + RTCP_INDEX_LEN);
        let mark_at = mark_at.filter(|&at| at >= RTCP_HEADER_LEN).ok_or(SrtpError::Short)?;
        let (body, rest) = packet.split_at(mark_at);
        let (mark, tag) = rest.split_first_chunk::<RTCP_INDEX_LEN>().ok_or(SrtpError::Short)?;
        let index = u32::from_be_bytes(*mark);
        let ssrc = body[4..RTCP_HEADER_LEN].try_into().map_err(|_| SrtpError::Short)?;
        let place = Place::of_rtcp(u32::from_be_bytes(ssrc), index & !ENCRYPTED);
        if index & ENCRYPTED == 0 {
            // Authenticated alone: we never send that.
            return Err(SrtpError::Forged);
        }
        let mut opened = body.to_vec();
        match &self.rtcp {
            Cipher::Gcm { key, salt } => {
                let aad = [&body[..RTCP_HEADER_LEN], mark].concat();
                let sealed = &mut opened[RTCP_HEADER_LEN..];
                let plain = key.open_in_place(place.nonce(salt), Aad::from(aad), sealed);
                let length = plain.map_err(|_| SrtpError::Forged)?.len();
                opened.truncate(RTCP_HEADER_LEN + length);
            }
            Cipher::CounterMode { key, salt, auth } => {
                let expected = hmac::sign(auth, &packet[..mark_at + RTCP_INDEX_LEN]);
                if !bool::from(expected.as_ref()[..HMAC_TAG_LEN].ct_eq(tag)) {
                    return Err(SrtpError::Forged);
                }
                counter_mode(key, place.counter(salt), &mut opened[RTCP_HEADER_LEN..]);
            }
        }
        Ok((opened, index & !ENCRYPTED))
    }
}

/// The index of a packet numbered `sequence`: the one nearest to `near`, the index of a packet shortly before or after it (RFC 3711
/// section 3.3.1).
pub fn index_near(near: u64, sequence: u16) -> u64 {
    let forward = sequence.wrapping_sub(near as u16);
    if forward < 1 << 15 {
        near + u64::from(forward)
    } else {
        // Before the first packet there is none: the tag will be wrong.
        near.saturating_sub(u64::from(forward.wrapping_neg()))
    }
}

/// The keys of one kind of packets.
enum Cipher {
    Gcm { key: Box<LessSafeKey>, salt: [u8; GCM_SALT_LEN] },
    CounterMode { key: Box<EncryptingKey>, salt: [u8; SALT_LEN], auth: Box<hmac::Key> },
}

impl Cipher {
    fn new(profile: Profile, master: &MasterKey, [cipher, auth, salt]: [u8; 3]) -> Cipher {
        match profile {
            Profile::Gcm => {
                // RFC 7714 section 11: a salt of 96 bits is used with 16 bits of zero behind it.
                let mut master = master.clone();
                master.salt[GCM_SALT_LEN..].fill(0);
                Cipher::gcm(&master.derive(cipher), master.derive(salt))
            }
            Profile::CounterMode => {
                let auth: [u8; AUTH_KEY_LEN] = master.derive(auth);
                Cipher::counter_mode(master.derive(cipher), master.derive(salt), &auth)
            }
        }
    }

    fn gcm(key: &[u8; KEY_LEN], salt: [u8; GCM_SALT_LEN]) -> Cipher {
        let key = UnboundKey::new(&AES_128_GCM, key).expect("a key of 16 bytes");
        Cipher::Gcm { key: Box::new(LessSafeKey::new(key)), salt }
    }

    fn counter_mode(key: [u8; KEY_LEN], salt: [u8; SALT_LEN], auth: &[u8]) -> Cipher {
        let auth = Box::new(hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, auth));
        Cipher::CounterMode { key: Box::new(counter_key(&key)), salt, auth }
    }
}

/// The place of a packet among all that are encrypted with a key: its SSRC, and its index of 48 or 31 bits.
#[derive(Debug, Clone, Copy)]
struct Place {
    ssrc: [u8; 4],
    index: [u8; 6],
}

impl Place {
    fn of_rtp(ssrc: u32, index: u64) -> Place {
        let [_, _, index @ ..] = index.to_be_bytes();
        Place { ssrc: ssrc.to_be_bytes(), index }
    }

    fn of_rtcp(ssrc: u32, index: u32) -> Place {
        Place::of_rtp(ssrc, index.into())
    }

    /// The initialization vector of GCM (RFC 7714 sections 8.1 and 9.1).
    fn nonce(self, salt: &[u8; GCM_SALT_LEN]) -> Nonce {
        let mut nonce = *salt;
        xor(&mut nonce[2..6], &self.ssrc);
        xor(&mut nonce[6..], &self.index);
        Nonce::assume_unique_for_key(nonce)
    }

    /// The first counter block of AES_CM (RFC 3711 section 4.1.1).
    fn counter(self, salt: &[u8; SALT_LEN]) -> [u8; 16] {
        let mut block = [0; 16];
        block[..SALT_LEN].copy_from_slice(salt);
        xor(&mut block[4..8], &self.ssrc);
        xor(&mut block[8..SALT_LEN], &self.index);
        block
    }
}

fn xor(to: &mut [u8], bytes: &[u8]) {
    to.iter_mut().zip(bytes).for_each(|(to, byte)| *to ^= byte);
}

fn counter_key(key: &[u8; KEY_LEN]) -> EncryptingKey {
    let key = UnboundCipherKey::new(&AES_128, key).and_then(EncryptingKey::ctr);
    key.expect("a key of 16 bytes")
}

/// Encrypts or decrypts `bytes` with AES in counter mode, which begins with this block.
fn counter_mode(key: &EncryptingKey, block: [u8; 16], bytes: &mut [u8]) {
    let begun = key.less_safe_encrypt(bytes, EncryptionContext::Iv128(block.into()));
    begun.expect("counter mode takes any length and any first block");
}

/// The tag of a packet of SRTP: it covers the roll-over counter, too (RFC 3711 section 4.2).
fn rtp_tag(auth: &hmac::Key, packet: &[u8], index: u64) -> [u8; HMAC_TAG_LEN] {
    let mut context = hmac::Context::with_key(auth);
    context.update(packet);
    context.update(&((index >> 16) as u32).to_be_bytes());
    let tag = context.sign();
    *tag.as_ref().first_chunk().expect("SHA-1 has 20 bytes")
}

#[cfg(test)]
mod tests;
