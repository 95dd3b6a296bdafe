"""gzip, taken off a manifest piece by piece."""

import zlib
from collections.abc import Iterable, Iterator

from shared.manifest.findings import Code, Refused
from shared.manifest.pieces import begin

MOST_MEMBERS = 10_000
RATIO = 200
RATIO_COUNTS_FROM = 16 * 1024 * 1024  # a template with thousands of rows of commas shrinks more than any device list
_MARK = b"\x1f\x8b"
_SLICE = 16 * 1024  # zlib copies what it has not used up, with every call
_PIECE = 64 * 1024


def unpacked(pieces: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    """What is in a gzip archive, of one member or several; anything else as it is.

    Raises Refused, while it is read, where the archive is damaged or cut off, or holds more than `max_bytes`.
    """
    start, pieces = begin(pieces, len(_MARK))
    return _Archive(max_bytes).contents(pieces) if start.startswith(_MARK) else pieces


class _Archive:
    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._taken = self._given = self._members = 0

    def contents(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        member = None
        for data in _slices(pieces):
            self._taken += len(data)
            while data:
                if member is None:
                    data = data.lstrip(b"\0")  # padding, which some transfers leave behind the end
                    member = self._next_member() if data else None
                    continue
                yield from self._inflated(member, data)
                data = member.unused_data  # the next member's
                member = None if member.eof else member
        if member is not None:
            raise Refused(
                Code.UNREADABLE_TEXT, "The gzip archive breaks off before its end. Upload it again, and wholly."
            )

    def _next_member(self) -> "zlib._Decompress":
        self._members += 1
        if self._members > MOST_MEMBERS:
            raise Refused(
                Code.NOT_A_MANIFEST, f"The gzip archive has more than {MOST_MEMBERS:,} members. Compress it anew."
            )
        return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    def _inflated(self, member: "zlib._Decompress", data: bytes) -> Iterator[bytes]:
        try:
            piece = member.decompress(data, _PIECE)
            while piece:
                self._count(piece)
                yield piece
                piece = member.decompress(member.unconsumed_tail, _PIECE)
        except zlib.error as error:
            raise Refused(
                Code.UNREADABLE_TEXT,
                "The gzip archive is damaged, or something else stands behind its end. Compress the device list anew, "
                "and drop it again.",
            ) from error

    def _count(self, piece: bytes) -> None:
        self._given += len(piece)
        if self._given > self._max_bytes:
            raise Refused(
                Code.MANIFEST_TOO_LARGE,
                f"The gzip archive holds more than {self._max_bytes:,} bytes. Send the devices in parts.",
            )
        if self._given > max(RATIO_COUNTS_FROM, RATIO * self._taken):
            raise Refused(
                Code.NOT_A_MANIFEST, f"The gzip archive holds more than {RATIO} times its size, as no device list does."
            )


def _slices(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """`pieces` cut anew, always at the same places: what zlib gives before a fault depends on them."""
    held = b""
    for piece in pieces:
        held += piece
        whole = len(held) - len(held) % _SLICE
        for at in range(0, whole, _SLICE):
            yield held[at : at + _SLICE]
        held = held[whole:]
    yield held
