"""Opens packets with libsrtp, and seals them with it.

Reads lines "profile key roc plain sealed plain_report sealed_report", all but the profile and the roll-over counter in hexadecimal.
Asserts that libsrtp opens what is sealed. Writes the plain packet and the plain report as libsrtp seals them.
"""

import ctypes
import sys

from pylibsrtp import Policy, Session, _binding

PROFILES = {
    "AES_CM_128_HMAC_SHA1_80": Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AEAD_AES_128_GCM": Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
}
library = ctypes.CDLL("libsrtp2.so.1")


def session(profile, key, kind, ssrc, roc):
    policy = Policy(key=key, ssrc_type=kind, srtp_profile=PROFILES[profile])
    policy.ssrc_type, policy.ssrc_value = Policy.SSRC_SPECIFIC, ssrc
    opened = Session(policy)
    address = int(_binding.ffi.cast("uintptr_t", opened._srtp[0]))
    status = library.srtp_set_stream_roc(ctypes.c_void_p(address), ctypes.c_uint32(ssrc), ctypes.c_uint32(roc))
    assert status == 0, status
    return opened


for line in sys.stdin:
    profile, key, roc, *packets = line.split()
    plain, sealed, plain_report, sealed_report = map(bytes.fromhex, packets)
    ssrc = int.from_bytes(plain[8:12], "big")

    def new():
        return session(profile, bytes.fromhex(key), Policy.SSRC_ANY_INBOUND, ssrc, int(roc))

    assert new().unprotect(sealed) == plain, line
    assert new().unprotect_rtcp(sealed_report) == plain_report, line
    print(new().protect(plain).hex(), new().protect_rtcp(plain_report).hex(), flush=True)
