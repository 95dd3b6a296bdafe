"""From the bytes of a blob to text, a piece at a time.

    bytes ─► a mark? UTF-8, UTF-16, UTF-32
             else zero bytes in every other place? UTF-16
             else UTF-8, until something is not UTF-8: cp1252 if all before it was ASCII
          ─► UTF-8 ─► TextIOWrapper

No byte is read twice, and none becomes a replacement character: what cannot be read is refused with its line.
"""

import codecs
import io
from collections.abc import Buffer, Iterable, Iterator

from shared.manifest.findings import Code, Refused
from shared.manifest.foreign import LOOK_AHEAD, refuse_foreign
from shared.manifest.pieces import begin

# The marks of UTF-32 first: that of UTF-16 begins one of them.
_ENCODING_OF_MARK = {
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_ANSI = "cp1252"
_ASCII_AND_MORE = ("utf-8", _ANSI)
CTRL_Z = "\x1a"  # ends a text in DOS


def open_text(pieces: Iterable[bytes]) -> tuple[io.TextIOWrapper, str]:
    """A text stream over `pieces`, whatever their encoding, and how it begins, white space apart.

    Line ends are kept as they are. Raises Refused at once for what is no text at all, and a read does where it meets
    bytes that no encoding explains.
    """
    start, pieces = begin(pieces, LOOK_AHEAD)
    start = start[:LOOK_AHEAD]
    refuse_foreign(start)
    mark = next((mark for mark in _ENCODING_OF_MARK if start.startswith(mark)), b"")
    encoding = _ENCODING_OF_MARK[mark] if mark else _by_zero_bytes(start)
    beginning = start[len(mark) :].decode(encoding or "utf-8", errors="ignore").lstrip()[:16]
    stream = io.BufferedReader(_Stream(_Recoder(mark, encoding).utf8(pieces)))
    return io.TextIOWrapper(stream, encoding="utf-8", newline=""), beginning


def _by_zero_bytes(start: bytes) -> str:
    """UTF-16, where every other byte is zero in the first character or in most; else nothing is known."""
    even, odd = start[::2].count(0), start[1::2].count(0)
    for encoding, zeros, others, first in (("utf-16-le", odd, even, start[1:2]), ("utf-16-be", even, odd, start[:1])):
        if zeros > 4 * others and (first == b"\0" or zeros * 8 > len(start)):
            return encoding
    return ""


class _Recoder:
    """Any encoding to UTF-8. An empty one is to be found out."""

    def __init__(self, mark: bytes, encoding: str) -> None:
        self._mark = mark
        self._may_be_ansi = not encoding
        self._encoding = encoding or "utf-8"
        self._decoder = codecs.getincrementaldecoder(self._encoding)()
        self._line_feeds = self._returns = 0

    def utf8(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """`pieces` as UTF-8. All that stands before a fault is given before the fault is raised."""
        _, pieces = begin(pieces, len(self._mark))
        yield from self._decoded(next(pieces)[len(self._mark) :])
        for piece in pieces:
            yield from self._decoded(piece)
        yield from self._decoded(b"", final=True)

    def _decoded(self, data: bytes, *, final: bool = False) -> Iterator[bytes]:
        if data.isascii() and self._encoding in _ASCII_AND_MORE and not self._decoder.getstate()[0]:
            yield from self._checked(data)  # most manifests are this and no more
            return
        try:
            text = self._decoder.decode(data, final)
        except UnicodeDecodeError as error:
            yield from self._past(error, final=final)
        else:
            self._may_be_ansi = self._may_be_ansi and text.isascii()
            yield from self._checked(text.encode())

    def _past(self, error: UnicodeDecodeError, *, final: bool) -> Iterator[bytes]:
        good, bad = error.object[: error.start], error.object[error.start :]
        yield from self._checked(good.decode(self._encoding).encode())
        if self._may_be_ansi and good.isascii():
            self._may_be_ansi, self._encoding = False, _ANSI
            self._decoder = codecs.getincrementaldecoder(_ANSI)()
            yield from self._decoded(bad, final=final)
        elif not (final and bad == CTRL_Z.encode()):  # one byte, as DOS copies append it, even to UTF-16
            raise self._unreadable("bytes that are no text in the file's encoding")

    def _checked(self, data: bytes) -> Iterator[bytes]:
        before, zero, _ = data.partition(b"\0")
        self._line_feeds += before.count(b"\n")
        if not self._line_feeds:  # else they end no line, or the same
            self._returns += before.count(b"\r")
        yield before
        if zero:
            raise self._unreadable("zero bytes, as no text has")

    def _unreadable(self, what: str) -> Refused:
        line = 1 + (self._line_feeds or self._returns)
        message = f"Line {line} holds {what}. Save the file as UTF-8, or as “CSV UTF-8”, and drop it again."
        return Refused(Code.UNREADABLE_TEXT, message, line)


class _Stream(io.RawIOBase):
    """A file made of an iterable of bytes."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        target = memoryview(buffer)
        n = min(len(target), len(self._rest))
        target[:n] = self._rest[:n]
        self._rest = self._rest[n:]
        return n
