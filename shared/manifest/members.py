"""From a device's named members, as JSON and XML have them, to a row."""

import re
from collections.abc import Callable, Iterable, Iterator

from shared.manifest.device import Device, Row
from shared.manifest.findings import Code, Finding, quote, shortened

_UNUSED_AT_MOST = 100  # said of a manifest
_FAULTS_AT_MOST = 10  # said of a row
_HALF = re.compile("[\ud800-\udfff]")  # JSON can write half of a character that UTF-16 makes of two


class RowMaker:
    """Makes rows, and says once of each member that it was not used.

    `field_of` gives the field of `Device` or `Row` that a member holds, nothing where it is no news that we do not use
    it, and None where that is to be said.
    """

    def __init__(self, field_of: Callable[[str], str | None]) -> None:
        self._field_of = field_of
        self._ignored: set[str] = set()

    def row(self, number: int, members: Iterable[tuple[str, object]]) -> Iterator[Row | Finding]:
        known: dict[str, str] = {}
        faults: list[Finding] = []
        for name, value in members:
            field = self._field_of(name)
            if field is None:
                yield from self._unused(shortened(name), number)
            elif field and value not in (None, ""):
                fault = fault_of(name, value, again=field in known)
                if fault and len(faults) < _FAULTS_AT_MOST:
                    faults.append(Finding(Code.INVALID_VALUE, fault, number, shortened(name)))
                known.setdefault(field, "" if fault else str(value).strip())
        group_tag, customer_id = known.pop("group_tag", ""), known.pop("customer_id", "")
        beyond = tuple(fault.column for fault in faults)
        yield Row(number, Device(**known), group_tag, customer_id, tuple(faults), beyond)

    def _unused(self, name: str, number: int) -> Iterator[Finding]:
        if name not in self._ignored and len(self._ignored) < _UNUSED_AT_MOST:
            self._ignored.add(name)
            yield Finding(Code.IGNORED_COLUMN, f"The member “{name}” was not used.", number, name)


def fault_of(name: str, value: object, *, again: bool) -> str:
    """Why the member cannot be used, if it cannot."""
    if again:
        return f"{quote(name)} says again what another member says. Keep one of them."
    if not isinstance(value, str):
        return f"{quote(name)} must be a string: a number would lose its leading zeros."
    return (
        f"{quote(name)} holds half a character, which cannot be sent. Type the value anew."
        if _HALF.search(value)
        else ""
    )


def bad_row(number: int, message: str) -> Row:
    """A row of which nothing can be read."""
    return Row(number, Device(), findings=(Finding(Code.INVALID_VALUE, message, number),))
