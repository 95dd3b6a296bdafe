"""Which column holds what: by its name, or in a file without names by what stands in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from operator import itemgetter

from shared.manifest.checks import are_plain
from shared.manifest.columns import field_of, fields_in
from shared.manifest.device import FIELDS, Device, PlainRows, Row
from shared.manifest.findings import Code, Finding, Refused, in_words, quote, shortened
from shared.manifest.values import is_placeholder, is_product_id

_COLUMNS = {**FIELDS, "group_tag": "Group Tag", "customer_id": "Customer ID"}
_NAMING = {"serial_number", "product_key", "hardware_hash"}
# None of these can hold a comma. In the others one may stand unquoted, and then it shifts what follows.
_WITHOUT_SEPARATORS = {*_NAMING, "customer_id"}
_LONGEST_NAME = 64
_MOST_COLUMNS = 1_000
_MOST_BEYOND = 20  # kept of a row
_HASH = re.compile(r"T0[E-H][A-Za-z0-9+/]{20,}={0,2}")  # "OA" in Base64
_SERIAL = re.compile(r"(?=.*\d)\S{4,40}")

# Guesses: the orders that are sent without a header (`reference/manifests.md`, variant 8).
_COLLECTED = ("serial_number", "product_key", "hardware_hash", "group_tag")
_TUPLE = ("manufacturer", "model", "serial_number")
_MOSTLY = 0.8


def count_known(names: Sequence[str]) -> int:
    """How many of these are names of columns that we know."""
    return sum(1 for name in names if len(name) <= _LONGEST_NAME and field_of(name))


class Header:
    """`fields` are the columns' in their order, None for one that means nothing to us."""

    def __init__(self, fields: Sequence[str | None], names: Sequence[str], findings: tuple[Finding, ...]) -> None:
        self.findings = findings
        self._names = [name.casefold() for name in names]
        self._fields = fields
        self._width = width = len(fields)
        # A spreadsheet makes all rows as long as the longest, so that nameless columns may stand behind the others.
        self._named = named = max((n for n, name in enumerate(names, 1) if name), default=width)
        places = {field: place for place, field in enumerate(fields) if field}
        # What no column holds is found behind the last one, where each row gets an empty value.
        self._devices = itemgetter(*(places.get(field, width) for field in Device._fields))
        self._tag, self._customer = places.get("group_tag", width), places.get("customer_id", width)
        free = [place for place, field in enumerate(fields[:named]) if field not in _WITHOUT_SEPARATORS]
        self._may_shift = bool(free)
        self._told_of_values_beyond = False
        self._tag_may_be_shifted = self._tag < width and free[0] < self._tag

    @classmethod
    def of(cls, names: Sequence[str], number: int) -> Header:
        """From the names in line `number`. Raises Refused where they name nothing, or a thing twice."""
        if len(names) > _MOST_COLUMNS:
            raise Refused(Code.UNKNOWN_COLUMNS, f"There are more than {_MOST_COLUMNS} columns.", number)
        fields = [field_of(name) for name in names]
        if not set(fields) & FIELDS.keys():
            raise _nothing_known(names, number)
        for field in [f for f, count in Counter(fields).items() if f and count > 1]:
            twice = [quote(n) for n, f in zip(names, fields, strict=True) if f == field][:8]
            message = f"The columns {in_words(twice)} mean the same thing. Keep one of them."
            raise Refused(Code.UNKNOWN_COLUMNS, message, number)
        return cls(fields, names, tuple(_unused(names, fields, number)))

    @classmethod
    def guessed(cls, rows: Sequence[Sequence[str]], number: int) -> Header:
        """From the first rows of a file that begins without names. Raises Refused where they tell nothing."""
        fields = _guess([[value.strip() for value in row] for row in rows])
        if not fields or not any(map(str.isdigit, "".join(rows[0]))):  # names, in words or in a language we do not know
            raise _nothing_known([value.strip() for value in rows[0]], number)
        columns = in_words([_COLUMNS[field] for field in fields])
        message = (
            f"There is no header line. The columns were taken as {columns}. Name them in the first line, to be sure."
        )
        return cls(fields, (), (Finding(Code.GUESSED_COLUMNS, message, number),))

    def is_again_in(self, values: Sequence[str]) -> bool:
        """Whether a row names columns, as where files were joined."""
        if max(map(len, values)) > _LONGEST_NAME or not (fields := fields_in(values)):
            return False
        are_names = (
            (len(fields) > 1 and fields & _NAMING)
            or [*map(str.casefold, values)] == self._names
            or any(f in _NAMING and f == field_of(value) for f, value in zip(self._fields, values, strict=False))
        )
        return bool(are_names) and not any(map(is_placeholder, filter(None, values)))

    def row(self, number: int, values: list[str]) -> Row:
        """The row of these values; those beyond the last column are a fault where they may have been shifted there."""
        width = self._width
        nameless = filter(None, values[self._named : width])
        beyond = (*nameless, *(v for v in values[width:] if v or self._tag_may_be_shifted))[:_MOST_BEYOND]
        findings = tuple(self._of_values_beyond(number, len(values), beyond[0])) if beyond else ()
        values = values[:width] + [""] * (width + 1 - min(len(values), width))
        device = Device._make(self._devices(values))
        return Row(number, device, values[self._tag], values[self._customer], findings, beyond if findings else ())

    def plain_rows(self, first: int, rows: Sequence[Sequence[str]]) -> PlainRows | None:
        """All of them at once, where each has every column and there is nothing to say of it."""
        if set(map(len, rows)) != {self._width}:
            return None
        columns = [*zip(*rows, strict=True), ("",) * len(rows)]
        if any(map(any, columns[self._named :])):
            return None
        stripped = [[*map(str.strip, column)] for column in self._devices(columns)]
        if not are_plain(stripped):
            return None
        tags, customers = (tuple(map(str.strip, columns[place])) for place in (self._tag, self._customer))
        return PlainRows(first, stripped, tags, customers)

    def _of_values_beyond(self, number: int, count: int, beyond: str) -> Iterator[Finding]:
        if self._may_shift:
            message = (
                f"The row has {count} fields and the header {self._named}, and {quote(beyond)} stands beyond the last "
                "column. Put values that hold a separator in quotation marks."
            )
            yield Finding(Code.RAGGED_ROW, message, number)
        elif not self._told_of_values_beyond:
            self._told_of_values_beyond = True
            message = "Values beyond the last column that has a name were not used, here and in rows below."
            yield Finding(Code.IGNORED_COLUMN, message, number)


