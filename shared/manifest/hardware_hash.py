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

import base64
import binascii
import struct
from dataclasses import dataclass
from enum import Enum, auto
from hashlib import sha256

SIZE = 3000
LENGTH = 4000  # in Base64
_CHECKSUM_SIZE = 36
_FIELDS = {14: "serial_number", 16: "manufacturer", 17: "model", 24: "product_key"}


class Fault(Enum):
    """What is wrong with a hash."""

    NOT_BASE64 = auto()
    TRUNCATED = auto()
    CORRUPT = auto()
    UNVERIFIABLE = auto()  # not wrong: only of a kind that cannot be checked


@dataclass(frozen=True, slots=True)
class Named:
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
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return Fault.NOT_BASE64
    if not data.startswith(b"OA") or len(data) < 4:
        return Fault.UNVERIFIABLE
    (end,) = struct.unpack_from("<H", data, 2)
    if len(data) < max(end + _CHECKSUM_SIZE, SIZE):
        return Fault.TRUNCATED
    checksum = b"CS" + struct.pack("<H", _CHECKSUM_SIZE) + sha256(data[:end]).digest()
    if data[end : end + _CHECKSUM_SIZE] != checksum or data[end + _CHECKSUM_SIZE :].strip(b"\0") or len(data) > SIZE:
        return Fault.CORRUPT
    return _walk(data, end)


def _walk(data: bytes, end: int) -> Named | Fault:
    found: dict[str, str] = {}
    at = 4
    while at < end:
        if at + 4 > end:
            return Fault.CORRUPT
        kind, length = struct.unpack_from("<HH", data, at)
        if length < 4 or at + length > end:
            return Fault.CORRUPT
        if field := _FIELDS.get(kind):
            found[field] = data[at + 4 : at + length].split(b"\0")[0].decode("latin-1").strip()
        at += length
    return Named(**found)
