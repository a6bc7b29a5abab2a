use proptest::prelude::*;

use super::*;

fn hex<const N: usize>(text: &str) -> [u8; N] {
    bytes(text).try_into().unwrap()
}

fn bytes(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// A packet of RTP with `payload` bytes of payload.
fn packet(sequence: u16, ssrc: u32, payload: usize) -> Vec<u8> {
    let header = Header { marker: true, payload_type: 26, sequence, timestamp: 7, ssrc };
    let mut fixed = [0; 12];
    header.emit(&mut fixed);
    fixed.into_iter().chain((0..payload).map(|at| (at * 31) as u8)).collect()
}

fn master(first: u8) -> MasterKey {
    MasterKey { key: [first; KEY_LEN], salt: std::array::from_fn(|at| at as u8) }
}

const PROFILES: [Profile; 2] = [Profile::Gcm, Profile::CounterMode];

/// RFC 3711 appendix B.2.
#[test]
fn the_keystream_of_counter_mode_is_that_of_the_rfc() {
    let key = hex("2B7E151628AED2A6ABF7158809CF4F3C");
    let salt = hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD");
    let mut stream = [0; 48];
    counter_mode(&counter_key(&key), Place::of_rtp(0, 0).counter(&salt), &mut stream);
    let expected =
        "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB 41E95B3BB0A2E8DD477901E4FCA894C0";
    assert_eq!(stream, hex(expected));
}

/// RFC 3711 appendix B.3.
#[test]
fn session_keys_are_those_of_the_rfc() {
    let master =
        MasterKey { key: hex("E1F97A0D3E018BE0D64FA32C06DE4139"), salt: hex("0EC675AD498AFEEBB6960B3AABE6") };
    assert_eq!(master.derive(LABELS[0]), hex::<16>("C61E7A93744F39EE10734AFE3FF7A087"));
    assert_eq!(master.derive(LABELS[2]), hex::<14>("30CBBC08863D8C85D49DB34A9AE1"));
    assert_eq!(master.derive(LABELS[1]), hex::<20>("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"));
}

/// RFC 7714 sections 16.1 and 17.1, whose keys are session keys.
#[test]
fn packets_of_gcm_are_those_of_the_rfc() {
    let cipher = || Cipher::gcm(&hex("000102030405060708090a0b0c0d0e0f"), hex("517569642070726f2071756f"));
    let keys = SessionKeys { rtp: cipher(), rtcp: cipher() };

    let plain = bytes(
        "8040f17b8041f8d35501a0b247616c6c696120657374206f6d6e69732064697669736120696e207061727465732074726573",
    );
    let sealed = bytes(
        "8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf\
         8833899d7f27beb16a9152cf765ee4390cce",
    );
    let mut packet = plain.clone();
    keys.seal(&mut packet, 0xf17b).unwrap();
    assert_eq!(packet, sealed);
    let length = keys.open(&mut packet, 0xf17b).unwrap();
    assert_eq!(packet[..length], plain);

    let plain = bytes(
        "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61deadbeefdeadbeefdeadbeefdeadbeefdeadbeef",
    );
    let sealed = bytes(
        "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda4ce09b4686303ded\
         0bb9275bc84aa45896cf4d2fc5abf87245d9eade800005d4",
    );
    let mut packet = plain.clone();
    keys.seal_rtcp(&mut packet, 0x5d4);
    assert_eq!(packet, sealed);
    assert_eq!(keys.open_rtcp(&sealed), Ok((plain, 0x5d4)));
}

#[test]
fn a_packet_opens_only_with_its_key_its_index_and_as_it_was() {
    for profile in PROFILES {
        let (keys, others) = (SessionKeys::new(profile, &master(1)), SessionKeys::new(profile, &master(2)));
        for index in [0x0000_0000_fffe_u64, 0x1_0000, 0xffff_ffff_ffff] {
            let plain = packet(index as u16, 0xfeed, 300);
            let mut sealed = plain.clone();
            keys.seal(&mut sealed, index).unwrap();
            assert_eq!(sealed.len(), plain.len() + profile.overhead());
            assert_ne!(sealed[12..300], plain[12..300], "it is encrypted");
            let open = |keys: &SessionKeys, index, sealed: &[u8]| {
                let mut bytes = sealed.to_vec();
                let length = keys.open(&mut bytes, index)?;
                bytes.truncate(length);
                Ok(bytes)
            };
            assert_eq!(open(&keys, index, &sealed), Ok(plain));
            assert_eq!(open(&others, index, &sealed), Err(SrtpError::Forged));
            assert_eq!(open(&keys, index ^ 1 << 16, &sealed), Err(SrtpError::Forged), "another roll-over");
            for at in [1, 5, 9, 12, 200, sealed.len() - 1] {
                let mut changed = sealed.clone();
                changed[at] ^= 1;
                assert_eq!(open(&keys, index, &changed), Err(SrtpError::Forged), "{profile:?}, byte {at}");
            }
        }
    }
}

#[test]
fn a_report_opens_only_with_its_key_and_as_it_was() {
    let report: Vec<u8> = [0x80, 200, 0, 6].into_iter().chain(1..=24).collect();
    for profile in PROFILES {
        let (keys, others) = (SessionKeys::new(profile, &master(1)), SessionKeys::new(profile, &master(2)));
        let mut sealed = report.clone();
        keys.seal_rtcp(&mut sealed, 77);
        assert_eq!(keys.open_rtcp(&sealed), Ok((report.clone(), 77)));
        assert_eq!(others.open_rtcp(&sealed), Err(SrtpError::Forged));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(keys.open_rtcp(&changed), Err(SrtpError::Forged), "{profile:?}, byte {at}");
        }
    }
}

#[test]
fn an_index_is_the_nearest_one() {
    for (near, sequence, index) in [
        (0, 0, 0),
        (0, 5, 5),
        (65_535, 0, 65_536),
        (65_536, 65_535, 65_535),
        (3 << 16 | 40_000, 7_000, 4 << 16 | 7_000),
        (3 << 16 | 40_000, 39_999, 3 << 16 | 39_999),
        (5, 65_530, 0),
    ] {
        assert_eq!(index_near(near, sequence), index, "{sequence} near {near}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..128), index: u64) {
        if let Some(first) = bytes.first_mut() {
            *first = *first & 0x3f | 0x80;
        }
        for profile in PROFILES {
            let keys = SessionKeys::new(profile, &master(1));
            prop_assert!(keys.open_rtcp(&bytes).is_err());
            prop_assert!(keys.open(&mut bytes.clone(), index).is_err());
        }
    }
}
