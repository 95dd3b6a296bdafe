"""Manifests as XML: the report that OA3Tool writes, of one key or of several.

    <Key> <ProductKey/> <ProductKeyID>…</ProductKeyID> <ProductKeyState/> <HardwareHash>…</HardwareHash> </Key>

A document type declaration is refused, and with it every entity that could grow or reach out.
"""

import re
from collections.abc import Iterator
from io import StringIO
from typing import TextIO
from xml.parsers import expat

from shared.manifest.columns import field_of
from shared.manifest.device import Row
from shared.manifest.findings import Code, Finding, Refused
from shared.manifest.members import RowMaker
from shared.manifest.text import CTRL_Z

DEEPEST = 32
LONGEST_VALUE = 32_768  # twice what any field may hold: the rest cannot make it good
LONGEST_TAG = 32_768
MOST_ELEMENTS = 2_000_000  # 20 for each device that a manifest may have
MOST_NAMES = 200  # the parser remembers every name
_PIECE = 16_384

_FIELDS = {
    "smbiossystemserialnumber": "serial_number",
    "smbiossystemmanufacturer": "manufacturer",
    "smbiossystemproductname": "model",
    # ProductKey is the licence key itself here, and like the others it is between the tool and Microsoft.
    **dict.fromkeys(
        ("productkey", "productkeystate", "productkeypartnumber", "smbiosuuid", "oemoptionalinfo", "trackinginfo"), ""
    ),
}
_NO_KEY = "0" * 13
_WEB_PAGE = re.compile(r"\s*<(!doctype\s+html|html|head|body|table|div|script)\b", re.IGNORECASE)


def read_xml(text: TextIO) -> Iterator[Row | Finding]:
    """Rows of an XML manifest, numbered as <Key> elements from 1.

    Raises Refused where the text is not XML, or XML of another shape.
    """
    report = _Report()
    try:
        for piece in _pieces(text):
            yield from report.feed(piece)
        yield from report.finish()
    except expat.ExpatError as error:
        raise Refused(
            Code.NOT_A_MANIFEST,
            f"The XML is broken in line {error.lineno}, after {report.count} whole <Key> element(s): a bracket or an "
            "end is missing, an & or a < in a value is not written as &amp; or &lt;, or the file was cut off.",
            report.count + 1,
        ) from error


def _pieces(text: TextIO) -> Iterator[str]:
    """The text, without the white space before it and the Ctrl-Z behind it, which XML does not allow."""
    piece = text.read(_PIECE).lstrip()
    if _WEB_PAGE.match(piece):
        raise _web_page()  # few are XML
    while piece:
        body = piece.removesuffix(CTRL_Z)
        yield body
        more = text.read(_PIECE)
        piece = more and piece[len(body) :] + more


class _Report:
    """What the parser meets, made into rows."""

    def __init__(self) -> None:
        self.count = 0
        self._maker = RowMaker(_field_of)
        self._rows: list[Row | Finding] = []
        self._path: list[str] = []
        self._names: set[str] = set()
        self._key_depth = 0
        self._members: list[tuple[str, str]] = []
        self._value = StringIO()
        self._unfinished = self._elements = 0
        self._parser = expat.ParserCreate("utf-8")
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.DefaultHandler = self._anything_else

    def feed(self, piece: str) -> Iterator[Row | Finding]:
        if self._unfinished > LONGEST_TAG:
            raise Refused(Code.NOT_A_MANIFEST, f"The XML holds a tag longer than {LONGEST_TAG:,} characters.")
        self._unfinished += len(piece)
        self._parser.Parse(piece.encode())
        yield from self._taken()

    def finish(self) -> Iterator[Row | Finding]:
        self._parser.Parse(b"", True)  # the parser may have put off the last elements until here
        yield from self._taken()
        if not self.count and "keys" not in self._names:
            raise _other_shape()

    def _taken(self) -> Iterator[Row | Finding]:
        yield from self._rows
        self._rows.clear()

    # What the parser calls

    def _refuse_doctype(self, name: str, *_: object) -> None:
        if name.casefold() == "html":
            raise _web_page()
        raise Refused(Code.NOT_A_MANIFEST, "The XML has a <!DOCTYPE>. Remove it: a device list needs none.")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._unfinished = 0
        self._elements += 1
        name = _local(tag)
        self._path.append(name)
        self._names.update((name.casefold(), *attributes))
        if len(self._path) == 1 and _WEB_PAGE.match(f"<{name}"):
            raise _web_page()
        is_too_much = max(len(self._names), len(self._members)) > MOST_NAMES or self._elements > MOST_ELEMENTS
        if is_too_much or len(self._path) > DEEPEST:
            raise _other_shape()
        if name.casefold() == "key" and not self._key_depth:
            self._key_depth = len(self._path)
        elif self._is_in_member():
            self._value = StringIO()

    def _characters(self, characters: str) -> None:
        self._unfinished = 0
        if self._is_in_member() and self._value.tell() < LONGEST_VALUE:
            self._value.write(characters)

    def _end(self, _: str) -> None:
        self._unfinished = 0
        if self._is_in_member():
            self._members.append((self._path[-1], _meant(self._path[-1], self._value.getvalue())))
        elif len(self._path) == self._key_depth:
            self.count += 1
            self._rows += self._maker.row(self.count, self._members)
            self._members.clear()
            self._key_depth = 0
        self._path.pop()

    def _anything_else(self, _: str) -> None:
        self._unfinished = 0

    def _is_in_member(self) -> bool:
        return self._key_depth > 0 and len(self._path) == self._key_depth + 1


def _local(tag: str) -> str:
    """The name without the prefix of its namespace, which everybody chooses for himself."""
    return tag.rpartition(":")[2]


def _field_of(name: str) -> str | None:
    known = _FIELDS.get(name.casefold())
    return field_of(name) if known is None else known


def _meant(name: str, value: str) -> str:
    """`value`, or nothing where the tool wrote zeros for a product key id that the device does not have."""
    return "" if name.casefold() == "productkeyid" and value.strip() == _NO_KEY else value


def _web_page() -> Refused:
    return Refused(
        Code.NOT_A_MANIFEST,
        "The file is a web page, perhaps one that asks for a login. Send the device list itself, as CSV or JSON.",
    )


def _other_shape() -> Refused:
    return Refused(
        Code.NOT_A_MANIFEST,
        "The XML is not a report of OA3Tool. Send <Key> elements with a <ProductKeyID> or a <HardwareHash> each, or "
        "the device list as CSV or JSON.",
    )
