"""The 4K hardware hash, verified without Microsoft.

    bytes 0–1    "OA"
    bytes 2–3    N, little-endian
    bytes 4–N    records: u16 type, u16 length including these four bytes, data; strings end in NUL
    at N         "CS", u16 36, SHA-256 of bytes 0–N
    to 3000      zeros

In Base64 that is 4000 characters. The layout is that of `reference/manifests.md`, checked there on several makers. What
does not begin with "OA" is of another kind (older hashes, the documents' `DummyHash123`) and cannot be verified.

A hash holds a device's network card, disk and TPM. Nothing here quotes one.
"""

import binascii
import struct
from enum import Enum, auto
from hashlib import sha256
from typing import NamedTuple

SIZE = 3000
LENGTH = 4000  # in Base64
_CHECKSUM_SIZE = 36
_ZEROS = "A" * LENGTH
_CHECKSUM_HEAD = b"CS" + struct.pack("<H", _CHECKSUM_SIZE)
_HEAD_OF_RECORD = struct.Struct("<HH").unpack_from
_FIELDS = {14: "serial_number", 16: "manufacturer", 17: "model", 24: "product_key"}


class Fault(Enum):
    """What is wrong with a hash."""

    NOT_BASE64 = auto()
    TRUNCATED = auto()
    CORRUPT = auto()
    UNVERIFIABLE = auto()  # not wrong: only of a kind that cannot be checked


class Named(NamedTuple):
    """The device that a hash names; empty where it does not say."""

    serial_number: str = ""
    manufacturer: str = ""
    model: str = ""
    product_key: str = ""


def padded(text: str) -> str:
    """The hash with the padding it should have: `=` stripped, an `A` added where one character is over, then padded.

    That is the advice of Microsoft's page "Troubleshoot Autopilot device import and enrollment".
    """
    bare = text.rstrip("=")
    if len(bare) % 4 == 1:
        bare += "A"
    return bare + "=" * (-len(bare) % 4)


def read_hash(text: str) -> Named | Fault:
    """The device that a padded hash names, its checksum verified; or what is wrong with it."""
    try:
        data = _decoded(text)
    except ValueError:
        return Fault.NOT_BASE64
    if not data.startswith(b"OA") or len(data) < 4:
        return Fault.UNVERIFIABLE
    end = int.from_bytes(data[2:4], "little")
    if len(data) < max(end + _CHECKSUM_SIZE, SIZE):
        return Fault.TRUNCATED
    sealed = _CHECKSUM_HEAD + sha256(data[:end]).digest()
    if len(data) != SIZE or data[end:] != sealed.ljust(SIZE - end, b"\0"):
        return Fault.CORRUPT
    return _walk(data, end)


def _decoded(text: str) -> bytes:
    """Its bytes. Three quarters of a hash are zeros, "A" in Base64: they are compared, which is quicker than decoding.

    Raises ValueError where it is no Base64.
    """
    if len(text) == LENGTH:
        end = int.from_bytes(binascii.a2b_base64(text[:8], strict_mode=True)[2:4], "little")
        used = (end + _CHECKSUM_SIZE + 2) // 3 * 4
        if text.endswith(_ZEROS[used:]):
            data = binascii.a2b_base64(text[:used], strict_mode=True)
            if len(data) * 4 == used * 3:
                return data.ljust(SIZE, b"\0")
    return binascii.a2b_base64(text, strict_mode=True)


def _walk(data: bytes, end: int) -> Named | Fault:
    found: dict[str, str] = {}
    at = 4
    while at < end:
        if at + 4 > end:
            return Fault.CORRUPT
        kind, length = _HEAD_OF_RECORD(data, at)
        if length < 4 or at + length > end:
            return Fault.CORRUPT
        if kind in _FIELDS:
            found[_FIELDS[kind]] = data[at + 4 : at + length].split(b"\0")[0].decode("latin-1").strip()
        at += length
    return Named(**found)
