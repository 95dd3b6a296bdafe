"""Manifests as separated values with a header: what the collector, Partner Center's template and Intune write."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TextIO

from shared.manifest.columns import field_of
from shared.manifest.device import FIELDS, Device, Row
from shared.manifest.findings import Code, Finding, Refused, in_words, quote, shortened

LONGEST_LINE = 131_072  # also the csv module's own bound for one field
_FOOTER = "sample explained"  # Partner Center's template ends in a section that explains it


def read_csv(text: TextIO) -> Iterator[Row | Finding]:
    """Rows of a CSV with header, each numbered as the line a text editor shows.

    Raises Refused where the file as a whole is not such a thing.
    """
    lines = _Lines(text)
    header_line = lines.first_with_content()
    separator = max(",;\t", key=header_line.count)
    records = csv.reader(_chain(header_line, lines), delimiter=separator)
    try:
        header = _Header.of(next(records), number=lines.number)
        yield from header.findings
        yield from _rows(records, header, lines)
    except csv.Error as error:
        raise Refused(Code.NOT_A_MANIFEST, f"The line cannot be read as CSV: {error}.", lines.number) from error


def _rows(records: Iterator[list[str]], header: _Header, lines: _Lines) -> Iterator[Row | Finding]:
    number = lines.number + 1
    in_footer = False
    for record in records:
        values = [value.strip() for value in record]
        if any(values):
            in_footer = in_footer or values[0].casefold().startswith(_FOOTER)
            if in_footer:
                message = "The row belongs to the template's explanation and was left out."
                yield Finding(Code.IGNORED_ROW, message, number)
            elif header.is_repeated_in(values):
                yield Finding(Code.IGNORED_ROW, "The row repeats the header and was left out.", number)
            elif number < lines.number:
                yield from _swallowed(header.row(number, values), lines.number)
            else:
                yield header.row(number, values)
        number = lines.number + 1


def _swallowed(row: Row, last: int) -> Iterator[Row]:
    """Lines between quotation marks, each a bad row: no value of ours spans lines, and devices may be among them."""
    first = row.number
    for number in range(first, last + 1):
        message = f"A quotation mark opens in row {first} and does not close there, so rows {first} to {last} are one. "
        fault = Finding(Code.RAGGED_ROW, message + "Remove it, or close it in the same row.", number)
        yield replace(row, findings=(fault,)) if number == first else Row(number, Device(), findings=(fault,))


@dataclass(frozen=True, slots=True)
class _Header:
    fields: tuple[str | None, ...]
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, names: list[str], number: int) -> _Header:
        names = [name.strip() for name in names]
        fields = tuple(field_of(name) for name in names)
        if not set(fields) & FIELDS.keys():
            raise Refused(
                Code.UNKNOWN_COLUMNS,
                f"None of the columns {in_words([quote(n) for n in names[:8]])} is one we know. The first line must "
                f"name them: {in_words(list(FIELDS.values()))}.",
                number,
            )
        for field in [f for f, count in Counter(fields).items() if f and count > 1]:
            twice = [quote(n) for n, f in zip(names, fields, strict=True) if f == field][:8]
            raise Refused(
                Code.UNKNOWN_COLUMNS,
                f"The columns {in_words(twice)} mean the same thing. Keep one of them.",
                number,
            )
        ignored = tuple(
            Finding(Code.IGNORED_COLUMN, f"The column {quote(name)} was not used.", number, shortened(name))
            for name, field in zip(names, fields, strict=True)
            if name and field is None
        )
        return cls(fields, ignored)

    def is_repeated_in(self, values: list[str]) -> bool:
        """Whether a row is the header again, as where files were joined."""
        named = [(field_of(value), field) for value, field in zip(values, self.fields, strict=False) if value and field]
        return bool(named) and all(said == meant for said, meant in named)

    def row(self, number: int, values: list[str]) -> Row:
        known = {f: v for f, v in zip(self.fields, values, strict=False) if f}
        group_tag, customer_id = known.pop("group_tag", ""), known.pop("customer_id", "")
        beyond = [value for value in values[len(self.fields) :] if value or "group_tag" in self.fields]
        findings: tuple[Finding, ...] = ()
        if beyond:
            message = (
                f"The row has {len(values)} fields and the header {len(self.fields)}, and {quote(beyond[0])} stands "
                "beyond the last column. Put values that hold a separator in quotation marks."
            )
            findings = (Finding(Code.RAGGED_ROW, message, number),)
        return Row(number, Device(**known), group_tag, customer_id, findings)


class _Lines:
    """The lines of a text, counted, none longer than it may be."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(LONGEST_LINE + 1)
        if not line or line.strip("\r\n") == "\x1a":
            raise StopIteration
        self.number += 1
        if len(line) > LONGEST_LINE:
            raise Refused(Code.NOT_A_MANIFEST, f"The line is longer than {LONGEST_LINE:,} characters.", self.number)
        if "\0" in line:
            raise Refused(Code.UNREADABLE_TEXT, "The line holds zero bytes: this is no text file.", self.number)
        return line

    def first_with_content(self) -> str:
        for line in self:
            if line.strip():
                return line
        raise Refused(Code.EMPTY_MANIFEST, "The file holds nothing but blank lines.")


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest
