"""The rows of a manifest on this machine's disk, in blocks, so that none of them need be held."""

from __future__ import annotations

import marshal
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any

from shared.manifest.device import Device
from shared.manifest.findings import Code, Finding

_IN_MEMORY = 8 * 1024 * 1024
_BLOCK = 64  # rows, with their hashes a quarter of a megabyte

type _Packed = tuple[str, str, str, bool]


class RowStore:
    """Row number, device and findings of each row, in the order in which they came. Close it."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed with the store
        self._begin()

    def _begin(self) -> None:
        self._numbers: list[int] = []
        self._devices: list[tuple[str, ...]] = []
        self._findings: list[tuple[_Packed, ...]] = []

    def close(self) -> None:
        self._file.close()

    def append(self, number: int, device: Device, findings: Iterable[Finding]) -> None:
        self._numbers.append(number)
        self._devices.append(tuple(device))
        self._findings.append(tuple(map(_packed, findings)))
        if len(self._numbers) == _BLOCK:
            self._flush()

    def append_plain(self, first: int, devices: Sequence[tuple[str, ...]]) -> None:
        """Devices of consecutive rows without findings."""
        self._flush()
        self._write(range(first, first + len(devices)), devices, ())

    def _flush(self) -> None:
        if self._numbers:
            self._write(self._numbers, self._devices, self._findings)
            self._begin()

    def _write(
        self, numbers: Sequence[int], devices: Sequence[tuple[str, ...]], findings: Sequence[tuple[_Packed, ...]]
    ) -> None:
        block: Any = (list(numbers), devices, findings)
        marshal.dump(block, self._file)

    def __iter__(self) -> Iterator[tuple[int, Device, list[Finding]]]:
        """Each row. Several may go through at a time: every block is sought anew."""
        self._flush()
        at, end = 0, self._file.seek(0, 2)
        while at < end:
            self._file.seek(at)
            numbers, devices, findings = marshal.load(self._file)  # noqa: S302 - we wrote it
            at = self._file.tell()
            for number, device, packed in zip(numbers, devices, findings or repeat(()), strict=False):
                yield number, Device._make(device), [_unpacked(number, *finding) for finding in packed]
        self._file.seek(0, 2)


def _packed(finding: Finding) -> _Packed:
    return str(finding.code), finding.message, finding.column, finding.strict


def _unpacked(number: int, code: str, message: str, column: str, strict: bool) -> Finding:
    return Finding(Code(code), message, number, column, strict)
