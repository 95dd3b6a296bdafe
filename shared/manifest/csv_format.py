"""Manifests as separated values: what the collector, Partner Center's template, Intune, PowerShell and Excel write.

Lines come in blocks. A block of which nothing needs saying goes on as it is, column by column; else row by row.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import TextIO

from shared.manifest.device import Device, PlainRows, Row
from shared.manifest.findings import Code, Finding, Refused
from shared.manifest.header import Header, count_known
from shared.manifest.lines import Lines

_SEPARATORS = ",;\t|"
_FOOTER = "sample explained"  # Partner Center's template ends in a section that explains it
_SEPARATOR_IS = "sep="  # Excel's first line
_TYPE_IS = "#type"  # that of PowerShell's Export-Csv
_LOOKED_AT = 50  # rows, to tell what the columns of a file without header hold


def read_csv(text: TextIO) -> Iterator[Row | PlainRows | Finding]:
    """Rows of a CSV, each numbered as the line a text editor shows.

    Raises Refused where the file as a whole is not such a thing.
    """
    reader = _Reader(Lines(text))
    try:
        yield from reader.header()
        yield from reader.rows()
    except csv.Error as error:
        number = reader.lines.number
        raise Refused(Code.NOT_A_MANIFEST, f"The line cannot be read as CSV: {error}.", number) from error


class _Reader:
    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        self._separator = ""
        self._header: Header
        self._in_footer = False

    def header(self) -> Iterator[Finding]:
        """Take the line that names the columns, or find out what they hold where there is none."""
        line = self._first_line()
        self._separator = self._separator or max(
            _SEPARATORS, key=lambda s: (count_known(_names(line, s)), line.count(s))
        )
        number = self.lines.number + 1
        if count_known(_names(line, self._separator)) or line.count('"') % 2:
            self._header = Header.of([name.strip() for name in self._record()], self.lines.number)
        else:
            some = [_names(line, self._separator) for line in self.lines.block()[:_LOOKED_AT] if line.strip()]
            self._header = Header.guessed(some, number)
        yield from self._header.findings

    def _first_line(self) -> str:
        """The first that holds values or names, not yet taken."""
        while block := self.lines.block():
            for before, line in enumerate(block):
                start = line.strip().casefold()
                if start.startswith(_SEPARATOR_IS):
                    self._separator = line.strip()[len(_SEPARATOR_IS) :][:1]
                elif start and not start.startswith(_TYPE_IS):
                    self.lines.skip(before)
                    return line
            self.lines.skip(len(block))
        raise Refused(Code.EMPTY_MANIFEST, "The file holds nothing but blank lines.")

    def rows(self) -> Iterator[Row | PlainRows | Finding]:
        while block := self.lines.block():
            if plain := self._plain(block):
                self.lines.skip(len(block))
                yield plain
            else:
                yield from self._one_by_one(self.lines.number + len(block))

    def _plain(self, block: list[str]) -> PlainRows | None:
        if self._in_footer:
            return None
        if any('"' in line for line in block):
            rows = [values for line in block if (values := _split(line, self._separator))]
        else:
            rows = [line.split(self._separator) for line in block]
        return self._header.plain_rows(self.lines.number + 1, rows) if len(rows) == len(block) else None

    def _one_by_one(self, end: int) -> Iterator[Row | Finding]:
        while self.lines.number < end:
            number = self.lines.number + 1
            values = [*map(str.strip, self._record())]
            if not any(values):
                continue
            if why := self._why_left_out(number, values):
                yield Finding(Code.IGNORED_ROW, why, number)
            elif number < self.lines.number:
                yield from _swallowed(self._header.row(number, values), self.lines.number)
            else:
                yield self._header.row(number, values)

    def _why_left_out(self, number: int, values: list[str]) -> str:
        if self._in_footer or values[0][: len(_FOOTER)].casefold() == _FOOTER:
            self._in_footer = True
            return "The row belongs to the template's explanation and was left out."
        if self._header.is_again_in(values):
            self._header = Header.of(values, number)
            return "The row names the columns once more and is no device."
        return ""

    def _record(self) -> list[str]:
        """The values of the next line, or lines where a value in quotation marks goes on."""
        line = next(self.lines)
        return _split(line, self._separator) or next(csv.reader(self._from(line), delimiter=self._separator))

    def _from(self, line: str) -> Iterator[str]:
        yield f"{line}\n"
        for more in self.lines:
            yield f"{more}\n"


def _split(line: str, separator: str) -> list[str] | None:
    """The values of a line that is simple enough: without quotation marks, or each value in a pair of them."""
    if '"' not in line:
        return line.split(separator)
    if line[0] == line[-1] == '"':
        values = line[1:-1].split(f'"{separator}"')
        if line.count('"') == 2 * len(values):
            return values
    return None


def _names(line: str, separator: str) -> list[str]:
    return [value.strip() for value in _split(line, separator) or next(csv.reader([line], delimiter=separator))]


def _swallowed(row: Row, last: int) -> Iterator[Row]:
    """Lines between quotation marks, each a bad row: no value of ours spans lines, and devices may be among them."""
    first = row.number
    for number in range(first, last + 1):
        message = f"A quotation mark opens in row {first} and does not close there, so rows {first} to {last} are one. "
        fault = Finding(Code.RAGGED_ROW, message + "Remove it, or close it in the same row.", number)
        yield row._replace(findings=(fault,)) if number == first else Row(number, Device(), findings=(fault,))
