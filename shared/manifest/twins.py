"""Rows of one manifest that are of the same device: once all were read, for each the other one.

Of each row three numbers are kept, keyed hashes of 64 bits, so that 100,000 rows take a few megabytes. That two values
share one by chance is less likely than a fault of the machine, and nobody outside can bring it about.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence

from shared.manifest.device import FIELDS, Device, PlainRows
from shared.manifest.findings import Code, Finding, quote

_NAMING = ("serial_number", "product_key", "hardware_hash")
_NOTHING = hash("")  # what is not given


class Twins:
    """`found`: for each row that has a twin, what they share (all, where empty), and the twin's index."""

    def __init__(self) -> None:
        self.found: dict[int, tuple[str, int]] = {}
        self._numbers = array("L")
        self._keys = {field: array("q") for field in _NAMING}

    def row_number(self, index: int) -> int:
        return self._numbers[index]

    def add(self, number: int, device: Device) -> None:
        """A row, in the manifest's order. One that identifies nothing is nobody's twin."""
        self._numbers.append(number)
        values = device if device.is_identified else Device()
        for keys, value in zip(self._keys.values(), values, strict=False):
            keys.append(hash(value))

    def add_plain(self, plain: PlainRows) -> None:
        """The same for many rows, each of which is identified."""
        self._numbers.extend(range(plain.first, plain.first + len(plain)))
        for keys, values in zip(self._keys.values(), plain.columns, strict=False):
            keys.extend(map(hash, values))

    def settle(self, rows: Iterable[tuple[Device, str]], fates: Sequence[int]) -> None:
        """Find them all. `rows`: device and group tag of each. Where both are the same the rows are one; else those
        that share what names a device contradict each other. No good one (its fate is the least) is left out for a bad.
        """
        shared = {field: numbers for field, keys in self._keys.items() if (numbers := _repeated(keys))}
        if not shared:
            return
        some = {i for field, numbers in shared.items() for i, key in enumerate(self._keys[field]) if key in numbers}
        wholes = {index: hash(row) for index, row in enumerate(rows) if index in some}
        self._pair("", {i: wholes[i] for i in sorted(wholes, key=fates.__getitem__)})
        for field, numbers in shared.items():
            keys = self._keys[field]
            self._pair(field, {i: keys[i] for i in wholes if keys[i] in numbers and self.found.get(i, " ")[0]})

    def _pair(self, field: str, keys: dict[int, int]) -> None:
        first_of: dict[int, int] = {}
        for index, key in keys.items():
            first = first_of.setdefault(key, index)
            if first != index:
                self.found.setdefault(index, (field, first))
                if field:
                    self.found.setdefault(first, (field, index))

    def finding(self, index: int, device: Device) -> Finding:
        """What is to be said of a row that has a twin."""
        field, twin = self.found[index]
        number, other = self._numbers[index], self._numbers[twin]
        if not field:
            message = f"The same device stands in row {other}; this row was left out."
            return Finding(Code.DUPLICATE_DEVICE, message, number)
        what = FIELDS[field]
        shown = "" if field == "hardware_hash" else f" {quote(getattr(device, field))}"
        message = f"Row {other} has the same {what}{shown} but differs elsewhere. Keep the right one of the two."
        return Finding(Code.CONFLICTING_DUPLICATE, message, number, what)


def _repeated(keys: array[int]) -> set[int]:
    """The numbers that stand there more than once."""
    absent = keys.count(_NOTHING)
    if len(set(keys)) + absent - (absent > 0) == len(keys):
        return set()
    return {key for key, count in Counter(keys).items() if count > 1 and key != _NOTHING}
