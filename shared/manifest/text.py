"""From the bytes of a blob to text, a piece at a time."""

import codecs
import io
from collections.abc import Buffer, Iterable, Iterator
from itertools import chain

from shared.manifest.findings import Code, Refused

_LOOK_AHEAD = 4096
_ENCODING_OF_MARK = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_OTHER_THINGS = {
    b"PK\x03\x04": "an Excel workbook or a zip archive. Save it as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook. Save it as CSV",
    b"%PDF": "a PDF document. Send the device list itself, as CSV or JSON",
    b"\x1f\x8b": "a gzip archive. Unpack it",
    b"\x89PNG": "a picture. Send the device list itself, as CSV or JSON",
    b"\xff\xd8\xff": "a picture. Send the device list itself, as CSV or JSON",
}


def open_text(chunks: Iterable[bytes]) -> tuple[io.TextIOWrapper, str]:
    """A text stream over `chunks`, by their byte order mark, else as UTF-8, and how it begins, white space apart.

    Line ends are kept as they are. Raises Refused at once for what is no text at all; a read that meets bytes which
    are not of the encoding raises UnicodeDecodeError.
    """
    chunks = iter(chunks)
    start = b""
    while len(start) < _LOOK_AHEAD and (chunk := next(chunks, None)) is not None:
        start += chunk
    for mark, what in _OTHER_THINGS.items():
        if start.startswith(mark):
            raise Refused(Code.NOT_A_MANIFEST, f"The file is {what}, and drop it again.")
    encoding = next((e for mark, e in _ENCODING_OF_MARK.items() if start.startswith(mark)), "utf-8")
    beginning = start[:_LOOK_AHEAD].decode(encoding, errors="ignore").lstrip()[:16]
    stream = io.BufferedReader(_Chunks(chain([start], chunks)))
    return io.TextIOWrapper(stream, encoding=encoding, errors="strict", newline="\n"), beginning


class _Chunks(io.RawIOBase):
    """A file made of an iterable of bytes. It does not hold more than one chunk."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks: Iterator[bytes] = iter(chunks)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        target = memoryview(buffer)
        n = min(len(target), len(self._rest))
        target[:n] = self._rest[:n]
        self._rest = self._rest[n:]
        return n