def _unused(names: Sequence[str], fields: Sequence[str | None], number: int) -> Iterator[Finding]:
    for name, field in zip(names, fields, strict=True):
        if name and field is None:
            yield Finding(Code.IGNORED_COLUMN, f"The column {quote(name)} was not used.", number, shortened(name))


def _nothing_known(names: Sequence[str], number: int) -> Refused:
    return Refused(
        Code.UNKNOWN_COLUMNS,
        f"None of the columns {in_words([quote(n) for n in names[:8]])} is one we know. The first line must name them: "
        f"{in_words(list(FIELDS.values()))}.",
        number,
    )


def _guess(rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The fields of the columns, none where what they hold does not tell."""
    columns = list(zip_longest(*rows, fillvalue=""))
    while columns and not any(columns[-1]):
        columns.pop()
    if len(columns) == len(_TUPLE) and all(map(all, columns)) and _are_makers(columns[0]) and _are_serials(columns[2]):
        return _TUPLE
    if 1 < len(columns) <= len(_COLLECTED):
        keys, hashes = columns[1], columns[2] if len(columns) > 2 else ()
        if any((*keys, *hashes)) and _mostly(is_product_id, keys) and _mostly(_HASH.fullmatch, hashes):
            return _COLLECTED[: max(len(columns), 3)]
    return ()


def _are_makers(values: Sequence[str]) -> bool:
    return not any(c.isdigit() for value in values for c in value)


def _are_serials(values: Sequence[str]) -> bool:
    return len(set(values)) == len(values) and _mostly(_SERIAL.fullmatch, values)


def _mostly(is_so: Callable[[str], object], values: Sequence[str]) -> bool:
    """Of those that are given; a bad row among the first must not hide what the column is."""
    given = [value for value in values if value]
    return sum(1 for value in given if is_so(value)) >= _MOSTLY * len(given)
