"""Manifests as JSON: the API's DeviceBatchCreationRequest in any letter case, or a bare array of devices.

Read as a stream of events, so that neither a file of 100,000 devices nor one nested a million deep is ever held.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO

import ijson

from shared.manifest.columns import field_of
from shared.manifest.device import Device, Row
from shared.manifest.findings import Code, Finding, Refused, quote, shortened

DEEPEST = 32
LONGEST_STRING = 131_072
_MEANT_FOR_THE_API = frozenset({"id", "policies", "createdby", "uploadeddate", "allowedoperations", "attributes"})

type Event = tuple[str, object]


@dataclass(frozen=True, slots=True)
class Heading:
    """What a JSON document says of all its devices."""

    batch_id: str = ""
    customer_id: str = ""


def read_json(text: TextIO) -> Iterator[Row | Finding | Heading]:
    """Rows of a JSON manifest, numbered as elements from 1, and its Heading, wherever in the document it stands.

    Raises Refused where the text is not JSON, or JSON of another shape.
    """
    reader = _Reader(_events(text))
    try:
        yield from reader.document()
    except ijson.JSONError as error:
        # The parser's own words quote the text around the fault, which may be a hash.
        raise Refused(
            Code.NOT_A_MANIFEST,
            f"The JSON is broken after {reader.count} whole device(s): a comma, bracket or quotation mark is missing "
            "there or one too many, or the file was cut off.",
            reader.count + 1,
        ) from error


def _events(text: TextIO) -> Iterator[Event]:
    depth = 0
    for event, value in ijson.basic_parse(_Utf8(text), use_float=True):
        if event.startswith("start_"):
            depth += 1
        elif event.startswith("end_"):
            depth -= 1
        if depth > DEEPEST:
            raise Refused(Code.NOT_A_MANIFEST, f"The JSON is nested more than {DEEPEST} levels deep.")
        yield event, value


class _Utf8:
    """`text` as the file of UTF-8 bytes that the parser wants."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._open = 0

    def read(self, size: int = -1) -> bytes:
        piece = self._text.read(size)
        # The parser copies an unfinished string with each piece that it reads, so a long one would cost its square.
        closed = max(piece.rfind('",'), piece.rfind('":'), piece.rfind('"\n'), piece.rfind('"}'), piece.rfind('" '))
        self._open = self._open + len(piece) if closed < 0 else len(piece) - closed
        if self._open > LONGEST_STRING:
            raise Refused(Code.NOT_A_MANIFEST, f"The JSON holds a string longer than {LONGEST_STRING:,} characters.")
        return piece.encode("utf-8", "surrogatepass")


class _Reader:
    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events
        self._ignored: set[str] = set()
        self.count = 0

    def document(self) -> Iterator[Row | Finding | Heading]:
        event, _ = next(self._events)
        if event == "start_array":
            yield from self._devices()
        elif event == "start_map":
            yield from self._request()
        else:
            raise _other_shape()
        # A second document after the first would be lost: the parser must reach the end, or say so.
        for _ in self._events:
            pass

    def _request(self) -> Iterator[Row | Finding | Heading]:
        heading: dict[str, str] = {}
        has_devices = False
        for event, key in self._events:
            if event == "end_map":
                break
            name = str(key).casefold()
            event, value = next(self._events)
            if name == "devices" and event == "start_array":
                has_devices = True
                yield from self._devices()
            elif name in ("batchid", "customerid") and event == "string":
                heading["batch_id" if name == "batchid" else "customer_id"] = str(value).strip()
            elif name in ("batchid", "customerid") and event != "null":
                raise Refused(Code.INVALID_VALUE, f"{key} must be a string.", column=str(key))
            else:
                self._skip(event)
        if not has_devices:
            raise _other_shape()
        yield Heading(**heading)

    def _devices(self) -> Iterator[Row | Finding]:
        for event, _ in self._events:
            if event == "end_array":
                return
            number = self.count + 1
            if event == "start_map":
                yield from self._device(number)
            else:
                self._skip(event)
                fault = Finding(Code.INVALID_VALUE, "The element is not an object with a device's members.", number)
                yield Row(number, Device(), findings=(fault,))
            self.count = number

    def _device(self, number: int) -> Iterator[Row | Finding]:
        known: dict[str, str] = {}
        findings: list[Finding] = []
        for event, key in self._events:
            if event == "end_map":
                break
            name = str(key)
            event, value = next(self._events)
            self._skip(event)
            field = field_of(name)
            if field is None:
                yield from self._unused(name, number)
            elif field in known:
                message = f"{quote(name)} says again what another member says. Keep one of them."
                findings.append(Finding(Code.INVALID_VALUE, message, number, shortened(name)))
            elif event == "string":
                known[field] = str(value).strip()
            elif event != "null":
                message = f"{quote(name)} must be a string: a number would lose its leading zeros."
                findings.append(Finding(Code.INVALID_VALUE, message, number, shortened(name)))
        group_tag, customer_id = known.pop("group_tag", ""), known.pop("customer_id", "")
        yield Row(number, Device(**known), group_tag, customer_id, tuple(findings))

    def _unused(self, name: str, number: int) -> Iterator[Finding]:
        if name.casefold() in _MEANT_FOR_THE_API or name in self._ignored or len(self._ignored) >= 100:
            return
        self._ignored.add(name)
        yield Finding(Code.IGNORED_COLUMN, f"The member {quote(name)} was not used.", number, shortened(name))

    def _skip(self, event: str) -> None:
        """Past the value whose first event this is."""
        depth = 1 if event.startswith("start_") else 0
        while depth:
            event, _ = next(self._events)
            depth += event.startswith("start_") - event.startswith("end_")


def _other_shape() -> Refused:
    return Refused(
        Code.NOT_A_MANIFEST,
        'The JSON is not a device manifest. Send {"BatchId": "…", "Devices": [{…}]} or an array of devices, each with '
        "members like SerialNumber, ProductKey, HardwareHash, OemManufacturerName and ModelName.",
    )
