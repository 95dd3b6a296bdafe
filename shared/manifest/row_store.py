"""The rows of a manifest on this machine's disk, in blocks, so that none of them need be held."""

from __future__ import annotations

import marshal
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from itertools import count, pairwise, repeat
from typing import Any

from shared.manifest.device import Device
from shared.manifest.findings import Code, Finding

_IN_MEMORY = 8 * 1024 * 1024
_BLOCK = 64  # rows, with their hashes a quarter of a megabyte

type _Said = tuple[tuple[tuple[str, str, str, bool], ...], tuple[str, ...]]  # findings, and what is beyond

_NOTHING: _Said = ((), ())


class RowStore:
    """Row number, device, findings, and what is beyond, of each row in the order in which they came. Close it."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed with the store
        self._edges = array("Q", [0])  # of the blocks in the file
        self._begin()

    def _begin(self) -> None:
        self._numbers: list[int] = []
        self._devices: list[tuple[str, ...]] = []
        self._said: list[_Said] = []

    def close(self) -> None:
        self._file.close()

    def append(self, number: int, device: Device, findings: Sequence[Finding], beyond: tuple[str, ...]) -> None:
        self._numbers.append(number)
        self._devices.append(tuple(device))
        self._said.append((tuple((str(f.code), f.message, f.column, f.strict) for f in findings), beyond))
        if len(self._numbers) == _BLOCK:
            self._flush()

    def append_plain(self, first: int, columns: Sequence[Sequence[str]]) -> None:
        """Consecutive rows of which nothing is said, as columns of Device's fields."""
        self._flush()
        self._write((first, columns))

    def _flush(self) -> None:
        if self._numbers:
            self._write((self._numbers, self._devices, self._said))
            self._begin()

    def _write(self, block: Any) -> None:
        # Not by marshal.dump and load: the latter asks the file for every few bytes.
        self._file.write(marshal.dumps(block))
        self._edges.append(self._file.tell())

    def __iter__(self) -> Iterator[tuple[int, Device, list[Finding], tuple[str, ...]]]:
        for number, device, (packed, beyond) in self.packed():
            findings = [
                Finding(Code(code), message, number, column, strict) for code, message, column, strict in packed
            ]
            yield number, Device._make(device), findings, beyond

    def packed(self) -> Iterator[tuple[int, tuple[str, ...], _Said]]:
        """Each row as it lies there. Several may go through at a time: every block is sought anew."""
        self._flush()
        for start, end in pairwise(self._edges):
            self._file.seek(start)
            yield from _rows(*marshal.loads(self._file.read(end - start)))  # noqa: S302 - we wrote it


def _rows(numbers: Any, devices: Any, said: Any = None) -> Iterator[tuple[int, tuple[str, ...], _Said]]:
    """The rows of a block, of either kind."""
    if said is None:
        return zip(count(numbers), zip(*devices, strict=True), repeat(_NOTHING), strict=False)
    return zip(numbers, devices, said, strict=True)
