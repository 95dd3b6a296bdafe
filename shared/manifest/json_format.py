"""Manifests as JSON.

    {"BatchId": "…", "Devices": [{…}]}                     the API's request, in any letter case
    {"value": [{…}]}                                       a list as Graph and PowerShell write it
    {"importedWindowsAutopilotDeviceIdentities": [{…}]}    the body of Graph's import
    [{…}]                                                  the devices alone
    {…}                                                    one device
    {…}⏎{…}⏎                                               one device a line; a broken line is one bad row

Of a document no more is held than one device, or one line.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TextIO

from shared.manifest.columns import field_of
from shared.manifest.device import FIELDS, Row
from shared.manifest.findings import Code, Finding, Refused, quote, shortened
from shared.manifest.json_text import LONGEST_VALUE, JsonText, decode
from shared.manifest.lines import refuse_more_lines
from shared.manifest.members import RowMaker, bad_row, fault_of
from shared.manifest.text import CTRL_Z

_LISTS = frozenset({"devices", "value", "importedwindowsautopilotdeviceidentities"})
_HEADINGS = {"batchid": "batch_id", "customerid": "customer_id"}
_MEANT_FOR_AN_API = frozenset(
    {"id", "policies", "createdby", "uploadeddate", "allowedoperations", "attributes", "importid", "state"}
)
_MOST_MEMBERS = 100  # beside or instead of a list


@dataclass(frozen=True, slots=True)
class Heading:
    """What a JSON document says of all its devices."""

    batch_id: str = ""
    customer_id: str = ""


def read_json(text: TextIO) -> Iterator[Row | Finding | Heading]:
    """Rows of a JSON manifest, numbered as elements from 1 (as lines, where each is a device), and its Heading.

    Raises Refused where the text is not JSON, or JSON of another shape.
    """
    lines = _lines(text)
    _, first = beginning = next(lines, (0, ""))
    # One more line tells, unless the first is so long that it may be the whole document.
    second = next(lines, None) if first.endswith(("\n", "\r")) else None
    if second and _is_device_a_line(first, second[1]):
        yield from _devices_by_line(chain([beginning, second], lines))
    else:
        yield from _Document(JsonText(text, held=first + (second[1] if second else ""))).rows()


def _lines(text: TextIO) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers. Of one too long only the beginning is given."""
    number = 0
    while line := text.readline(LONGEST_VALUE + 1):
        number += 1
        refuse_more_lines(number)
        if line.strip():
            yield number, line
        while len(line) > LONGEST_VALUE and not line.endswith(("\n", "\r")):
            line = text.readline(LONGEST_VALUE + 1)


def _is_device_a_line(first: str, second: str) -> bool:
    """Whether these two lines stand for themselves: in one document no object follows without a sign before it."""
    if not first.lstrip().startswith("{"):
        return False
    if second.lstrip().startswith("{") and not first.rstrip().endswith((",", "[", ":")):
        return True
    try:
        members = decode(first)
    except ValueError:
        return False
    return isinstance(members, tuple) and not any(_key(name) in _LISTS for name, _ in members)


def _devices_by_line(lines: Iterable[tuple[int, str]]) -> Iterator[Row | Finding]:
    rows = RowMaker(_field_of)
    for number, line in lines:
        if line.strip(CTRL_Z + "\r\n"):
            try:
                value = decode(line.strip(CTRL_Z + "\r\n"))
            except ValueError:
                yield bad_row(number, "The line is not JSON: something is missing in it, or one too many.")
            else:
                yield from _row(rows, number, value)


def _row(rows: RowMaker, number: int, value: object) -> Iterator[Row | Finding]:
    if isinstance(value, tuple):
        yield from rows.row(number, value)
    else:
        yield bad_row(number, "It is not an object with a device's members.")


class _Document:
    def __init__(self, text: JsonText) -> None:
        self._text = text
        self._rows = RowMaker(_field_of)
        self._count = 0
        self._has_list = False
        self._members: list[tuple[str, object]] = []

    def rows(self) -> Iterator[Row | Finding | Heading]:
        try:
            yield from self._list() if self._text.peek() == "[" else self._object()
            self._text.end()
        except ValueError as error:
            # The parser's own words would quote the text around the fault, which may be a hash.
            raise Refused(
                Code.NOT_A_MANIFEST,
                f"The JSON is broken after {self._count} whole device(s): a comma, bracket or quotation mark is "
                f"missing there or one too many, a value is longer than {LONGEST_VALUE:,} characters or nested too "
                "many levels deep, or the file was cut off.",
                self._count + 1,
            ) from error

    def _list(self) -> Iterator[Row | Finding]:
        for _ in self._text.items("[", "]"):
            yield from self._next_device(self._text.value())

    def _next_device(self, value: object) -> Iterator[Row | Finding]:
        self._count += 1
        yield from _row(self._rows, self._count, value)

    def _object(self) -> Iterator[Row | Finding | Heading]:
        for _ in self._text.items("{", "}"):
            name = self._text.name()
            if _key(name) in _LISTS:
                self._has_list = True
                yield from self._list() if self._text.peek() == "[" else self._instead_of_list(name)
            else:
                self._keep(name, self._text.value())
        if self._has_list:
            yield from self._heading()
        elif any(field_of(name) in FIELDS for name, _ in self._members):
            yield from self._next_device(tuple(self._members))
        else:
            raise _other_shape()

    def _instead_of_list(self, name: str) -> Iterator[Row | Finding]:
        """Where a list should be, some programs write its only element, and null for none."""
        value = self._text.value()
        if isinstance(value, tuple):
            yield from self._next_device(value)
        elif value is not None:
            raise Refused(Code.NOT_A_MANIFEST, f"{quote(name)} must be a list of devices.")

    def _keep(self, name: str, value: object) -> None:
        if len(self._members) == _MOST_MEMBERS:
            raise _other_shape()
        self._members.append((name, value if isinstance(value, str | None) else 0))

    def _heading(self) -> Iterator[Finding | Heading]:
        said: dict[str, str] = {}
        for name, value in self._members:
            heading = _HEADINGS.get(_key(name))
            if heading and value is not None:
                if fault := fault_of(name, value, again=heading in said):
                    raise Refused(Code.INVALID_VALUE, fault, column=shortened(name))
                said[heading] = str(value).strip()
            elif _key(name) == "@odata.nextlink":
                message = "The list is one page of several. Drop the others, too, each as a file of its own."
                yield Finding(Code.IGNORED_COLUMN, message, column=shortened(name))
            elif _field_of(name):
                message = f"{quote(name)} stands beside the list of devices, so it is no device's, and was not used."
                yield Finding(Code.IGNORED_COLUMN, message, column=shortened(name))
        yield Heading(**said)


def _key(name: str) -> str:
    return name.strip().casefold()


def _field_of(name: str) -> str | None:
    if _key(name) in _MEANT_FOR_AN_API or "@" in name:
        return ""
    return "group_tag" if _key(name) == "batchid" else field_of(name)


def _other_shape() -> Refused:
    return Refused(
        Code.NOT_A_MANIFEST,
        'The JSON is not a device manifest. Send {"BatchId": "…", "Devices": [{…}]} or an array of devices, each with '
        "members like SerialNumber, ProductKey, HardwareHash, OemManufacturerName and ModelName.",
    )
