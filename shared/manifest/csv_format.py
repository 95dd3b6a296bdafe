"""Manifests as separated values: what the collector, Partner Center's template, Intune, PowerShell and Excel write.

Lines come in blocks. A block of which nothing needs saying goes on as it is, column by column; else row by row.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO

from shared.manifest.device import Device, PlainRows, Row
from shared.manifest.findings import Code, Finding, Refused
from shared.manifest.header import Header, count_known
from shared.manifest.lines import LONGEST_LINE, Lines

_SEPARATORS = ",;\t|"
_FOOTER = "sample explained"  # Partner Center's template ends in a section that explains it
_SEPARATOR_IS = "sep="  # Excel's first line
_TYPE_IS = "#type "  # that of PowerShell's Export-Csv
_MOST_LEFT_OUT = 10_000  # rows that name columns, or explain
_LOOKED_AT = 50  # rows, to tell what the columns of a file without header hold


def read_csv(text: TextIO) -> Iterator[Row | PlainRows | Finding]:
    """Rows of a CSV, each numbered as the line a text editor shows.

    Raises Refused where the file as a whole is not such a thing.
    """
    reader = _Reader(Lines(text))
    yield from reader.header()
    yield from reader.rows()


class _Reader:
    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._separator = ""
        self._header: Header
        self._in_footer = False
        self._rows_left_out = 0

    def header(self) -> Iterator[Finding]:
        """Take the line that names the columns, or find out what they hold where there is none."""
        line = self._first_line()
        self._separator = self._separator or max(
            _SEPARATORS, key=lambda s: (count_known(_names(line, s)), line.count(s))
        )
        self._is_well_quoted = _well_quoted(self._separator)
        number = self._lines.number + 1
        if count_known(_names(line, self._separator)) or line.count('"') % 2:
            names = [name.strip() for name in self._record(next(self._lines))]
            if any("\n" in name and {'"', self._separator} & {*name} for name in names):
                message = (
                    f"A quotation mark opens in row {number}, and rows seem to stand behind it. Remove or close it."
                )
                raise Refused(Code.UNKNOWN_COLUMNS, message, number)
            self._header = Header.of(names, self._lines.number)
        else:
            some = [_names(line, self._separator) for line in self._lines.block()[:_LOOKED_AT] if line.strip()]
            self._header = Header.guessed(some, number)
        yield from self._header.findings

    def _first_line(self) -> str:
        """The first that holds values or names, not yet taken."""
        while block := self._lines.block():
            for before, line in enumerate(block):
                start = line.strip().strip('"').casefold()
                if start.startswith(_SEPARATOR_IS):
                    named = start[len(_SEPARATOR_IS) :][:1]
                    self._separator = named if named in _SEPARATORS else ""
                elif start.strip(f' "{_SEPARATORS}') and not start.startswith(_TYPE_IS):
                    self._lines.skip(before)
                    return line
            self._lines.skip(len(block))
        raise Refused(Code.EMPTY_MANIFEST, "The file holds nothing but blank lines.")

    def rows(self) -> Iterator[Row | PlainRows | Finding]:
        while block := self._lines.block():
            if plain := self._plain(block):
                self._lines.skip(len(block))
                yield plain
            else:
                yield from self._one_by_one(self._lines.number + len(block))

    def _plain(self, block: list[str]) -> PlainRows | None:
        if self._in_footer:
            return None
        if any('"' in line for line in block):
            rows = [values for line in block if (values := _split(line, self._separator))]
        else:
            rows = [line.split(self._separator) for line in block]
        return self._header.plain_rows(self._lines.number + 1, rows) if len(rows) == len(block) else None

    def _one_by_one(self, end: int) -> Iterator[Row | Finding]:
        while self._lines.number < end:
            line = next(self._lines)
            number = self._lines.number
            values = [*map(str.strip, self._record(line))]
            if not any(values):
                continue
            if number < self._lines.number:
                yield from _swallowed(self._header.row(number, values), self._lines.number)
            elif said := [*self._left_out(number, values)]:
                self._count_left_out(number)
                yield from said
            else:
                row = self._header.row(number, values)
                yield row if '"' not in line or self._is_well_quoted(line) else _misquoted(row, line)

    def _left_out(self, number: int, values: list[str]) -> Iterator[Finding]:
        """What is to be said of a row that is no device; nothing of one that is."""
        start = values[0][: len(_FOOTER)].casefold()
        if self._header.is_again_in(values):
            yield Finding(Code.IGNORED_ROW, "The row names the columns once more and is no device.", number)
            self._in_footer = False
            self._header = Header.of(values, number)
            yield from self._header.findings
        elif self._in_footer or start == _FOOTER:
            self._in_footer = True
            message = "The row belongs to the template's explanation and was left out."
            yield Finding(Code.IGNORED_ROW, message, number)
        elif start.startswith((_SEPARATOR_IS, _TYPE_IS)) and not any(values[1:]):
            yield Finding(Code.IGNORED_ROW, "The row says how the file was written and is no device.", number)

    def _count_left_out(self, number: int) -> None:
        self._rows_left_out += 1
        if self._rows_left_out > _MOST_LEFT_OUT:
            message = (
                f"More than {_MOST_LEFT_OUT:,} rows hold no device. Remove them, and the explanation below the list."
            )
            raise Refused(Code.NOT_A_MANIFEST, message, number)

    def _record(self, line: str) -> list[str]:
        """The values of the line just taken, and of the next ones where a value in quotation marks goes on."""
        return _split(line, self._separator) or next(_quoted(self._from(line), self._separator))

    def _from(self, line: str) -> Iterator[str]:
        first, length = self._lines.number, len(line)
        yield f"{line}\n"
        for more in self._lines:
            length += 1 + len(more)
            if length > LONGEST_LINE:
                message = f"A quotation mark opens in the row, and {LONGEST_LINE:,} characters later it is still open."
                raise Refused(Code.NOT_A_MANIFEST, f"{message} Remove it, or close it in the same row.", first)
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
    return [value.strip() for value in _split(line, separator) or next(_quoted([line], separator))]


def _quoted(lines: Iterable[str], separator: str) -> Iterator[list[str]]:
    return csv.reader(lines, delimiter=separator, skipinitialspace=True)


def _well_quoted(separator: str) -> Callable[[str], object]:
    """Whether each quotation mark of a line stands around a value, or doubled in one that has them around it."""
    end = re.escape(separator)
    value = rf' *+(?:"(?:[^"]|"")*+"[^\S{end}]*+|(?!")[^{end}]*+)'
    return re.compile(f"(?:{value}{end})*+{value}").fullmatch


def _misquoted(row: Row, line: str) -> Row:
    message = (
        "A quotation mark stands within a value that has them around it, or does not close. Double it there, as in "
        '"14"" screen".'
    )
    fault = Finding(Code.RAGGED_ROW, message, row.number)
    return row._replace(findings=(*row.findings, fault), beyond=row.beyond or (line,))


def _swallowed(row: Row, last: int) -> Iterator[Row]:
    """Lines between quotation marks, each a bad row: no value of ours spans lines, and devices may be among them."""
    first = row.number
    for number in range(first, last + 1):
        message = f"A quotation mark opens in row {first} and does not close there, so rows {first} to {last} are one. "
        fault = Finding(Code.RAGGED_ROW, message + "Remove it, or close it in the same row.", number)
        yield (
            row._replace(findings=(fault,), beyond=row.beyond or ("",))
            if number == first
            else Row(number, Device(), findings=(fault,))
        )
